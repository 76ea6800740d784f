// Carries out what plan.core.ts says: one step, then a new look and a new plan. Only the holder of the lock acts, and asks
// for it again before each start; discoverd, without which there is no lock, is started before, each on its own host, which
// refuses a second one. Used by monitor.ts and by `flynn-host fix`.
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { errorTable, isFlynnError } from '../../pkg/errors/errors.ts'
import type { EtcdClient } from '../../pkg/etcd/client.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import { HostClient, hostUrl } from '../client.ts'
import { renamed } from '../job/job.core.ts'
import type { Job } from '../types.ts'
import { type FixLock, isLocked, tryLock } from './lock.ts'
import {
  type ClusterView,
  type FixPlan,
  type FixService,
  type FixStep,
  fixOrder,
  planFix,
} from './plan.core.ts'

export const lookAgainMs = 1_000
/** How long another repair is waited for. */
export const lockWaitMs = 120_000
/** How long each service may take to come up. PostgreSQL may have a log to replay. */
export const waitMs: Readonly<Record<FixService, number>> = {
  discoverd: 90_000,
  postgres: 300_000,
  scheduler: 120_000,
  controller: 120_000,
  router: 120_000,
}
/** More than any cluster needs: a repair that goes round in circles ends. */
export const stepsMax = 100

export const fixErrors = errorTable({
  NOT_FIXED: {
    status: 503,
    message: '{service} cannot be repaired: {text}',
    remedy: 'start the hosts that are off, then run again: flynn-host fix',
  },
  NO_MAJORITY: {
    status: 503,
    message: 'the discoverd peers do not agree after {seconds} s: most of them seem to be away',
    remedy:
      'start the other hosts; if most peers are gone for good, see what is left with: flynn-host recover --plan',
  },
  NOT_UP: {
    status: 503,
    message: '{service} did not come up in {seconds} s',
    remedy: 'see why: flynn-host ps -a, then flynn-host log JOB; it is tried anew with: flynn-host fix',
  },
  TOO_FEW_HOSTS: {
    status: 503,
    message: '{found} of {wanted} hosts answer; no answer from {silent}',
    remedy: 'start flynn-host on them, or lower --min-hosts',
  },
  BUSY: {
    status: 409,
    message: '{holder} is repairing the cluster',
    remedy: 'wait for it, and look again with: flynn-host fix --plan',
    retry: true,
  },
  NO_END: {
    status: 500,
    message: 'something is still missing after {steps} steps: what is started ends again',
    remedy: 'see why: flynn-host ps -a, then flynn-host log JOB',
  },
  INTERRUPTED: { status: 499, message: 'interrupted', remedy: 'run again to go on: flynn-host fix' },
  LOCK_LOST: {
    status: 503,
    message: 'etcd lost the lock of this repair',
    remedy: 'run again: flynn-host fix',
  },
})

export type FixReport = {
  started(step: FixStep): void
  done(step: FixStep, text?: string): void
  failed(step: FixStep, reason: unknown): void
  info(text: string): void
}

export type FixOptions = {
  readonly observe: (signal: AbortSignal) => Promise<ClusterView>
  readonly etcd: EtcdClient
  readonly authKey: string
  /** Who repairs, for those who find the lock taken. */
  readonly holder: string
  readonly report: FixReport
  readonly signal: AbortSignal
}

export type FixResult = {
  /** Ids of the jobs that were started. */
  readonly jobs: readonly string[]
  /** The last plan: no steps, and what works. */
  readonly plan: FixPlan
}

async function takeLock({ etcd, holder, report, signal }: FixOptions): Promise<FixLock> {
  const end = Date.now() + lockWaitMs
  let told = false
  for (;;) {
    signal.throwIfAborted()
    try {
      const lock = await tryLock(etcd, 'repair', holder)
      if (isLocked(lock)) return lock
      if (Date.now() >= end) throw fixErrors.BUSY({ holder: lock.holder })
      if (!told) report.info(`waiting for ${lock.holder}, which is repairing the cluster`)
      told = true
    } catch (e) {
      // An election: it was there a moment ago.
      if (!isFlynnError(e, 'etcd_unavailable') || Date.now() >= end) throw e
    }
    await sleep(lookAgainMs, signal)
  }
}

