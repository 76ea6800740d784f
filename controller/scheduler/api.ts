// HTTP surface of the scheduler: its state for people who look for a fault, and its health (contract controller.md 1.11).
import { httpd, type Server } from '../../pkg/httpd/httpd.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { drainReport } from './drain-report.core.ts'
import { explainJob } from './explain.core.ts'
import type { Scheduler } from './scheduler.ts'
import type { State } from './state.core.ts'

export type ApiOptions = {
  readonly scheduler: Scheduler
  readonly jobId: string
  readonly authKeys: readonly string[]
  readonly log: Logger
}

function describe(state: State, jobId: string): Record<string, unknown> {
  const live = [...state.jobs].filter(([, job]) => job.phase !== 'stopped')
  return {
    job_id: jobId,
    hosts: Object.fromEntries(state.hosts),
    jobs: Object.fromEntries(live),
    formations: Object.fromEntries(state.formations),
    volumes: Object.fromEntries(state.volumes),
    routers: [...state.routers.values()].map(r => ({ id: r.id, backends: [...r.backends.values()] })),
    ...(state.leader ? { is_leader: true } : {}),
  }
}

/** `/debug/state` needs the controller's key: it names every app and host. */
export function schedulerApi(options: ApiOptions): Server {
  const { scheduler } = options
  const server = httpd({
    log: options.log,
    name: 'controller-scheduler',
    authKeys: () => options.authKeys,
    authExempt: req => req.url === '/.well-known/status',
    unauthorized: 'empty',
    status: () => ({ loaded: scheduler.state.loaded, leader: scheduler.state.leader }),
  })
  server.get('/debug/state', async () => describe(scheduler.state, options.jobId))
  server.get<{ Params: { host: string } }>('/drains/:host', async req =>
    drainReport(scheduler.state, req.params.host, id => scheduler.appName(id)),
  )
  server.get<{ Params: { uuid: string } }>('/jobs/:uuid/explanation', async (req, reply) => {
    const told = explainJob(scheduler.state, req.params.uuid, Date.now())
    return told ?? reply.code(404).send()
  })
  return server
}
