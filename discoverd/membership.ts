// Changes of who votes (contract discoverd.md 10, host.md 1.6): a proxy becomes a peer as a learner first and a voter once
// it has everything; a peer hands leadership over before it leaves. etcd refuses changes for five seconds after another
// one, so each waits and tries again. One change at a time on this daemon; across daemons etcd itself sees to it.
import { sleep } from '../pkg/clock/clock.ts'
import { isFlynnError } from '../pkg/errors/errors.ts'
import type { EtcdClient, EtcdMember } from '../pkg/etcd/client.ts'
import { handOver } from '../pkg/etcd/hand-over.ts'
import type { Logger } from '../pkg/log/log.ts'
import { errors } from './errors.ts'
import { initialCluster, peerUrl } from './member.core.ts'
import type { Member } from './member.ts'
import type { Peers } from './peers.ts'

/** For one whole promotion or demotion. */
export const changeTimeoutMs = 60_000
export const changePauseMs = 100
const listTimeoutMs = 2_000
/** A majority that does not answer a read for so long is taken to be gone. */
export const majorityTimeoutMs = 5_000
/** Read to see whether there is a majority; it need not exist. */
const anyKey = '/discoverd/service/discoverd'

/** What etcd says while another change, or a member that is not well, forbids this one for now. */
const forNow = /unhealthy cluster|too many learner|re-config|in sync with leader/

export type MembershipOptions = {
  readonly host: string
  readonly etcd: EtcdClient
  readonly member: Member
  readonly peers: Peers
  /** Revision of the state here, as the original's log index. */
  readonly revision: () => number
  readonly log: Logger
}

export class Membership {
  readonly #o: MembershipOptions
  #turn: Promise<unknown> = Promise.resolve()

  constructor(options: MembershipOptions) {
    this.#o = options
  }

  /** This host becomes a voting peer. Nothing to do on one. Rejects PROMOTE_FAILED, and undoes what it began then. */
  promote(): Promise<void> {
    return this.#inTurn(() => this.#promote())
  }

  /** This host becomes a proxy. Nothing to do on one. Rejects LAST_PEER or DEMOTE_FAILED. */
  demote(): Promise<void> {
    return this.#inTurn(() => this.#demote())
  }

