// The life of one job as a pure machine (contract host.md 3.1): starting -> running -> done | crashed | failed, events
// in order, down states final. Also: which down jobs stay listed, and what becomes of each job at daemon start.
import { type ActiveJob, isActive, type Job, type JobEventName, jobStatus, zeroTime } from '../types.ts'

/** Down jobs of one app that stay in the list; older ones are found by id only (contract host.md 3.2). */
export const listedDownJobsPerAppMax = 25

export type JobChange =
  | { readonly type: 'addressed'; readonly address: string }
  | { readonly type: 'started'; readonly at: Date; readonly pid: number }
  | { readonly type: 'exited'; readonly at: Date; readonly status: number; readonly oomKilled: boolean }
  | { readonly type: 'failed'; readonly at: Date; readonly error: string }
  /** A stop was asked for; only a starting job remembers it. */
  | { readonly type: 'stopRequested' }
  /** It was stopped while no container of it existed. */
  | { readonly type: 'neverStarted'; readonly at: Date }
  | { readonly type: 'cleaned' }

export type JobStep = { readonly job: ActiveJob; readonly event: JobEventName | undefined }

/** A job as it is stored when its PUT is accepted. */
export function newJob(job: Job, hostId: string, at: Date): ActiveJob {
  return {
    job,
    host_id: hostId,
    created_at: at.toISOString(),
    started_at: zeroTime,
    ended_at: zeroTime,
  }
}

function memoryText(job: ActiveJob): string {
  const limit = job.job.resources?.['memory']?.limit
  return limit === undefined
    ? 'its memory limit'
    : `its memory limit of ${Math.round(limit / 1024 / 1024)} MiB`
}

function down(job: ActiveJob, at: Date, members: Partial<ActiveJob>): ActiveJob {
  const { pid: _pid, ...rest } = job
  return { ...rest, ended_at: at.toISOString(), ...members }
}

/** One change applied; a change that does not fit the state leaves the job as it is and tells nobody. */
export function changeJob(job: ActiveJob, change: JobChange): JobStep {
  const same: JobStep = { job, event: undefined }
  if (change.type === 'cleaned') return isActive(job) ? same : { job, event: 'cleanup' }
  if (!isActive(job)) return same
  const starting = (job.status ?? 0) === jobStatus.starting
  switch (change.type) {
    case 'addressed':
      return { job: { ...job, internal_ip: change.address }, event: undefined }
    case 'started':
      if (!starting) return same
      return {
        job: { ...job, status: jobStatus.running, started_at: change.at.toISOString(), pid: change.pid },
        event: 'start',
      }
    case 'exited': {
      const status = change.status === 0 ? jobStatus.done : jobStatus.crashed
      const error = change.oomKilled ? { error: `out of memory: killed at ${memoryText(job)}` } : {}
      return { job: down(job, change.at, { status, exit_status: change.status, ...error }), event: 'stop' }
    }
    case 'failed':
      return { job: down(job, change.at, { status: jobStatus.failed, error: change.error }), event: 'error' }
    case 'stopRequested':
      return starting ? { job: { ...job, force_stop: true }, event: undefined } : same
    case 'neverStarted':
      if (!starting) return same
      return { job: down(job, change.at, { status: jobStatus.done, exit_status: 0 }), event: 'stop' }
  }
}

function appKey(job: ActiveJob): string {
  return job.job.config.env?.['FLYNN_APP_ID'] ?? ''
}

/**
 * Ids of the down jobs that have to leave the list, oldest first. The newest of each process of a system app stays: when all
 * of them are gone the next one is made after it (fix/plan.core.ts).
 */
