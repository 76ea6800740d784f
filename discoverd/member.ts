// The etcd member beside a peer's discoverd: a supervised child with its data in <data-dir>/etcd. Started again when it
// dies; a child that outlived a killed discoverd is found by its pid file and ended first, for two must not share data.
import { mkdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { poll, sleep } from '../pkg/clock/clock.ts'
import { EtcdClient, type EtcdMember } from '../pkg/etcd/client.ts'
import { handOver } from '../pkg/etcd/hand-over.ts'
import type { Logger } from '../pkg/log/log.ts'
import { type Supervised, supervise } from '../pkg/proc/supervise.ts'
import { errors } from './errors.ts'
import {
  type ActivePlan,
  etcdArgs,
  type KnownMember,
  type MemberPlan,
  peerUrl,
  planMember,
} from './member.core.ts'
import { membersFileName, rememberedEndpoints } from './peers.ts'

/** How long a first start asks the other peers whether a cluster exists already. */
export const askPeersTimeoutMs = 2_000
/** How long a start with data waits for the others' word that it is a member no more. */
export const agreedTimeoutMs = 1_000
export const orphanGraceMs = 5_000
export const etcdStopGraceMs = 5_000
export const announcePauseMs = 500
/** For etcd to come up alone with its data, each of two times. */
export const aloneTimeoutMs = 30_000
/**
 * Go's scheduler looks after itself in steps of 20 µs whenever it has been woken, which was 40 % of what etcd took at rest. With
 * this a write takes as long as before; 16 at once are 1,900 a second where they were 2,400.
 */
const etcdTimerSlackNs = 1_000_000
/** Asked for to make a member look how far the cluster is; it need not exist. */
const anyKey = '/discoverd/service/discoverd'

export type MemberOptions = {
  readonly dataDir: string
  readonly host: string
  readonly peerHosts: readonly string[]
  readonly listed: boolean
  /** Name for a member that has none yet: the host's identity. */
  readonly name: string
  readonly loopback: boolean
  readonly log: Logger
}

async function exists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (e: NodeJS.ErrnoException) => {
      if (e.code === 'ENOENT') return false
      throw e
    },
  )
}

async function knownMembers(
  endpoints: readonly string[],
  log: Logger,
): Promise<readonly KnownMember[] | undefined> {
  if (endpoints.length === 0) return undefined
  const client = new EtcdClient({ endpoints })
  try {
    const members = await client.members({ timeoutMs: askPeersTimeoutMs })
    return members.map(m => ({ peerUrls: m.peerUrls, started: m.clientUrls.length > 0 }))
  } catch (e) {
    log.info({ err: e }, 'no other peer tells of a cluster')
    return undefined
  } finally {
    client.close()
  }
}

/** The members as one of them tells them with a majority behind it; undefined when it is off, or what it knows may be old. */
async function agreedMembers(endpoint: string): Promise<readonly EtcdMember[] | undefined> {
  const client = new EtcdClient({ endpoints: [endpoint] })
  try {
    // A linearizable read: who answers it knows the latest of its cluster's decisions.
    await client.get(anyKey, { timeoutMs: agreedTimeoutMs })
    return await client.members({ timeoutMs: agreedTimeoutMs })
  } catch {
    return undefined
  } finally {
    client.close()
  }
}

/** Ends the etcd of an earlier run if it still works on this data. */
async function endOrphan(pidFile: string, dataDir: string, log: Logger): Promise<void> {
  const text = await readFile(pidFile, 'utf8').catch(() => '')
  const pid = Number(text)
  if (!Number.isInteger(pid) || pid <= 1) return
  const isOurs = async () => {
    const cmdline = await readFile(`/proc/${pid}/cmdline`, 'utf8').catch(() => '')
    return cmdline.includes('etcd') && cmdline.split('\0').includes(`--data-dir=${dataDir}`)
  }
  if (!(await isOurs())) return
  log.warn({ pid }, 'ending the etcd that an earlier run left behind')
  process.kill(pid, 'SIGTERM')
  const gone = { timeoutMs: orphanGraceMs, what: `etcd ${pid} to end` }
  try {
    await poll(async () => !(await isOurs()), gone)
  } catch (e) {
    log.warn({ err: e }, 'etcd does not end by itself')
    process.kill(pid, 'SIGKILL')
    await poll(async () => !(await isOurs()), gone)
  }
}