  /** Makes room for a peer at an address, as the original's leader does when asked; a known one is fine. */
  add(host: string): Promise<number> {
    return this.#inTurn(async () => {
      await this.#ensureLearner(host)
      return this.#o.revision()
    })
  }

  /** Removes a peer, dead or alive; an unknown one is fine. Rejects LAST_PEER or DEMOTE_FAILED. */
  remove(host: string): Promise<void> {
    return this.#inTurn(async () => {
      if (host === this.#o.host) return this.#demote()
      const member = await this.#find(host)
      if (member) await this.#removeMember(member)
    })
  }

  /**
   * Goes on with this host as the only peer, after the others are gone for good. Rejects HAS_MAJORITY while they are not,
   * NOTHING_TO_RECOVER_FROM on a proxy, RECOVER_FAILED.
   */
  recover(): Promise<void> {
    return this.#inTurn(() => this.#recover())
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#turn.then(change)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  #members(): Promise<readonly EtcdMember[]> {
    return this.#o.etcd.members({ timeoutMs: listTimeoutMs })
  }

  async #find(host: string): Promise<EtcdMember | undefined> {
    const url = peerUrl(host)
    return (await this.#members()).find(m => m.peerUrls.includes(url))
  }

  /** Tries a change until etcd allows it or the time is over. */
  async #whenAllowed<T>(what: string, change: () => Promise<T>): Promise<T> {
    const end = Date.now() + changeTimeoutMs
    let told = ''
    for (;;) {
      try {
        return await change()
      } catch (e) {
        const reason = e instanceof Error ? e.message : String(e)
        const passing = isFlynnError(e, 'etcd_unavailable') || forNow.test(reason)
        if (!passing || Date.now() >= end) throw e
        if (reason !== told) this.#o.log.info({ what, reason }, 'waiting for the members to agree')
        told = reason
        await sleep(changePauseMs)
      }
    }
  }

  /** The member at that address, added as a learner when there is none; one that lost its data is replaced. */
  async #ensureLearner(host: string): Promise<EtcdMember> {
    const url = peerUrl(host)
    return this.#whenAllowed(`adding ${url}`, async () => {
      const known = await this.#find(host)
      return known ?? (await this.#o.etcd.addMember(url, { learner: true }))
    })
  }

  /** This host's member as the cluster knows it: by name, for its address may be about to change. */
  async #self(): Promise<EtcdMember | undefined> {
    const { host, member } = this.#o
    return (await this.#members()).find(m => m.name === member.name) ?? this.#find(host)
  }

  async #promote(): Promise<void> {
    const { host, member, peers, log } = this.#o
    const known = await this.#self()
    const runs = member.plan.kind !== 'proxy'
    if (runs && known && !known.isLearner) return
    // Its data are not here: it must not vote as if it remembered what it had acknowledged.
    if (!runs && known && known.clientUrls.length > 0) await this.#removeMember(known)
    const added = runs && known ? known : await this.#ensureLearner(host)
    try {
      if (!runs || !known) {
        const urls = (await this.#members()).flatMap(m => m.peerUrls.slice(0, 1))
        await member.join(initialCluster(member.name, peerUrl(host), urls))
      }
      await this.#untilVoter(added)
      await peers.refresh()
      log.info({ id: added.id }, 'this host is a peer now')
    } catch (cause) {
      log.error({ err: cause }, 'promotion failed, undoing it')
      await this.#undo(added)
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw errors.PROMOTE_FAILED({ reason }, { cause })
    }
  }

  async #untilVoter(learner: EtcdMember): Promise<void> {
    await this.#whenAllowed('promoting the learner', async () => {
      const now = (await this.#members()).find(m => m.id === learner.id)
      if (now && !now.isLearner) return
      await this.#o.etcd.promoteMember(learner.id)
    })
  }

  async #undo(added: EtcdMember): Promise<void> {
    const { etcd, member, log } = this.#o
    try {
      const self = (await this.#members()).find(m => m.id === added.id)
      if (self?.isLearner) await this.#whenAllowed('removing the learner', () => etcd.removeMember(added.id))
      if (self === undefined || self.isLearner) await member.leave()
    } catch (err) {
      log.error({ err, id: added.id }, 'the learner is still there; demote this host to remove it')
    }
  }

  async #demote(): Promise<void> {
    const { host, etcd, member, peers, log } = this.#o
    const self = await this.#self()
    if (self) await this.#removeMember(self)
    if (member.plan.kind === 'proxy') return
    // The client must not wait for a member that is about to end.
    const others = etcd.endpoints.filter(e => e !== `${host}:2379`)
    if (others.length > 0) etcd.setEndpoints(others)
    await member.leave()
    await peers.refresh().catch(err => log.debug({ err }, 'etcd members unknown for now'))
    log.info('this host is a proxy now')
  }

  async #recover(): Promise<void> {
    const { host, etcd, member, peers, log } = this.#o
    const agreed = await etcd.get(anyKey, { timeoutMs: majorityTimeoutMs }).then(
      () => true,
      () => false,
    )
    if (agreed) throw errors.HAS_MAJORITY()
    log.warn({ host }, 'starting the consensus anew with this host alone')
    try {
      await member.recover()
      // The client may still be busy with the members that are gone.
      await this.#whenAllowed('reading the new members', () => peers.refresh())
    } catch (cause) {
      if (isFlynnError(cause, 'nothing_to_recover_from')) throw cause
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw errors.RECOVER_FAILED({ reason }, { cause })
    }
  }

  /** Takes a member out, after it has given leadership away. */
  async #removeMember(member: EtcdMember): Promise<void> {
    const { etcd, peers, log } = this.#o
    const voters = (await this.#members()).filter(m => !m.isLearner)
    if (voters.length === 1 && voters[0]?.id === member.id) throw errors.LAST_PEER()
    try {
      await this.#whenAllowed(`removing ${member.name || member.id}`, async () => {
        if (!(await this.#members()).some(m => m.id === member.id)) return
        await this.#giveLeadershipAway(member)
        await etcd.removeMember(member.id)
      })
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw errors.DEMOTE_FAILED({ reason }, { cause })
    }
    log.info({ id: member.id, name: member.name }, 'member removed')
    await peers.refresh().catch(err => log.debug({ err }, 'etcd members unknown for now'))
  }

  /** A leader that is removed leaves the others without one for an election's time; 1.5 s was measured. */
  async #giveLeadershipAway(member: EtcdMember): Promise<void> {
    const url = member.clientUrls[0]
    if (url !== undefined) await handOver(new URL(url).host, this.#o.log)
  }
}
