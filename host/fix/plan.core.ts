// What has to be started, and in which order, so that a cluster works again: discoverd, postgres, scheduler, controller,
// router (contract host.md 9). Pure: a view of the cluster in, steps out. The same plan is shown by `flynn-host fix --plan`,
// carried out by run.ts, and made every few seconds by monitor.ts. After these five the scheduler does the rest.
import { newestOf, type ProcessName } from '../job/job.core.ts'
import { type ActiveJob, isActive, type Job } from '../types.ts'

export type FixService = 'discoverd' | 'postgres' | 'scheduler' | 'controller' | 'router'

/** In the order in which they need each other. */
export const fixOrder: readonly FixService[] = ['discoverd', 'postgres', 'scheduler', 'controller', 'router']

export const fixProcesses: Readonly<Record<FixService, ProcessName>> = {
  discoverd: { app: 'discoverd', type: 'app' },
  postgres: { app: 'postgres', type: 'postgres' },
  scheduler: { app: 'controller', type: 'scheduler' },
  controller: { app: 'controller', type: 'web' },
  router: { app: 'router', type: 'app' },
}

export type HostView = {
  readonly id: string
  readonly address: string
  /** Those that run and those of before; undefined when the host does not answer. */
  readonly jobs: readonly ActiveJob[] | undefined
  /** Ids of the volumes that are on the host. */
  readonly volumes: readonly string[]
  /** It is being emptied: nothing but its own discoverd is started there. */
  readonly leaving: boolean
  /** Jobs that ran elsewhere, of which the host was told (patterns.ts). */
  readonly patterns?: readonly Job[]
}

/** What discoverd says about the services; addresses. */
export type ServicesView = {
  readonly postgresLeader: string | undefined
  readonly schedulerLeader: string | undefined
  readonly controllers: readonly string[]
  readonly routers: readonly string[]
}

export type ClusterView = {
  readonly hosts: readonly HostView[]
  /** Undefined while no discoverd answers that has a majority of the peers behind it. */
  readonly services: ServicesView | undefined
}

export type FixStep =
  /** A job like an earlier one, on this host, which refuses when one of its kind is active there. */
  | { readonly kind: 'start'; readonly service: FixService; readonly host: string; readonly like: Job }
  /** Everything that can be started is: now it has to come up. */
  | { readonly kind: 'wait'; readonly service: FixService }

export type FixPlan = {
  /** In order; a step is right only once those before it are done, so the plan is made anew after each. */
  readonly steps: readonly FixStep[]
  /** One line a service that works. */
  readonly well: readonly { readonly service: FixService; readonly text: string }[]
  /** What no step can repair. */
  readonly problems: readonly { readonly service: FixService; readonly text: string }[]
}

type Stage = {
  readonly steps?: readonly FixStep[]
  readonly well?: string
  readonly problem?: string
}

type Answering = HostView & { readonly jobs: readonly ActiveJob[] }

const answering = (view: ClusterView): readonly Answering[] =>
  view.hosts.filter((h): h is Answering => h.jobs !== undefined)

function silent(view: ClusterView): string {
  const ids = view.hosts.filter(h => h.jobs === undefined).map(h => h.id)
  return ids.length === 0 ? '' : `; these hosts do not answer: ${ids.join(', ')}`
}

function isProcess(job: Job, name: ProcessName): boolean {
  return newestOf([{ job, created_at: '' }], name) !== undefined
}

const runs = (host: Answering, service: FixService): boolean =>
  host.jobs.some(j => isActive(j) && isProcess(j.job, fixProcesses[service]))

const lastOf = (host: Answering, service: FixService): ActiveJob | undefined =>
  newestOf(host.jobs, fixProcesses[service])

/** Data that stay: the job runs where they are, and nowhere without them. */
const keptVolumes = (job: Job): readonly string[] =>
  (job.config.volumes ?? []).filter(v => v.delete_on_stop !== true).map(v => v.volume)

/** The volumes that the job needs are here, and nobody has them. */
function hasItsVolumes(host: Answering, job: Job): boolean {
  const taken = new Set(
    host.jobs.filter(isActive).flatMap(j => (j.job.config.volumes ?? []).map(v => v.volume)),
  )
  return keptVolumes(job).every(id => host.volumes.includes(id) && !taken.has(id))
}

const start = (service: FixService, host: HostView, like: Job): FixStep => ({
  kind: 'start',
  service,
  host: host.id,
  like,
})

/** On every host that had one and has none, on its own data. */
function startEach(view: ClusterView, service: FixService): readonly FixStep[] {
  return answering(view).flatMap(host => {
    if (host.leaving && service !== 'discoverd') return []
    const last = runs(host, service) ? undefined : lastOf(host, service)?.job
    return last && hasItsVolumes(host, last) ? [start(service, host, last)] : []
  })
}

/** Those of which one is enough, and of which a host may never have had any. */
const toldServices: readonly FixService[] = ['scheduler', 'controller']

/** The newest that runs of each kind that a host has to be told of. */
export function patternsOf(view: ClusterView): readonly Job[] {
  const active = answering(view).flatMap(h => h.jobs.filter(isActive))
  return toldServices.flatMap(service => newestOf(active, fixProcesses[service])?.job ?? [])
}

