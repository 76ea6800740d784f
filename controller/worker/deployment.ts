// The task `deployment`: replaces the formation of one release by that of another, step by step, and puts everything
// back when the new release does not come up (contract controller.md 5.1). A worker that dies leaves nothing that the
// next one could not go on with: each step is planned from the counts as they are.
import { sql } from 'kysely'
import { sleep } from '../../pkg/clock/clock.ts'
import { describeError, isFlynnError } from '../../pkg/errors/errors.ts'
import { orUndefined } from '../client.ts'
import { processVolumes } from '../hostjob.core.ts'
import { writeTo } from '../schema/write.ts'
import {
  type Deployment,
  type DeploymentEvent,
  handoverStrategies,
  type Processes,
  type Release,
} from '../types.ts'
import type { TaskContext } from './context.ts'
import { nextStep, type Plan, resumeStep } from './deployment.core.ts'
import { errors } from './errors.ts'
import { handBack, handOverAll, handOverDatabase, hostNetworkTypes } from './handover.ts'
import { persist } from './persist.ts'
import { requestScale, scaleAndWait } from './scale.ts'

/** More steps than any deployment needs: somebody else is scaling the app all the while. */
export const stepsMax = 20_000
/** The old release gets at least so long to be back, whatever the app's limit. */
export const rollbackTimeoutMinMs = 30_000
/** How soon a request for its end is seen. */
export const cancelPollMs = 1_000
/** A new job of a type without a service must have run this long before an old one is stopped for it. */
export const steadyJobMs = 2_000

/** Deployments that this process is at work on: a second task for one waits for the first. */
const atWork = new Map<string, Promise<void>>()

export function runDeployment(ctx: TaskContext, payload: { readonly ID: string }): Promise<void> {
  const running = atWork.get(payload.ID) ?? claimed(ctx, payload.ID).finally(() => atWork.delete(payload.ID))
  atWork.set(payload.ID, running)
  return running
}

/** One worker at a time: a deployment of the database loses its task, because the queue lives there. */
async function claimed(ctx: TaskContext, id: string): Promise<void> {
  const claim = ctx.claim({
    name: `deployment ${id}`,
    open: {
      text: 'SELECT FROM deployments WHERE deployment_id = $1 AND finished_at IS NULL',
      values: [id],
    },
  })
  const taken = () => errors.DEPLOYMENT_TAKEN({ deployment: id })
  // What another has brought to its end meanwhile is not touched any more.
  const check = async (): Promise<void> => {
    if ((await claim.hold(ctx.signal)) !== 'held') throw taken()
  }
  try {
    const hold = await claim.hold(ctx.signal)
    if (hold === 'taken') throw taken()
    if (hold === 'held') await carryOut(ctx, id, check)
  } finally {
    await claim.release()
  }
}

async function carryOut(ctx: TaskContext, id: string, check: () => Promise<void>): Promise<void> {
  const deployment = await orUndefined(ctx.controller.deployment(id, { signal: ctx.signal }))
  if (deployment === undefined) return
  const log = ctx.log.child({ deployment: deployment.id, app: deployment.app })
  log.info({ strategy: deployment.strategy, release: deployment.new_release }, 'deployment begins')
  const cancelled = watchCancellation(ctx, id)
  const signal = AbortSignal.any([ctx.signal, cancelled.signal])
  try {
    await deploy({ ...ctx, signal }, deployment, check)
  } catch (cause) {
    if (ctx.signal.aborted) throw errors.WORKER_STOPPED({}, { cause })
    if (isFlynnError(cause, 'deployment_taken')) throw cause
    const e = cancelled.signal.aborted ? errors.DEPLOYMENT_CANCELLED() : cause
    log.warn({ err: e }, 'deployment failed')
    await check()
    const problem = await rollBack(ctx, deployment)
    if (problem) log.error({ err: problem }, 'roll-back is not complete')
    await finish(ctx, deployment, 'failed', failureText(e, problem))
    return
  } finally {
    cancelled.end()
  }
  await check()
  await ctx.controller.setAppRelease(deployment.app, deployment.new_release, { signal: ctx.signal })
  await ctx.controller
    .scheduleAppGc(deployment.app, { signal: ctx.signal })
    .catch((err: unknown) => log.warn({ err }, 'garbage collection was not scheduled'))
  await finish(ctx, deployment, 'complete')
  log.info('deployment complete')
}

/** A signal that aborts when somebody asks for the deployment's end. */
function watchCancellation(
  ctx: TaskContext,
  id: string,
): { readonly signal: AbortSignal; readonly end: () => void } {
  const cancelled = new AbortController()
  const over = new AbortController()
  const watching = async (): Promise<void> => {
    while (!over.signal.aborted) {
      // A database that is away cannot tell; it is asked again.
      const row = await ctx.db
        .selectFrom('deployments')
        .select('cancelled_at')
        .where('deployment_id', '=', id)
        .executeTakeFirst()
        .catch(() => undefined)
      if (row?.cancelled_at) cancelled.abort()
      await sleep(cancelPollMs, over.signal).catch(() => undefined)
    }
  }
  void watching()
  return { signal: cancelled.signal, end: () => over.abort() }
}

function failureText(e: unknown, problem: Error | undefined): string {
  const text = describeError(e)
  return problem === undefined ? text : `${text}; the roll-back is not complete: ${describeError(problem)}`
}

