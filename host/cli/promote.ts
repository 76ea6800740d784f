// `flynn-host promote`: a proxy becomes a consensus peer (contract host.md 1.6).
import { PeerAdmin } from '../../discoverd/client.ts'
import type { Command } from './command.ts'
import { cliErrors } from './hosts.ts'
import { followPeers } from './peers.ts'

export const promoteCommand: Command = {
  name: 'promote',
  summary: 'Make a host a consensus peer',
  usage: `usage: flynn-host promote ADDR

Make the host with this address a consensus peer. It gets everything from the other peers first and votes
then, so a host that fails on the way changes nothing. The discoverd release is brought up to date.

Example:
  flynn-host promote 192.0.2.13
`,
  positionals: { min: 1, max: 1 },
  async run({ rest }, context) {
    const authKey = context.authKey()
    if (authKey === undefined) throw cliErrors.NO_KEY()
    const admin = new PeerAdmin({ addr: rest[0] ?? '', authKey })
    await admin.promote()
    context.stderr.write(`Promoted peer ${admin.url}\n`)
    await followPeers(context, admin)
    return 0
  },
}
