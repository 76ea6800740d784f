// Deployments of the apps that the cluster itself stands on (strategies `discoverd-meta` and `sirenia`, contracts
// controller.md 5.1, system-apps.md 9). A step gives processes of the old release to the new one in one transaction, so
// that the scheduler needs nobody for the rest of it: the controller's own database may be what is restarted.
import { sleep } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { orUndefined } from '../client.ts'
import { writeTo } from '../schema/write.ts'
import type { Deployment, Processes, Release, ScaleRequest } from '../types.ts'
import { requestScale } from '../web/scales.ts'
import type { TaskContext } from './context.ts'
import { errors } from './errors.ts'
import { databaseCluster } from './patroni.ts'
import { persist } from './persist.ts'
import { waitScaled } from './scale.ts'

/** Longer than the scheduler's own watch over a release (scheduler/handover.core.ts). */
export const steadyHandoverMs = 12_000
/** The scheduler takes a release back after so many. */
export const endedHandoverMax = 3
const steadyPollMs = 500

/** Counts after a step, by release; types that are not named stay. */
export type Swap = {
  readonly app: string
  readonly lower: Release
  readonly lowerTo: Processes
  readonly raise: Release
  readonly raiseTo: Processes
}

/** Both changes or none; the scheduler is told of the raised release first. Returns the raise's request. */
export async function swap(ctx: TaskContext, change: Swap): Promise<ScaleRequest> {
  const write = () =>
    writeTo(ctx.db, async w => {
      const raised = await requestScale(w, {
        appId: change.app,
        release: change.raise,
        processes: change.raiseTo,
      })
      await requestScale(w, { appId: change.app, release: change.lower, processes: change.lowerTo })
      return raised
    })
  const request = await persist(ctx, write)
  if (request === undefined) throw new Error('a scale request that deletes nothing is always made')
  return request
}

export type HandoverOptions = {
  readonly deployment: Deployment
  readonly timeoutMs: number
  /** Rejects when the deployment is no longer ours, or is to be cancelled. Called before each step. */
  readonly check: () => Promise<void>
}

async function countsOf(ctx: TaskContext, app: string, release: string): Promise<Processes> {
  return (await orUndefined(ctx.controller.formation(app, release, { signal: ctx.signal })))?.processes ?? {}
}

/** The process type that holds the database; undefined when there is nothing of it to replace. */
function databaseType(old: Release, fresh: Release, deployment: Deployment): string | undefined {
  const type = old.env?.['SIRENIA_PROCESS'] ?? fresh.env?.['SIRENIA_PROCESS'] ?? ''
  if ((deployment.processes?.[type] ?? 0) === 0) return undefined
  if (fresh.processes?.[type] === undefined) throw errors.NO_PROCESS_TYPE({ type })
  return type
}

/**
 * `sirenia`: database nodes one at a time, replicas first; the primary hands over to a node of the new release before it
 * is stopped. A single node is stopped and started with its data.
 */
export async function handOverDatabase(ctx: TaskContext, options: HandoverOptions): Promise<void> {
  const { deployment } = options
  const [old, fresh] = await releasesOf(ctx, deployment)
  // Whose process nobody names as a database is no cluster of Patroni's.
  if (old.env?.['SIRENIA_PROCESS'] === undefined && fresh.env?.['SIRENIA_PROCESS'] === undefined)
    return handOverAll(ctx, options)
  const type = databaseType(old, fresh, deployment)
  if (type === undefined) return
  const wanted = deployment.processes?.[type] ?? 0
  const cluster = databaseCluster(ctx, old, type)
  for (let step = 0; step <= wanted; step++) {
    await options.check()
    const [oldCounts, freshCounts] = [
      await countsOf(ctx, deployment.app, old.id),
      await countsOf(ctx, deployment.app, fresh.id),
    ]
    const left = oldCounts[type] ?? 0
    const done = freshCounts[type] ?? 0
    if (left === 0 && done >= wanted) break
    await cluster.untilWell(left + done, options.timeoutMs)
    if (left === 1 && done > 0) await cluster.movePrimary(fresh.id, options.timeoutMs)
    const request = await swap(ctx, {
      app: deployment.app,
      raise: fresh,
      raiseTo: { [type]: Math.min(wanted, done + 1) },
      lower: old,
      lowerTo: { [type]: Math.max(0, left - 1) },
    })
    await waitTaken(ctx, deployment, request, options.timeoutMs)
  }
  await cluster.untilWell(wanted, options.timeoutMs)
}

/** Types on the host's network: two releases of them cannot run on one host at a time. */
export function hostNetworkTypes(release: Release): ReadonlySet<string> {
  const all = Object.entries(release.processes ?? {})
  return new Set(all.filter(([, p]) => p.host_network === true && p.omni === true).map(([type]) => type))
}

/**
 * `discoverd-meta`: every type, or those that are named, goes over at once; the scheduler takes the hosts one after the
 * other.
 */