type Fresh = { readonly job: Job; readonly made: readonly string[] }

/** Volumes of no lasting value are made anew; the others are where the job is started. */
async function withNewVolumes(client: HostClient, job: Job, signal: AbortSignal): Promise<Fresh> {
  const made: string[] = []
  const volumes = []
  for (const binding of job.config.volumes ?? []) {
    if (binding.delete_on_stop === true) {
      const tie = ['app', 'release', 'type'].map(k => {
        const key = `flynn-controller.${k}`
        return [key, job.metadata?.[key] ?? ''] as const
      })
      const meta = {
        ...Object.fromEntries(tie),
        'flynn-controller.path': binding.target,
        'flynn-controller.delete_on_stop': 'true',
      }
      const { id } = await client.createVolume({ type: 'data', meta }, { signal })
      made.push(id)
      volumes.push({ ...binding, volume: id })
    } else volumes.push(binding)
  }
  return { made, job: volumes.length === 0 ? job : { ...job, config: { ...job.config, volumes } } }
}

/** The id of the new job; undefined when one of its kind is active there after all. */
async function startStep(
  step: FixStep & { kind: 'start' },
  view: ClusterView,
  { authKey, signal }: FixOptions,
): Promise<string | undefined> {
  const host = view.hosts.find(h => h.id === step.host)
  if (!host) return undefined
  const client = new HostClient({ url: hostUrl(host.address), authKey })
  const id = jobId(step.host)
  const { job, made } = await withNewVolumes(client, step.like, signal)
  try {
    await client.addJob(renamed(job, id), { signal, unlessActive: true })
    return id
  } catch (e) {
    for (const volume of made) await client.destroyVolume(volume, { signal })
    if (isFlynnError(e, 'process_active')) return undefined
    throw e
  }
}

/** Looks until the plan begins with another step, which is then made; answers the view that led to it. */
async function waitStep(
  step: FixStep & { kind: 'wait' },
  { observe, signal }: FixOptions,
): Promise<ClusterView> {
  const over = async () => {
    const view = await observe(signal)
    const [first] = planFix(view).steps
    return first?.kind === 'wait' && first.service === step.service ? undefined : view
  }
  const limit = waitMs[step.service]
  try {
    return await poll(over, { timeoutMs: limit, intervalMs: lookAgainMs, signal, what: step.service })
  } catch (cause) {
    signal.throwIfAborted()
    const seconds = limit / 1000
    if (step.service === 'discoverd') throw fixErrors.NO_MAJORITY({ seconds }, { cause })
    throw fixErrors.NOT_UP({ service: step.service, seconds }, { cause })
  }
}

/** Repairs until nothing is left to do. Rejects at the first thing that cannot be repaired. */
export async function runFix(options: FixOptions): Promise<FixResult> {
  const { observe, report, signal } = options
  const jobs: string[] = []
  let lock: FixLock | undefined
  let view = await observe(signal)
  try {
    for (let n = 0; n < stepsMax; n++) {
      const plan = planFix(view)
      const [step] = plan.steps
      if (!step || isBehindProblem(plan, step)) {
        const [problem] = plan.problems
        if (problem) throw fixErrors.NOT_FIXED(problem)
        return { jobs, plan }
      }
      if (step.service !== 'discoverd' && !lock) {
        lock = await takeLock(options)
        view = await observe(signal)
        continue
      }
      report.started(step)
      try {
        if (step.kind === 'wait') {
          view = await waitStep(step, options)
          report.done(step)
        } else {
          if (lock && !(await lock.check())) throw fixErrors.LOCK_LOST()
          const id = await startStep(step, view, options)
          if (id !== undefined) jobs.push(id)
          report.done(step, id ?? 'runs already')
          view = await observe(signal)
        }
      } catch (e) {
        report.failed(step, e)
        throw e
      }
    }
    throw fixErrors.NO_END({ steps: stepsMax })
  } finally {
    // Etcd forgets it by itself.
    await lock?.release().catch(() => undefined)
  }
}

/** Waiting for what can never come up helps nobody: a service that stands on a broken one is not begun with. */
function isBehindProblem(plan: FixPlan, step: FixStep): boolean {
  return plan.problems.some(p => fixOrder.indexOf(p.service) < fixOrder.indexOf(step.service))
}