function toldOf(host: Answering, service: FixService): Pick<ActiveJob, 'job' | 'created_at'> | undefined {
  const told = (host.patterns ?? []).map(job => ({ job, created_at: '' }))
  return newestOf(told, fixProcesses[service])
}

/** One, where the newest of its kind was; where none was, like one that a host was told of. */
function startOne(view: ClusterView, service: FixService): readonly FixStep[] {
  const lasts = answering(view).flatMap(host => {
    const last = host.leaving ? undefined : (lastOf(host, service) ?? toldOf(host, service))
    return last && hasItsVolumes(host, last.job) ? [{ host, last }] : []
  })
  const [newest] = lasts.sort((a, b) => b.last.created_at.localeCompare(a.last.created_at))
  return newest ? [start(service, newest.host, newest.last.job)] : []
}

const runsAnywhere = (view: ClusterView, service: FixService): boolean =>
  answering(view).some(h => runs(h, service))

function withWait(service: FixService, steps: readonly FixStep[]): readonly FixStep[] {
  return [...steps, { kind: 'wait', service }]
}

function discoverdStage(view: ClusterView): Stage {
  const steps = startEach(view, 'discoverd')
  if (steps.length > 0) return { steps: withWait('discoverd', steps) }
  const count = answering(view).filter(h => runs(h, 'discoverd')).length
  if (view.services) return { well: `on ${count} of ${view.hosts.length} hosts` }
  if (count > 0) return { steps: withWait('discoverd', []) }
  return { problem: `no host that answers has had a discoverd job${silent(view)}` }
}

/**
 * Each on its own volume; none is ever made on other data. Which of them may lead is Patroni's to say: it knows by etcd who
 * had everything that was acknowledged, and lets nobody else (appliance/postgresql).
 */
function postgresStage(view: ClusterView): Stage {
  const { services } = view
  if (services?.postgresLeader !== undefined) return { well: `led by ${services.postgresLeader}` }
  const running = runsAnywhere(view, 'postgres')
  // Whether it has a leader is not known yet.
  if (!services && running) return {}
  const steps = startEach(view, 'postgres')
  if (steps.length > 0 || running) return { steps: withWait('postgres', steps) }
  return { problem: `no host that answers has a volume of the database${silent(view)}` }
}

function schedulerStage(view: ClusterView): Stage {
  const { services } = view
  if (services?.schedulerLeader !== undefined) return { well: `led by ${services.schedulerLeader}` }
  if (runsAnywhere(view, 'scheduler')) return {}
  const steps = startOne(view, 'scheduler')
  return steps.length > 0 ? { steps } : { problem: `no host that answers has had a scheduler${silent(view)}` }
}

function controllerStage(view: ClusterView): Stage {
  const { services } = view
  if (services && services.controllers.length > 0) return { well: `at ${services.controllers.join(', ')}` }
  const running = runsAnywhere(view, 'controller')
  if (!services && running) return {}
  const steps = running ? [] : startOne(view, 'controller')
  if (steps.length > 0 || running) return { steps: withWait('controller', steps) }
  return { problem: `no host that answers has had a controller${silent(view)}` }
}

/** It reads everything from the controller before it says that it leads. */
function schedulerWait(view: ClusterView): Stage {
  if (!view.services || view.services.schedulerLeader !== undefined) return {}
  return { steps: withWait('scheduler', []) }
}

function routerStage(view: ClusterView): Stage {
  const { services } = view
  if (services && services.routers.length > 0) return { well: `at ${services.routers.join(', ')}` }
  const running = runsAnywhere(view, 'router')
  if (!services && running) return {}
  const steps = running ? [] : startEach(view, 'router')
  if (steps.length > 0 || running) return { steps: withWait('router', steps) }
  return { problem: `no host that answers has had a router${silent(view)}` }
}

const stages: readonly (readonly [FixService, (view: ClusterView) => Stage])[] = [
  ['discoverd', discoverdStage],
  ['postgres', postgresStage],
  ['scheduler', schedulerStage],
  ['controller', controllerStage],
  ['scheduler', schedulerWait],
  ['router', routerStage],
]

/** Nothing that runs is ever in the steps; a cluster that is well has none. */
export function planFix(view: ClusterView): FixPlan {
  const results = stages.map(([service, stage]) => ({ service, ...stage(view) }))
  return {
    steps: results.flatMap(r => r.steps ?? []),
    well: results.flatMap(r => (r.well === undefined ? [] : [{ service: r.service, text: r.well }])),
    problems: results.flatMap(r =>
      r.problem === undefined ? [] : [{ service: r.service, text: r.problem }],
    ),
  }
}

/** Whether a view of active jobs alone shows that nothing is missing; if not, the whole has to be looked at. */
export function isWell(activeOnly: ClusterView): boolean {
  const { steps, problems } = planFix(activeOnly)
  if (steps.length > 0 || problems.length > 0) return false
  return answering(activeOnly).every(host => runs(host, 'discoverd'))
}

/** One line for people. */
export function describeStep(step: FixStep): string {
  if (step.kind === 'wait') return `wait for ${step.service}`
  return `start ${step.service} on ${step.host}, like ${step.like.id}`
}

/** The same step, made from a later view. */
export function stepKey(step: FixStep): string {
  return step.kind === 'wait' ? `wait ${step.service}` : `start ${step.service} ${step.host}`
}