async function memberName(file: string, fresh: string): Promise<string> {
  const kept = await readFile(file, 'utf8').catch(() => '')
  if (kept.trim() !== '') return kept.trim()
  await writeFile(file, fresh)
  return fresh
}

/** The etcd member of this host, if it has one: it may come and go while the daemon runs (promote, demote). */
export class Member {
  readonly #options: MemberOptions
  readonly #name: string
  readonly #others: readonly string[]
  #plan: MemberPlan
  #leaving: Promise<void> | undefined
  #child: Supervised | undefined
  #announcing: { readonly stop: AbortController; readonly done: Promise<void> } | undefined

  private constructor(options: MemberOptions, name: string, others: readonly string[], plan: MemberPlan) {
    this.#options = options
    this.#name = name
    this.#others = others
    this.#plan = plan
  }

  /** Decides what this host is and starts its member, if it has one. */
  static async open(options: MemberOptions): Promise<Member> {
    const { dataDir, host, listed, log } = options
    await mkdir(`${dataDir}/etcd`, { recursive: true, mode: 0o700 })
    const hasData = await exists(`${dataDir}/etcd/member/wal`)
    const history = await exists(`${dataDir}/${membersFileName}`)
    const name = await memberName(`${dataDir}/name`, options.name)
    const own = `${host}:2379`
    const configured = options.peerHosts.map(h => `${h}:2379`)
    const remembered = await rememberedEndpoints(`${dataDir}/${membersFileName}`)
    const others = [...new Set([...configured, ...remembered])].filter(e => e !== own)
    const members = hasData ? undefined : await knownMembers(others, log)
    const facts = { hasData, listed, name, host, peerHosts: options.peerHosts, members, history }
    const plan = planMember(facts)
    log.info({ plan, name }, 'member plan')
    const member = new Member(options, name, others, plan)
    if (hasData && (await member.#isRemoved())) {
      log.warn({ name }, 'the cluster has removed this member while it was off, going on as a proxy')
      await endOrphan(`${dataDir}/etcd.pid`, `${dataDir}/etcd`, log)
      await member.leave()
      return member
    }
    if (plan.kind === 'proxy') {
      if (plan.reason === 'data_lost')
        log.error({ err: errors.NO_ETCD_DATA({ url: peerUrl(host) }) }, 'proxy')
    } else await member.#start(plan)
    return member
  }

  get plan(): MemberPlan {
    return this.#plan
  }

  get name(): string {
    return this.#name
  }

  async #start(plan: ActivePlan, forceNew = false): Promise<void> {
    const { dataDir, host, loopback, log } = this.#options
    const etcdDir = `${dataDir}/etcd`
    await endOrphan(`${dataDir}/etcd.pid`, etcdDir, log)
    this.#plan = plan
    this.#child = supervise({
      name: 'etcd',
      argv: ['etcd', ...etcdArgs({ name: this.#name, dataDir: etcdDir, host, loopback, plan, forceNew })],
      timerSlackNs: etcdTimerSlackNs,
      log,
      onStart: pid => {
        writeFile(`${dataDir}/etcd.pid`, String(pid)).catch(e => log.error({ err: e }, 'etcd pid not kept'))
      },
      onExit: () => {
        this.#lookIfRemoved().catch(e => log.debug({ err: e }, 'not known whether this member was removed'))
      },
    })
    const stop = new AbortController()
    this.#announcing = { stop, done: announce(this.#options, stop.signal) }
  }

  /** The cluster has added us: starts a member that fetches everything from the others. */
  async join(initial: string): Promise<void> {
    await this.#halt()
    await this.#wipe()
    await this.#start({ kind: 'join', initialCluster: initial })
  }

  /**
   * The other members are gone for good: goes on as the only one, with the data that is here. etcd takes the others out when it
   * is started once with a flag, and must not be started with it again. A crash on the way leaves either the old cluster, to
   * be recovered once more, or the new one.
   */
  async recover(): Promise<void> {
    if (this.#plan.kind === 'proxy') throw errors.NOTHING_TO_RECOVER_FROM()
    await this.#halt()
    try {
      await this.#start({ kind: 'resume' }, true)
      await this.#untilAlone()
    } finally {
      await this.#halt()
      await this.#start({ kind: 'resume' })
    }
    await this.#untilAlone()
    this.#options.log.warn({ name: this.#name }, 'the consensus was started anew with this member alone')
  }

  async #untilAlone(): Promise<void> {
    const client = new EtcdClient({ endpoints: [`${this.#options.host}:2379`] })
    const alone = async () => {
      // Linearizable: answered only with a majority, which is this member now.
      await client.get(anyKey, { timeoutMs: askPeersTimeoutMs })
      return (await client.members({ timeoutMs: askPeersTimeoutMs })).length === 1
    }
    try {
      await poll(alone, { timeoutMs: aloneTimeoutMs, intervalMs: 200, what: 'etcd to come up alone' })
    } finally {
      client.close()
    }
  }

  /**
   * The cluster has removed us: ends the member for good. Its data are of no use to anybody. A demotion and the end of etcd,
   * which it causes, ask for this at the same time; two must not delete the same files.
   */
  leave(): Promise<void> {
    this.#leaving ??= this.#leave().finally(() => {
      this.#leaving = undefined
    })
    return this.#leaving
  }

  async #leave(): Promise<void> {
    await this.#halt()
    await this.#wipe()
    this.#plan = { kind: 'proxy', reason: 'not_a_member' }
  }

  /** Ends the member until the next start of the daemon; safe to call twice, nothing to do on a proxy. */
  async stop(): Promise<void> {
    if (!this.#child) return
    await this.#endAnnouncing()
    await handOver(`${this.#options.host}:2379`, this.#options.log)
    await this.#halt()
  }

  /**
   * Whether one of the others knows of no such member: it was removed, or the consensus was started anew without it
   * (`recover`). Members of the old cluster must not go on among themselves then.
   */
  async #isRemoved(): Promise<boolean> {
    const own = peerUrl(this.#options.host)
    const lists = await Promise.all(this.#others.map(agreedMembers))
    return lists.some(
      list => list !== undefined && !list.some(m => m.name === this.#name || m.peerUrls.includes(own)),
    )
  }

  /** Removed by another host, perhaps while this one was off: etcd ends again and again then. */
  async #lookIfRemoved(): Promise<void> {
    const { log } = this.#options
    const child = this.#child
    if (!child || this.#others.length === 0) return
    if (!(await this.#isRemoved())) return
    // Somebody else saw to it meanwhile.
    if (this.#child !== child) return
    log.warn({ name: this.#name }, 'the cluster has removed this member, going on as a proxy')
    await this.leave()
  }

  async #endAnnouncing(): Promise<void> {
    this.#announcing?.stop.abort()
    await this.#announcing?.done
    this.#announcing = undefined
  }

  async #halt(): Promise<void> {
    await this.#endAnnouncing()
    await this.#child?.stop(etcdStopGraceMs)
    this.#child = undefined
  }

  async #wipe(): Promise<void> {
    const etcdDir = `${this.#options.dataDir}/etcd`
    await rm(etcdDir, { recursive: true, force: true })
    await mkdir(etcdDir, { recursive: true, mode: 0o700 })
  }
}

/**
 * Tells the cluster our peer URL when it has changed with the host's address, and goes on with a promotion that a restart
 * broke off; ends when both are done.
 */
async function announce(options: MemberOptions, signal: AbortSignal): Promise<void> {
  const own = `${options.host}:2379`
  const client = new EtcdClient({ endpoints: [own, ...options.peerHosts.map(h => `${h}:2379`)] })
  try {
    while (!signal.aborted) {
      try {
        const { memberId } = await client.status(own)
        const self = (await client.members({ timeoutMs: 2_000, signal })).find(m => m.id === memberId)
        if (!self?.peerUrls.includes(peerUrl(options.host))) {
          await client.updateMember(memberId, peerUrl(options.host))
          options.log.info({ memberId, url: peerUrl(options.host) }, 'peer address changed')
        }
        if (!self?.isLearner) return
        await client.promoteMember(memberId)
        options.log.info({ memberId }, 'promoted to a voter')
        return
      } catch (e) {
        if (signal.aborted) return
        options.log.debug({ err: e }, 'peer address not announced yet')
        await sleep(announcePauseMs, signal).catch(() => undefined)
      }
    }
  } finally {
    client.close()
  }
}
