// Brings back at once what nothing else does when it ends on this host: discoverd, without which nobody learns that it is
// missing, and a scheduler that ended by itself (docs/wiring.md "After a power cut"). A scheduler elsewhere is faster than this
// and wins: what is starting or running already is never started twice. A scheduler that was stopped is fix/monitor.ts's.
import { backoff } from '../../pkg/clock/clock.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { ActiveJob, Job } from '../types.ts'
import { newestScheduler, renamed, sameProcess } from './job.core.ts'
import type { JobRunner } from './runner.ts'
import type { JobTable } from './table.ts'

/** One that ended by itself is started again after this; the pause doubles while it does not last. */
export const diedAbsentMs = 1_000
export const diedAbsentMaxMs = 30_000
/** After this long on its feet the pauses begin anew. */
export const steadyMs = 60_000
/** Somebody stopped discoverd: a deployment has this long to start the next one. */
export const discoverdStoppedAbsentMs = 5_000

export type GuardianOptions = {
  readonly table: JobTable
  readonly runner: JobRunner
  readonly hostId: string
  /** The job that last said that it is discoverd, or was started in its place. */
  readonly discoverdJobId: () => string | undefined
  readonly setDiscoverdJobId: (id: string) => void
  readonly log: Logger
}

type Guarded = {
  readonly name: string
  /** The job of before, down or not. */
  readonly last: () => ActiveJob | undefined
  /** Undefined: what somebody stopped is left alone. */
  readonly stoppedAbsentMs: number | undefined
  readonly onStarted: (id: string) => void
}

/** Watches both until the returned function is called. */
export function guardSystemJobs(options: GuardianOptions): () => void {
  const { table } = options
  const discoverd = guard(options, {
    name: 'discoverd',
    last: () => {
      const id = options.discoverdJobId()
      return id === undefined ? undefined : table.get(id)
    },
    stoppedAbsentMs: discoverdStoppedAbsentMs,
    onStarted: options.setDiscoverdJobId,
  })
  const scheduler = guard(options, {
    name: 'the scheduler',
    last: () => newestScheduler(table.list()),
    stoppedAbsentMs: undefined,
    onStarted: () => undefined,
  })
  return () => {
    discoverd()
    scheduler()
  }
}

function guard({ table, runner, hostId, log }: GuardianOptions, guarded: Guarded): () => void {
  let timer: NodeJS.Timeout | undefined
  /** The job that somebody stopped, which is no reason to hurry. */
  let stopped: string | undefined
  const pauses = backoff({ minMs: diedAbsentMs, maxMs: diedAbsentMaxMs })

  /** The specification to start again, when nothing of the kind is active. */
  function missing(): ActiveJob | undefined {
    const last = guarded.last()
    if (!last) return undefined
    const alive = table.active().some(j => j.job.id === last.job.id || sameProcess(j.job, last.job))
    return alive ? undefined : last
  }
  function pauseMs(last: ActiveJob): number | undefined {
    if (stopped === last.job.id) return guarded.stoppedAbsentMs
    if (Date.parse(last.ended_at) - Date.parse(last.started_at) >= steadyMs) pauses.reset()
    return pauses.next()
  }
  function look(): void {
    const last = timer ? undefined : missing()
    const waitMs = last && pauseMs(last)
    if (waitMs === undefined) return
    timer = setTimeout(() => {
      timer = undefined
      const gone = missing()
      if (gone) startAgain(gone.job)
    }, waitMs)
  }
  function startAgain(job: Job): void {
    const successor = renamed(job, jobId(hostId))
    log.warn({ job: job.id, successor: successor.id }, `${guarded.name} is absent, starting it again`)
    try {
      runner.add(successor)
      guarded.onStarted(successor.id)
    } catch (err) {
      log.warn({ err }, `${guarded.name} could not be started, trying again`)
      look()
    }
  }
  const unlisten = table.listen(e => {
    if (e.event === 'create') return
    if (e.event === 'stop' && runner.isStopping(e.job_id) && guarded.last()?.job.id === e.job_id)
      stopped = e.job_id
    look()
  })
  look()
  return () => {
    unlisten()
    clearTimeout(timer)
  }
}
