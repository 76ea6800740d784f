// Looks after the cluster from every host's daemon (contract host.md 9.1): one of them, by an etcd lease, looks every few
// seconds, and repairs what has been missing for longer than the grace. Only in a cluster that has been bootstrapped. Hosts
// that are away do not stop it. What ended by itself on one host is guardian.ts's, which is faster.
import { sleep } from '../../pkg/clock/clock.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import type { EtcdClient } from '../../pkg/etcd/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { JoinRequest } from '../types.ts'
import { type FixLock, isLocked, tryLock } from './lock.ts'
import { discoverdOf, observeCluster } from './observe.ts'
import { type Told, tellPatterns } from './patterns.ts'
import { describeStep, type FixPlan, isWell, planFix, stepKey } from './plan.core.ts'
import { type FixReport, runFix } from './run.ts'

export const monitorPeriodMs = 5_000
/** Between two looks while nothing is missing; each is half a dozen requests. */
export const calmPeriodMs = 10_000
/** What is missing for so long is not on its way any more: a deployment or the scheduler would have brought it. */
export const faultGraceMs = 30_000
/** Set by the last step of a bootstrap (contract host.md 7.3). */
export const monitorService = 'cluster-monitor'

export type MonitorOptions = {
  readonly hostId: string
  readonly externalIp: string
  /** Hosts of the cluster as known now, this one among them. */
  readonly hosts: () => readonly JoinRequest[]
  readonly etcd: EtcdClient
  readonly authKey: string
  readonly log: Logger
}

/** When each thing that a plan would start was first found missing. */
export function ageFaults(
  before: ReadonlyMap<string, number>,
  plan: FixPlan,
  nowMs: number,
): ReadonlyMap<string, number> {
  const starts = plan.steps.filter(s => s.kind === 'start').map(stepKey)
  return new Map(starts.map(key => [key, before.get(key) ?? nowMs]))
}

export function isDue(faults: ReadonlyMap<string, number>, nowMs: number): boolean {
  return [...faults.values()].some(sinceMs => nowMs - sinceMs >= faultGraceMs)
}

function reportTo(log: Logger): FixReport {
  return {
    started: step => log.info({ step: describeStep(step) }, 'repair begins'),
    done: (step, text) => log.info({ step: describeStep(step), result: text }, 'repair done'),
    failed: (step, err) => log.error({ step: describeStep(step), err }, 'repair failed'),
    info: text => log.info(text),
  }
}

/** Watches and repairs until the signal aborts. */
export async function monitorCluster(options: MonitorOptions, signal: AbortSignal): Promise<void> {
  const { hostId, etcd, log } = options
  while (!signal.aborted) {
    try {
      const lock = await tryLock(etcd, 'monitor', hostId)
      if (isLocked(lock)) await lead(options, lock, signal)
    } catch (err) {
      // No etcd, no majority: nobody may act.
      if (!signal.aborted) log.debug({ err }, 'nobody can watch the cluster now')
    }
    await sleep(monitorPeriodMs, signal).catch(() => undefined)
  }
}

async function lead(options: MonitorOptions, lock: FixLock, signal: AbortSignal): Promise<void> {
  const { hostId, log } = options
  log.info('this host watches the cluster')
  const own = new AbortController()
  const both = AbortSignal.any([signal, own.signal])
  void lock.lost.then(() => own.abort())
  let faults: ReadonlyMap<string, number> = new Map()
  const told: Told = new Map()
  try {
    while (!both.aborted) {
      faults = await look(options, { faults, told }, both)
      await sleep(faults.size > 0 ? monitorPeriodMs : calmPeriodMs, both)
    }
  } catch (err) {
    if (!both.aborted) log.error({ err, hostId }, 'watching the cluster failed, another host goes on')
  } finally {
    await lock.release().catch((err: unknown) => log.debug({ err }, 'the lease ends by itself'))
  }
}

/** One look; repairs when something has been missing for too long. Answers what is missing. */
async function look(
  options: MonitorOptions,
  { faults: before, told }: { readonly faults: ReadonlyMap<string, number>; readonly told: Told },
  signal: AbortSignal,
): Promise<ReadonlyMap<string, number>> {
  const { etcd, authKey, hostId, log } = options
  const known = options.hosts()
  const addresses = known.map(h => h.address)
  const nearestFirst = [options.externalIp, ...addresses.filter(a => a !== options.externalIp)]
  const discoverd = discoverdOf(nearestFirst)
  const whole = { hosts: known, authKey, discoverd, signal }
  const observe = () => observeCluster(whole)
  try {
    const switched = await discoverd.getMeta(monitorService, { timeoutMs: monitorPeriodMs, signal })
    if ((switched?.data as { enabled?: unknown } | null | undefined)?.enabled !== true) return new Map()
    const active = await observeCluster({ ...whole, activeOnly: true })
    if (isWell(active)) {
      await tellPatterns(active, told, { authKey, log, signal })
      return new Map()
    }
    const view = await observe()
    // Without a majority there may be another majority elsewhere.
    if (!view.services) return new Map()
    const plan = planFix(view)
    const faults = ageFaults(before, plan, performance.now())
    for (const key of faults.keys()) if (!before.has(key)) log.warn({ fault: key }, 'something is missing')
    if (!isDue(faults, performance.now())) return faults
    log.warn({ steps: plan.steps.map(describeStep) }, 'repairing the cluster')
    const report = reportTo(log)
    const result = await runFix({ observe, etcd, authKey, holder: `host ${hostId}`, report, signal })
    log.info({ jobs: result.jobs }, 'the cluster is repaired')
  } catch (err) {
    signal.throwIfAborted()
    log.warn({ err }, `the cluster is not well: ${describeError(err)}`)
  } finally {
    await discoverd.close()
  }
  return new Map()
}