async function deploy(ctx: TaskContext, deployment: Deployment, check: () => Promise<void>): Promise<void> {
  ctx.signal.throwIfAborted()
  const release = await ctx.controller.release(deployment.new_release, { signal: ctx.signal })
  const timeoutMs = deployment.deploy_timeout * 1000
  const options = { deployment, timeoutMs, check }
  const same = deployment.old_release === undefined || deployment.old_release === deployment.new_release
  if (deployment.strategy === 'sirenia' && !same) await handOverDatabase(ctx, options)
  else if (deployment.strategy === 'discoverd-meta' && !same) await handOverAll(ctx, options)
  else if (!same) {
    const types = hostNetworkTypes(release)
    if (types.size > 0) await handOverAll(ctx, options, types)
  }
  for (let steps = 0; steps < stepsMax; steps++) {
    await check()
    const plan = await makePlan(ctx, deployment, release)
    const step = (steps === 0 && !same ? resumeStep(plan) : undefined) ?? nextStep(plan)
    if (step === undefined) return
    const fresh = step.release === 'new'
    const scale = {
      app: deployment.app,
      release: fresh ? deployment.new_release : (deployment.old_release ?? ''),
      processes: step.processes,
      tags: fresh ? deployment.tags : undefined,
    }
    if (step.wait) {
      const unwatched = Object.keys(step.processes).some(type => !release.processes?.[type]?.service)
      const steadyMs = fresh && unwatched ? steadyJobMs : 0
      await scaleAndWait(ctx, { ...scale, timeoutMs, watchJobs: fresh, steadyMs })
    } else await requestScale(ctx, scale)
  }
  throw errors.STEPS_ENDLESS({ steps: stepsMax })
}

async function makePlan(ctx: TaskContext, deployment: Deployment, release: Release): Promise<Plan> {
  const same = deployment.old_release === deployment.new_release
  const [old, fresh] = await Promise.all([
    same ? {} : counts(ctx, deployment.app, deployment.old_release),
    counts(ctx, deployment.app, deployment.new_release),
  ])
  const processes = Object.entries(release.processes ?? {})
  return {
    strategy: deployment.strategy,
    wanted: deployment.processes ?? {},
    old,
    new: fresh,
    types: new Set(processes.map(([type]) => type)),
    exclusive: new Set(
      processes.filter(([, p]) => processVolumes(p).some(v => !v.deleteOnStop)).map(([type]) => type),
    ),
    batchSize:
      deployment.deploy_batch_size ?? (deployment.strategy === 'in-batches' ? await ctx.hostCount() : 1),
  }
}

async function counts(ctx: TaskContext, app: string, release: string | undefined): Promise<Processes> {
  if (release === undefined) return {}
  const formation = await orUndefined(ctx.controller.formation(app, release, { signal: ctx.signal }))
  return formation?.processes ?? {}
}

/**
 * The old release at its counts of before, then the new formation gone. What cannot be reached here throws, and the
 * queue begins anew; an old release that does not come back in time is reported, since its counts are in force.
 */
async function rollBack(ctx: TaskContext, deployment: Deployment): Promise<Error | undefined> {
  const { app, old_release, new_release } = deployment
  if (old_release === new_release) return undefined
  let problem: Error | undefined
  const now = await counts(ctx, app, old_release)
  const missing = Object.entries(deployment.processes ?? {}).some(([type, n]) => (now[type] ?? 0) !== n)
  if (old_release !== undefined && missing) {
    const scale = { app, release: old_release, processes: deployment.processes ?? {} }
    const handover = await handsOver(ctx, deployment, old_release)
    const held = !handover && (await holdsVolumes(ctx, old_release))
    // What the new release holds, the old one needs: it goes first then.
    if (held) await dropFormation(ctx, app, new_release)
    try {
      const timeoutMs = Math.max(deployment.deploy_timeout * 1000, rollbackTimeoutMinMs)
      if (handover) await handBack(ctx, deployment, timeoutMs)
      else await scaleAndWait(ctx, { ...scale, timeoutMs, watchJobs: false })
    } catch (e) {
      if (ctx.signal.aborted) throw e
      problem = e instanceof Error ? e : new Error(String(e))
    }
  }
  await dropFormation(ctx, app, new_release)
  return problem
}

async function handsOver(ctx: TaskContext, deployment: Deployment, oldRelease: string): Promise<boolean> {
  if (handoverStrategies.includes(deployment.strategy)) return true
  return hostNetworkTypes(await ctx.controller.release(oldRelease, { signal: ctx.signal })).size > 0
}

async function holdsVolumes(ctx: TaskContext, release: string): Promise<boolean> {
  const { processes } = await ctx.controller.release(release, { signal: ctx.signal })
  return Object.values(processes ?? {}).some(p => processVolumes(p).some(v => !v.deleteOnStop))
}

async function dropFormation(ctx: TaskContext, app: string, release: string): Promise<void> {
  await orUndefined(ctx.controller.deleteFormation(app, release, { signal: ctx.signal }))
}

/** Marks the deployment finished and says so, once, however often the task runs. */
async function finish(
  ctx: TaskContext,
  deployment: Deployment,
  status: 'complete' | 'failed',
  error?: string,
): Promise<void> {
  const data: DeploymentEvent = {
    app: deployment.app,
    deployment: deployment.id,
    release: deployment.new_release,
    status,
    ...(error === undefined ? {} : { error }),
  }
  const write = () =>
    writeTo(ctx.db, async w => {
      const row = await w.tx
        .updateTable('deployments')
        .set({ finished_at: sql<string>`clock_timestamp()` })
        .where('deployment_id', '=', deployment.id)
        .where('finished_at', 'is', null)
        .returning('deployment_id')
        .executeTakeFirst()
      if (row)
        w.emit({ app: deployment.app, type: 'deployment', objectId: deployment.id, data, op: 'update' })
    })
  await persist(ctx, write)
}
