// `flynn-host list`: the hosts and their part in consensus (contract host.md 1.3).
import { DiscoverdClient } from '../../discoverd/client.ts'
import { table } from '../../pkg/table/table.ts'
import type { Command } from './command.ts'
import { discoverdTimeoutMs } from './hosts.ts'

const discoverdPort = 1111

/** Blank while the peers are not known. */
export function raftStatus(
  ip: string,
  peers: readonly string[] | undefined,
  leader: string | undefined,
): string {
  const peer = `${ip}:${discoverdPort}`
  if (!peers) return ''
  if (!peers.includes(peer)) return 'proxy'
  return peer === leader ? 'peer (leader)' : 'peer'
}

export const listCommand: Command = {
  name: 'list',
  summary: 'List the hosts of the cluster',
  usage: `usage: flynn-host list

List the hosts of the cluster and their part in consensus.

Example:
  flynn-host list
`,
  positionals: { min: 0, max: 0 },
  async run(_args, context) {
    const hosts = await context.hosts()
    const discoverd = new DiscoverdClient({ servers: context.env['DISCOVERD'] ?? '' })
    const options = { timeoutMs: discoverdTimeoutMs }
    // A cluster without quorum still has hosts to list.
    const peers = await discoverd.raftPeers(options).catch(() => undefined)
    const leader = await discoverd.raftLeader(options).catch(() => undefined)
    await discoverd.close()
    const rows = hosts.map(h => [
      h.id,
      h.addr,
      raftStatus(h.addr.slice(0, h.addr.lastIndexOf(':')), peers, leader?.host),
    ])
    context.stdout.write(table([['ID', 'ADDR', 'RAFT STATUS'], ...rows]))
    return 0
  },
}
