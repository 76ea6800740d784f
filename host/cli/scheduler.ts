// Asks the scheduler that leads what is left on a host (`GET /drains/:host`), with the controller's key as the hosts know it.
// Used by `drain` and `remove`.
import type { DrainReport } from '../../controller/types.ts'
import { DiscoverdClient } from '../../discoverd/client.ts'
import { errorTable } from '../../pkg/errors/errors.ts'
import { type ActiveJob, isActive } from '../types.ts'
import { newestJob } from './cli-add-command.ts'
import type { Context } from './command.ts'
import { discoverdTimeoutMs } from './hosts.ts'

export const schedulerTimeoutMs = 5_000
export const hostTimeoutMs = 2_000

const errors = errorTable({
  NO_CONTROLLER: {
    status: 503,
    message: 'no controller job runs, and without it nobody moves jobs',
    remedy: 'see the jobs with: flynn-host ps -a',
  },
  NO_SCHEDULER: {
    status: 503,
    message: 'no scheduler leads',
    remedy: 'see the jobs with: flynn-host ps -a',
  },
})

/** Active jobs of the hosts that answer. */
export async function reachableJobs(context: Context): Promise<readonly ActiveJob[]> {
  const call = { active: true, timeoutMs: hostTimeoutMs, retryMs: 0 }
  const lists = await Promise.allSettled((await context.hosts()).map(h => h.client.jobs(call)))
  return lists.flatMap(l => (l.status === 'fulfilled' ? Object.values(l.value) : [])).filter(isActive)
}

/** What the leader of the schedulers says of the host. Rejects when nobody leads or answers. */
export async function drainReportOf(context: Context, hostId: string): Promise<DrainReport> {
  const { SchedulerClient, schedulerService } = await import('../../controller/client.ts')
  const controller = newestJob(await reachableJobs(context), 'controller', 'web')
  const key = controller?.job.config.env?.['AUTH_KEY']?.split(',')[0]
  if (!key) throw errors.NO_CONTROLLER()
  const discoverd = new DiscoverdClient({ servers: context.env['DISCOVERD'] ?? '' })
  try {
    const leader = await discoverd.leader(schedulerService, { timeoutMs: discoverdTimeoutMs })
    if (leader === undefined) throw errors.NO_SCHEDULER()
    const scheduler = new SchedulerClient({ url: `http://${leader.addr}`, key })
    return await scheduler.drain(hostId, { timeoutMs: schedulerTimeoutMs, retryMs: 0 })
  } finally {
    await discoverd.close()
  }
}
