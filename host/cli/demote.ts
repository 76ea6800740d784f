// `flynn-host demote`: a consensus peer becomes a proxy, or is taken out when it is dead (contract host.md 1.6).
import { PeerAdmin, peerUrl } from '../../discoverd/client.ts'
import { describeError, errorTable, isFlynnError } from '../../pkg/errors/errors.ts'
import { type Command, type Context, on } from './command.ts'
import { cliErrors } from './hosts.ts'
import { anotherPeer, followPeers } from './peers.ts'

const errors = errorTable({
  PEER_UNREACHABLE: {
    status: 503,
    message: 'discoverd at {url} cannot be asked: {reason}',
    remedy: 'if that host is gone for good, remove it with: flynn-host demote --force {addr}',
  },
})

async function demote(admin: PeerAdmin): Promise<void> {
  await admin.ping()
  await admin.demote()
}

/** What force must not overrule. */
function isFinal(e: unknown): boolean {
  return isFlynnError(e, 'unauthorized') || isFlynnError(e, 'last_peer')
}

async function forceOut(context: Context, addr: string, url: string): Promise<PeerAdmin> {
  const other = await anotherPeer(context, url)
  await other.remove(addr)
  context.stderr.write(`Forcefully removed peer ${url}\n`)
  return other
}

/** Makes the host a proxy, by way of the others when `force` is given and it does not answer; answers who to ask next. */
export async function demotePeer(
  context: Context,
  addr: string,
  { force }: { readonly force: boolean },
): Promise<PeerAdmin> {
  const authKey = context.authKey()
  if (authKey === undefined) throw cliErrors.NO_KEY()
  const admin = new PeerAdmin({ addr, authKey })
  try {
    await demote(admin)
    return admin
  } catch (e) {
    if (isFinal(e)) throw e
    if (!force)
      throw isFlynnError(e, 'demote_failed')
        ? e
        : errors.PEER_UNREACHABLE({ url: admin.url, addr, reason: describeError(e) }, { cause: e })
    context.stderr.write(`${admin.url} does not leave by itself: ${describeError(e)}\n`)
    return forceOut(context, addr, admin.url)
  }
}

export const demoteCommand: Command = {
  name: 'demote',
  summary: 'Make a consensus peer a proxy',
  usage: `usage: flynn-host demote [-f|--force] ADDR

Make the consensus peer with this address a proxy. It hands leadership over first. The discoverd release is
brought up to date. The last peer is never removed.

Options:
  -f, --force  take the peer out by way of the others when it does not answer

Examples:
  flynn-host demote 192.0.2.13
  flynn-host demote --force 192.0.2.13
`,
  options: { force: { type: 'boolean', short: 'f' } },
  positionals: { min: 1, max: 1 },
  async run({ flags, rest }, context) {
    const addr = rest[0] ?? ''
    const via = await demotePeer(context, addr, { force: on(flags, 'force') })
    context.stderr.write(`Demoted peer ${peerUrl(addr)}\n`)
    await followPeers(context, via)
    return 0
  },
}
