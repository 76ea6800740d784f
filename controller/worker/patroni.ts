// The database cluster that a `sirenia` deployment goes through, as Patroni and discoverd tell it: waits until it is well
// and moves the primary (contract system-apps.md 9; Patroni's REST API on :8008).
import { derivePassword, patroniPort, patroniUser } from '../../appliance/postgresql/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import type { Release } from '../types.ts'
import type { TaskContext } from './context.ts'
import { errors } from './errors.ts'
import { ailment, leaderOf, type Member, successor } from './patroni.core.ts'

export const patroniCallTimeoutMs = 5_000
export const switchoverTimeoutMs = 60_000
const patroniPollMs = 500

type Instance = {
  readonly addr: string
  readonly releaseId: string | undefined
  readonly jobId: string | undefined
}

/** What is needed of a task's context; the scheduler has it too, for drains. */
export type DatabaseContext = Pick<TaskContext, 'instances' | 'log' | 'signal'>

export type DatabaseCluster = {
  /** Resolves when so many nodes run, are caught up, and one of them takes writes. */
  untilWell(nodes: number, timeoutMs: number): Promise<void>
  /** Resolves when a node of the release is primary. */
  movePrimary(releaseId: string, timeoutMs: number): Promise<void>
  /** Resolves when this job's node is not the primary, which it may not have been. */
  leaveNode(jobId: string, timeoutMs: number): Promise<void>
}

const hostOf = (addr: string): string => addr.slice(0, addr.lastIndexOf(':'))

/** The cluster behind a process type's service. */
export function databaseCluster(ctx: DatabaseContext, release: Release, type: string): DatabaseCluster {
  const service = release.processes?.[type]?.service ?? release.env?.['FLYNN_POSTGRES'] ?? type
  const instances = async (): Promise<readonly Instance[]> =>
    (await ctx.instances(service)).map(i => ({
      addr: i.addr,
      releaseId: i.meta?.['FLYNN_RELEASE_ID'],
      jobId: i.meta?.['FLYNN_JOB_ID'],
    }))
  const patroni = (host: string) => new HttpClient({ url: `http://${host}:${patroniPort}` })
  const password = derivePassword(release.env?.['PGPASSWORD'] ?? '', 'patroni')
  const authorization = `Basic ${Buffer.from(`${patroniUser}:${password}`).toString('base64')}`
  const call = { timeoutMs: patroniCallTimeoutMs, retryMs: 0, signal: ctx.signal }

  /** What the first node that answers says. */
  async function members(): Promise<readonly Member[]> {
    let failure = 'no node is registered'
    for (const { addr } of await instances())
      try {
        return (await patroni(hostOf(addr)).get<{ members: readonly Member[] }>('/cluster', call)).members
      } catch (e) {
        ctx.signal.throwIfAborted()
        failure = describeError(e)
      }
    throw new Error(failure)
  }

  async function until(what: () => Promise<string | undefined>, timeoutMs: number): Promise<void> {
    let reason = ''
    const good = async () => {
      reason = (await what().catch((e: unknown) => describeError(e))) ?? ''
      return reason === ''
    }
    await poll(good, { timeoutMs, intervalMs: patroniPollMs, signal: ctx.signal, what: service }).catch(
      (cause: unknown) => {
        ctx.signal.throwIfAborted()
        throw errors.DATABASE_UNHEALTHY({ service, reason }, { cause })
      },
    )
  }

  async function primary(): Promise<Instance | undefined> {
    const leader = leaderOf(await members())
    return (await instances()).find(i => hostOf(i.addr) === leader?.host)
  }

  /** Hands the primary to one of these nodes, and waits until it is at home there. */
  async function moveTo(fits: (node: Instance) => boolean, timeoutMs: number): Promise<void> {
    const all = await members()
    const leader = leaderOf(all)
    const ours = (await instances()).filter(fits)
    const next = successor(all, new Set(ours.map(i => hostOf(i.addr))))
    if (leader?.host === undefined || next === undefined)
      throw errors.DATABASE_UNHEALTHY({ service, reason: 'no other node can take over' })
    ctx.log.info({ service, from: leader.name, to: next.name }, 'moving the primary')
    const answer = await patroni(leader.host).raw('POST', '/switchover', {
      ...call,
      json: { leader: leader.name, candidate: next.name },
      headers: { authorization },
      timeoutMs: switchoverTimeoutMs,
    })
    await answer.body.dump()
    const moved = async (): Promise<string | undefined> => {
      const now = await primary()
      return now !== undefined && fits(now) ? undefined : 'the primary has not moved yet'
    }
    await until(moved, timeoutMs)
  }

  return {
    untilWell: (nodes, timeoutMs) => until(async () => ailment(await members(), nodes), timeoutMs),
    async movePrimary(releaseId, timeoutMs) {
      if ((await primary())?.releaseId === releaseId) return
      await moveTo(i => i.releaseId === releaseId, timeoutMs)
    },
    async leaveNode(jobId, timeoutMs) {
      if ((await primary())?.jobId !== jobId) return
      await moveTo(i => i.jobId !== jobId, timeoutMs)
    },
  }
}