export function jobsToUnlist(
  jobs: Iterable<ActiveJob>,
  max: number = listedDownJobsPerAppMax,
): readonly string[] {
  const byApp = new Map<string, ActiveJob[]>()
  const patterns = new Map<string, ActiveJob>()
  for (const job of jobs) {
    const { partition, metadata } = job.job
    if (partition === 'system') {
      const process = `${appKey(job)} ${metadata?.['flynn-controller.type'] ?? ''}`
      const newest = patterns.get(process)
      if (!newest || job.created_at >= newest.created_at) patterns.set(process, job)
    }
    if (isActive(job)) continue
    const list = byApp.get(appKey(job)) ?? []
    list.push(job)
    byApp.set(appKey(job), list)
  }
  const kept = new Set([...patterns.values()].map(job => job.job.id))
  return [...byApp.values()].flatMap(list =>
    list
      .sort((a, b) => (a.created_at < b.created_at ? -1 : 1))
      .slice(0, Math.max(0, list.length - max))
      .map(job => job.job.id)
      .filter(id => !kept.has(id)),
  )
}

/** What the daemon does with a job that was active when it went away. */
export type RestorePlan =
  /** The container is there: take it over and wait for its end. */
  | { readonly type: 'adopt'; readonly id: string; readonly pid: number }
  /** It had not run yet: start it from the beginning. */
  | { readonly type: 'start'; readonly id: string }
  /** It is gone. `resurrect`: a new job with the same specification takes its place. */
  | { readonly type: 'lost'; readonly id: string; readonly rebooted: boolean; readonly resurrect: boolean }

export type FoundContainer = {
  readonly id: string
  readonly pid: number
  readonly status: 'created' | 'running' | 'stopped'
}

/**
 * Compares the table with the containers that exist. After a reboot no container of before counts; the system jobs
 * come back by themselves (docs/wiring.md "After a power cut"), the others are the scheduler's.
 */
export function planRestore(options: {
  readonly jobs: readonly ActiveJob[]
  readonly containers: readonly FoundContainer[]
  readonly rebooted: boolean
  readonly resurrect: boolean
}): readonly RestorePlan[] {
  const found = new Map(options.containers.map(c => [c.id, c]))
  return options.jobs.filter(isActive).map((job): RestorePlan => {
    const id = job.job.id
    if (options.rebooted) {
      const resurrect = options.resurrect && job.job.partition === 'system' && !job.force_stop
      return { type: 'lost', id, rebooted: true, resurrect }
    }
    const container = found.get(id)
    const starting = (job.status ?? 0) === jobStatus.starting
    if (container && container.status !== 'created') return { type: 'adopt', id, pid: container.pid }
    if (starting) return { type: 'start', id }
    if (container) return { type: 'adopt', id, pid: container.pid }
    return { type: 'lost', id, rebooted: false, resurrect: false }
  })
}

/** The same job under a new id (contract host.md 3.5); FLYNN_JOB_ID follows when it was set. */
export function renamed(job: Job, id: string): Job {
  const env = job.config.env
  if (env?.['FLYNN_JOB_ID'] === undefined) return { ...job, id }
  return { ...job, id, config: { ...job.config, env: { ...env, FLYNN_JOB_ID: id } } }
}

/** True for jobs of one app and process type: the successor of a discoverd job is one of these. */
export function sameProcess(a: Job, b: Job): boolean {
  const key = (job: Job, name: string) => job.metadata?.[name]
  const app = key(a, 'flynn-controller.app')
  return (
    app !== undefined &&
    app === key(b, 'flynn-controller.app') &&
    key(a, 'flynn-controller.type') === key(b, 'flynn-controller.type')
  )
}

/** A process of one of the platform's own apps. */
export type ProcessName = { readonly app: string; readonly type: string }

/** The job of that process that was created last; undefined when there never was one. */
export function newestOf<T extends Pick<ActiveJob, 'job' | 'created_at'>>(
  jobs: Iterable<T>,
  process: ProcessName,
): T | undefined {
  let newest: T | undefined
  for (const job of jobs) {
    const { partition, metadata } = job.job
    if (partition !== 'system' || metadata?.['flynn-controller.app_name'] !== process.app) continue
    if (metadata['flynn-controller.type'] !== process.type) continue
    if (!newest || job.created_at >= newest.created_at) newest = job
  }
  return newest
}

/** The scheduler job of the controller that was created last. */
export function newestScheduler(jobs: Iterable<ActiveJob>): ActiveJob | undefined {
  return newestOf(jobs, { app: 'controller', type: 'scheduler' })
}
