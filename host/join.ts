// How a host gets into a cluster: it shows the join key, its id, address and version to the hosts it was told about, and
// any of them may turn it away (contract host.md 6.4; docs/wiring.md "Keys"). Both sides are here: the question that
// daemon.ts asks at its start, and the answer that api.ts gives.
import { Type } from 'typebox'
import { sleep } from '../pkg/clock/clock.ts'
import { errorTable, FlynnError, isFlynnError } from '../pkg/errors/errors.ts'
import type { Server } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import { HostClient } from './client.ts'
import type { HostRecord, Hosts } from './hosts.ts'
import { nonceLength, proofOf } from './proof.core.ts'
import { removalErrors } from './removal.ts'
import { hostApiPort, type JoinAnswer, JoinRequest } from './types.ts'

/** A host that does not answer by then is taken to be off; the others are asked at the same time. */
export const joinTimeoutMs = 5_000
/** For the question whether a host still is where it was. */
const formerAddressTimeoutMs = 2_000
export const askAgainMs = 5_000

export const joinErrors = errorTable({
  NO_JOIN_KEY: {
    status: 401,
    message: 'a join key is needed to join the cluster of {peers}',
    remedy: 'on a host of the cluster `flynn-host init` prints the line with the key to run here',
  },
  WRONG_KEY: {
    status: 401,
    message: 'host {peer} turned this host away: its join key is another one',
    remedy: 'on a host of the cluster `flynn-host init` prints the line with the right key',
  },
  NOT_PROVED: {
    status: 503,
    message: 'host {wrong} behind the discovery token has another join key, and {silent} does not answer',
    remedy:
      'start the hosts of the cluster; `flynn-host init` on one of them prints the line with the right key',
  },
  VERSION: {
    code: 'version_mismatch',
    status: 409,
    message: 'host {host} of the cluster runs Flynn {wanted} and this host {found}',
    remedy: 'install the same version on both',
  },
  ID_TAKEN: {
    code: 'host_id_taken',
    status: 409,
    message: 'the cluster has a host {id} already, at {address}',
    remedy: 'give this host another name with --id',
  },
})

export type JoinApi = {
  readonly server: Server
  readonly hostId: string
  /** This host's own. */
  readonly address: string
  readonly version: string
  readonly hosts: Pick<Hosts, 'get' | 'list' | 'admit' | 'isRemoved' | 'readmit'>
  readonly authKey: string
}

/** Whether the host that has this id still answers where it was: then the newcomer is another machine. */
async function isStillThere(member: HostRecord, authKey: string): Promise<boolean> {
  const client = new HostClient({ url: `http://${member.address}:${hostApiPort}`, authKey })
  try {
    return (await client.status({ retryMs: 0, timeoutMs: formerAddressTimeoutMs })).id === member.id
  } catch {
    // Off, or moved: the id is its own again.
    return false
  }
}

/** `POST /host/join`: needs the key like every request; answers 409 to a host that does not fit. And who there is. */
export function joinRoutes({ server, hostId, address, version, hosts, authKey }: JoinApi): void {
  server.post('/host/join', { schema: { body: JoinRequest } }, async (req): Promise<JoinAnswer> => {
    const wanted = req.body as JoinRequest
    if (hosts.isRemoved(wanted.id)) {
      if (wanted.member) throw removalErrors.REMOVED({ id: wanted.id, since: '' })
      await hosts.readmit(wanted.id)
    }
    const known = hosts.get(wanted.id)
    // A member may be ahead or behind for a while: that is how a cluster is updated, host by host.
    if (!known && wanted.version !== version)
      throw joinErrors.VERSION({ host: hostId, wanted: version, found: wanted.version })
    if (known && known.address !== wanted.address && (await isStillThere(known, authKey)))
      throw joinErrors.ID_TAKEN({ id: wanted.id, address: known.address })
    hosts.admit({ id: wanted.id, address: wanted.address, version: wanted.version })
    return { id: hostId, hosts: hosts.list }
  })
  server.get('/host/hosts', async () => hosts.list)
  const nonce = Type.String({ pattern: `^[0-9a-f]{${nonceLength}}$` })
  server.get('/host/prove/:nonce', { schema: { params: Type.Object({ nonce }) } }, async req => ({
    proof: proofOf(authKey, (req.params as { nonce: string }).nonce, address),
  }))
}

export type AskOptions = {
  readonly peerIps: readonly string[]
  readonly authKey: string
  readonly self: JoinRequest
  readonly log: Logger
}

/** One round: all hosts that the peers know, or undefined when none answered. */
async function ask({ peerIps, authKey, self, log }: AskOptions): Promise<readonly HostRecord[] | undefined> {
  const one = async (peer: string): Promise<readonly HostRecord[] | undefined> => {
    const client = new HostClient({ url: `http://${peer}:${hostApiPort}`, authKey })
    try {
      const answer = await client.join(self, { retryMs: 0, timeoutMs: joinTimeoutMs })
      log.info({ peer, host: answer.id, hosts: answer.hosts.length }, 'let in')
      return answer.hosts
    } catch (e) {
      if (isFlynnError(e, 'unauthorized')) throw joinErrors.WRONG_KEY({ peer }, { cause: e })
      if (e instanceof FlynnError && (e.status === 409 || e.code === 'host_removed')) throw e
      log.debug({ peer, err: e }, 'a peer does not answer')
      return undefined
    }
  }
  const answers = (await Promise.all(peerIps.map(one))).filter(hosts => hosts !== undefined)
  return answers.length === 0 ? undefined : answers.flat()
}

export type EnterOptions = AskOptions & {
  /** A host that has been in the cluster before stays, whatever a peer says: its jobs must not end for it. */
  readonly isMember: boolean
  /** Told who else there is. */
  readonly onHosts: (hosts: readonly HostRecord[]) => void
  /** The daemon must end: a peer that answered only later turned it away. */
  readonly turnedAway: (reason: unknown) => void
  readonly signal: AbortSignal
}

/**
 * Shows this host to every peer. Resolves when one has let it in, or none answers: they may boot later, and are asked on.
 * Rejects WRONG_KEY, VERSION or ID_TAKEN when one of them turns it away.
 */
export async function enterCluster(options: EnterOptions): Promise<void> {
  const { isMember, peerIps, log, signal, turnedAway } = options
  if (peerIps.length === 0) return
  const tolerant = async () => {
    try {
      const hosts = await ask(options)
      if (hosts) options.onHosts(hosts)
      return hosts !== undefined
    } catch (err) {
      if (!isMember || isFlynnError(err, 'host_removed')) throw err
      log.error({ err }, 'a host of the cluster turned this member away')
      return true
    }
  }
  if (await tolerant()) return
  log.info({ peerIps }, 'no peer answers, asking on')
  const keepAsking = async () => {
    for (;;) {
      await sleep(askAgainMs, signal)
      if (await tolerant()) return
    }
  }
  keepAsking().catch((err: unknown) => {
    if (!signal.aborted) turnedAway(err)
  })
}
