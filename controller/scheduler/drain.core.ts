// Draining a host (contract host.md 1.12): its jobs get replacements on other hosts first, and are stopped only when those
// are up, so that no type is ever below its count for it. Jobs that hold data stay with their volume until that has
// moved; omni jobs belong to the host and stay until it is removed. Called by formation.core.ts.
import { leadsService, stopBudget } from './handover.core.ts'
import { createJob, stopJob } from './job.core.ts'
import type { Formation, Host, Job } from './state.core.ts'
import { isActive, processOf, type Step } from './step.core.ts'

export function drainingHost(step: Step, hostId: string | undefined): Host | undefined {
  const host = hostId === undefined ? undefined : step.draft.hosts.get(hostId)
  return host?.draining ? host : undefined
}

/** Whether the job has data that must go with it. */
export function holdsData(step: Step, job: Job): boolean {
  return job.volumeIds.some(id => step.draft.volumes.get(id)?.deleteOnStop === false)
}

/** Whether another job is to take this one's place on another host. */
export function isLeaving(step: Step, job: Job): boolean {
  return (
    isActive(job) &&
    job.formationKey !== undefined &&
    processOf(step, job)?.omni !== true &&
    drainingHost(step, job.hostId) !== undefined &&
    !holdsData(step, job)
  )
}

export type Leaving = {
  /** All active jobs of the type. */
  readonly jobs: readonly Job[]
  readonly wanted: number
  /** For what stays, when there is too much of it. */
  readonly stopSurplus: (step: Step, formation: Formation, jobs: readonly Job[], count: number) => void
}

/** Starts what will replace the jobs that leave, and stops as many of those as are not needed any more. */
export function replaceLeaving(
  step: Step,
  formation: Formation,
  type: string,
  { jobs, wanted, stopSurplus }: Leaving,
): void {
  const leaving = jobs.filter(j => isLeaving(step, j))
  const staying = jobs.filter(j => !leaving.includes(j))
  for (let i = staying.length; i < wanted; i++) createJob(step, formation, type)
  const up = staying.filter(j => j.phase === 'running').length
  const spare = Math.min(leaving.length, up + leaving.length - wanted)
  const rank = (job: Job): number => {
    if (job.phase !== 'running') return 0
    return leadsService(step, formation, job) ? 2 : 1
  }
  for (const job of [...leaving].sort((a, b) => rank(a) - rank(b)).slice(0, Math.max(0, spare)))
    if (job.phase !== 'running' || stopBudget(step, formation, type) > 0) stopJob(step, job)
  const surplus = staying.length - wanted
  // A scale-down while the host is drained: what has yet to come up goes first, so nobody misses it.
  if (surplus > 0) stopSurplus(step, formation, staying, surplus)
}
