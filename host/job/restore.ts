// What a starting daemon does about the jobs of before: takes over the containers that live, ends the records of those
// that are gone, and after a power cut lets the system jobs come back, discoverd first (docs/wiring.md).

import { jobId } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { Engines } from '../engines.ts'
import { hostErrors } from '../errors.ts'
import { isActive, type Job } from '../types.ts'
import { planRestore, type RestorePlan, renamed } from './job.core.ts'
import type { JobRunner } from './runner.ts'
import type { JobTable } from './table.ts'

export type RestoreOptions = {
  readonly table: JobTable
  readonly runner: JobRunner
  readonly engines: Engines
  readonly hostId: string
  readonly rebooted: boolean
  readonly resurrect: boolean
  /** True for the job that provides discoverd: it starts before the others. */
  readonly isDiscoverd: (job: Job) => boolean
  /** A job of before has come back under another id. */
  readonly onRenamed: (before: string, after: string) => void
  readonly log: Logger
}

/** Resolves when everything that lives is taken over; starts and clean-ups go on in the background. */
export async function restoreJobs(options: RestoreOptions): Promise<void> {
  const { table, runner, engines, log } = options
  const containers = await engines.runtime.list()
  const plan = planRestore({
    jobs: table.list(),
    // Without a process there is nothing to take over: its shim was killed, or the power was off.
    containers: options.rebooted ? [] : containers.filter(c => c.pid > 0),
    rebooted: options.rebooted,
    resurrect: options.resurrect,
  })
  log.info({ rebooted: options.rebooted, plan: plan.map(p => `${p.type} ${p.id}`) }, 'restoring jobs')
  const unfinished = table.list().filter(j => !isActive(j) && !table.isCleaned(j.job.id))
  for (const step of plan) if (step.type === 'adopt') await adopt(options, step)
  for (const step of plan) if (step.type === 'lost') end(options, step)
  for (const j of unfinished) background(options, j.job.id, runner.clean(j.job.id))
  for (const { id } of containers)
    if (!table.get(id)) {
      log.warn({ container: id }, 'removing a container that no job has')
      background(options, id, engines.runtime.remove(id))
    }
  // A container that was made and never ran has an address of its own idea: made anew.
  for (const step of plan) if (step.type === 'start') await engines.runtime.remove(step.id)
  startWaiting(options)
}

/** Everything that is to run and has no container, discoverd before the rest. */
function startWaiting({ table, runner, isDiscoverd }: RestoreOptions): void {
  const waiting = table.active().filter(j => (j.status ?? 0) === 0 && !runner.isRunning(j.job.id))
  const first = waiting.filter(j => isDiscoverd(j.job))
  const rest = waiting.filter(j => !isDiscoverd(j.job))
  for (const { job } of [...first, ...rest]) void runner.start(job.id)
}

async function adopt(options: RestoreOptions, step: RestorePlan & { type: 'adopt' }): Promise<void> {
  try {
    await options.runner.adopt(step.id, step.pid)
  } catch (err) {
    // One job that cannot be taken over must not keep the others from it (contract host.md 10, no. 9, 10).
    options.log.error({ job: step.id, err }, 'job could not be taken over')
    background(options, step.id, options.runner.lost(step.id, 'failed to connect to container'))
  }
}

function end(options: RestoreOptions, step: RestorePlan & { type: 'lost' }): void {
  const { table, runner, hostId } = options
  const error = step.rebooted
    ? hostErrors.HOST_RESTARTED().message
    : hostErrors.CONTAINER_LOST({ id: step.id }).message
  const old = table.get(step.id)
  if (step.resurrect && old) {
    const change = { type: 'failed', at: new Date(), error } as const
    const successor = renamed(old.job, jobId(hostId))
    table.replace(step.id, change, successor)
    options.onRenamed(step.id, successor.id)
  }
  background(options, step.id, runner.lost(step.id, error))
}

function background({ log }: RestoreOptions, id: string, work: Promise<unknown>): void {
  work.catch((err: unknown) => log.error({ job: id, err }, 'clean-up of an old job failed'))
}