export async function handOverAll(
  ctx: TaskContext,
  options: HandoverOptions,
  only?: ReadonlySet<string>,
): Promise<void> {
  const { deployment } = options
  const [old, fresh] = await releasesOf(ctx, deployment)
  await options.check()
  const oldCounts = await countsOf(ctx, deployment.app, old.id)
  const concerns = ([type]: readonly [string, number]): boolean => only?.has(type) ?? true
  const wanted = Object.entries(deployment.processes ?? {})
    .filter(concerns)
    .filter(([type, n]) => n > 0 && fresh.processes?.[type])
  const left = Object.entries(oldCounts)
    .filter(concerns)
    .filter(([, n]) => n > 0)
  const freshCounts = await countsOf(ctx, deployment.app, fresh.id)
  if (left.length === 0 && wanted.every(([type, n]) => (freshCounts[type] ?? 0) >= n)) return
  const request = await swap(ctx, {
    app: deployment.app,
    raise: fresh,
    raiseTo: Object.fromEntries(wanted),
    lower: old,
    lowerTo: Object.fromEntries(left.map(([type]) => [type, 0])),
  })
  await waitTaken(ctx, deployment, request, options.timeoutMs)
  await untilSteady(ctx, { app: deployment.app, release: fresh, wanted, timeoutMs: options.timeoutMs })
}

/** Waits for the new release; when the scheduler took it back, says why it did not come up. */
async function waitTaken(
  ctx: TaskContext,
  deployment: Deployment,
  request: ScaleRequest,
  timeoutMs: number,
): Promise<void> {
  try {
    await waitScaled(ctx, { request, timeoutMs })
  } catch (cause) {
    if (!isFlynnError(cause, 'scale_cancelled')) throw cause
    const jobs = await ctx.controller.jobs(deployment.app, { signal: ctx.signal })
    const ended = jobs.find(j => j.release === deployment.new_release && j.state === 'down')
    const status = ended?.exit_status === undefined ? '' : `it ended with status ${ended.exit_status}`
    const reason = ended?.host_error ?? (status || 'it was not up in time')
    throw errors.TAKEN_BACK({ type: ended?.type ?? 'its', reason }, { cause })
  }
}

type SteadyWait = {
  readonly app: string
  readonly release: Release
  readonly wanted: readonly (readonly [string, number])[]
  readonly timeoutMs: number
}

/**
 * Waits until the release's jobs of types without a service have lasted: nothing else tells that they are well. The
 * scheduler takes a release back whose jobs end by themselves; here that is seen and told.
 */
async function untilSteady(ctx: TaskContext, wait: SteadyWait): Promise<void> {
  const types = new Set(
    wait.wanted.flatMap(([type]) => (wait.release.processes?.[type]?.service ? [] : [type])),
  )
  if (types.size === 0) return
  const deadline = Date.now() + wait.timeoutMs
  let before = ''
  let sinceMs = Date.now()
  while (Date.now() - sinceMs < steadyHandoverMs) {
    if (Date.now() > deadline)
      throw errors.SCALE_TIMEOUT({
        seconds: Math.round(wait.timeoutMs / 1000),
        processes: [...types].join(' '),
        release: wait.release.id,
      })
    const all = await ctx.controller.jobs(wait.app, { signal: ctx.signal })
    const ours = all.filter(j => j.release === wait.release.id && types.has(j.type ?? ''))
    const ended = ours.filter(j => j.state === 'down' && j.exit_status !== undefined)
    if (ended.length >= endedHandoverMax)
      throw errors.JOB_FAILED({
        type: ended[0]?.type ?? '',
        reason: `${ended.length} jobs ended by themselves, the last with status ${ended[0]?.exit_status}`,
      })
    const up = ours.filter(j => j.state === 'up').map(j => j.uuid)
    const now = up.sort().join()
    if (now !== before || up.length === 0) sinceMs = Date.now()
    before = now
    await sleep(steadyPollMs, ctx.signal)
  }
}

/** The old release has its counts again, and the new one none, in one step. */
export async function handBack(ctx: TaskContext, deployment: Deployment, timeoutMs: number): Promise<void> {
  const [old, fresh] = await releasesOf(ctx, deployment)
  const freshCounts = await countsOf(ctx, deployment.app, fresh.id)
  const taken = Object.keys(freshCounts).filter(type => (freshCounts[type] ?? 0) > 0)
  const request = await swap(ctx, {
    app: deployment.app,
    raise: old,
    raiseTo: { ...deployment.processes },
    lower: fresh,
    lowerTo: Object.fromEntries(taken.map(type => [type, 0])),
  })
  await waitScaled(ctx, { request, timeoutMs })
}

async function releasesOf(ctx: TaskContext, deployment: Deployment): Promise<readonly [Release, Release]> {
  const call = { signal: ctx.signal }
  const old = await ctx.controller.release(deployment.old_release ?? '', call)
  return [old, await ctx.controller.release(deployment.new_release, call)]
}
