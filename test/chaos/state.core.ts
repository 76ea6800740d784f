// What is wrong with a cluster that should be whole, from one look at it: wrong counts, jobs that run twice or that only
// one side knows, two leaders, two writers of one volume, things that dead jobs left. Pure.
import { type ActiveJob, jobStatus } from '../../host/types.ts'

export type HostView = {
  readonly name: string
  /** Starting or running, as the host says. */
  readonly jobs: readonly ActiveJob[]
  /** Ids, as containerd says. */
  readonly tasks: readonly string[]
  readonly containers: readonly string[]
  readonly mounts: readonly string[]
  /** How many cables lead to containers. */
  readonly links: number
  /** Status of the app's page through this host's router. */
  readonly page: number
}

/** As each host's daemon shows it, in the order of the hosts. */
export type ServiceView = {
  readonly name: string
  readonly seen: readonly { readonly instances: readonly string[]; readonly leader: string | undefined }[]
}

export type PostgresView = { readonly address: string; readonly role: string; readonly state: string }

export type ClusterView = {
  readonly hosts: readonly HostView[]
  readonly services: readonly ServiceView[]
  /** `id state` of the jobs that the controller takes to be active. */
  readonly controllerJobs: readonly string[]
  readonly etcdLeaders: readonly string[]
  readonly postgres: readonly PostgresView[]
}

export type Counts = Readonly<Record<string, number>>

/** Empty when all is well. */
export function stateFaults(view: ClusterView, wanted: Counts): string[] {
  return [
    ...countFaults(view, wanted),
    ...doubleFaults(view),
    ...leftoverFaults(view),
    ...serviceFaults(view),
    ...postgresFaults(view, wanted),
    ...view.hosts.filter(h => h.page !== 200).map(h => `the page through ${h.name} answers ${h.page}`),
  ]
}

export function jobName({ job }: ActiveJob): string {
  return `${job.metadata?.['flynn-controller.app_name']}/${job.metadata?.['flynn-controller.type']}`
}

const allJobs = (view: ClusterView) => view.hosts.flatMap(h => h.jobs)

function countFaults(view: ClusterView, wanted: Counts): string[] {
  const counts: Record<string, number> = {}
  for (const job of allJobs(view)) counts[jobName(job)] = (counts[jobName(job)] ?? 0) + 1
  const names = new Set([...Object.keys(wanted), ...Object.keys(counts)])
  const found = [...names].flatMap(name => {
    const [have, want] = [counts[name] ?? 0, wanted[name] ?? 0]
    return have === want ? [] : [`${have} jobs of ${name}, wanted ${want}`]
  })
  const starting = allJobs(view).filter(j => j.status !== jobStatus.running)
  return [...found, ...starting.map(j => `${j.job.id} of ${jobName(j)} is only starting`)]
}

function doubleFaults(view: ClusterView): string[] {
  const found: string[] = []
  const running = new Set(allJobs(view).map(j => j.job.id))
  const known = new Set(view.controllerJobs.map(j => j.split(' ')[0] ?? ''))
  for (const id of running)
    if (!known.has(id)) found.push(`job ${id} runs and the controller does not know it`)
  for (const id of known)
    if (!running.has(id)) found.push(`the controller counts on job ${id}, which is gone`)
  const writers = new Map<string, string[]>()
  for (const job of allJobs(view))
    for (const { volume } of job.job.config.volumes ?? [])
      writers.set(volume, [...(writers.get(volume) ?? []), job.job.id])
  for (const [volume, jobs] of writers)
    if (jobs.length > 1) found.push(`volume ${volume} has two writers: ${jobs.join(', ')}`)
  return found
}

function leftoverFaults(view: ClusterView): string[] {
  return view.hosts.flatMap(host => {
    const ids = new Set(host.jobs.map(j => j.job.id))
    const stray = (what: string, found: readonly string[]) =>
      found.filter(id => !ids.has(id)).map(id => `${host.name} still has ${what} of ${id}`)
    const mounted = host.mounts.flatMap(
      m => /\/(?:jobs|v2\.task\/flynn)\/([^/]+)\/(?:disk|rootfs)/.exec(m)?.[1] ?? [],
    )
    const lost = [...ids].filter(id => !host.tasks.includes(id)).map(id => `${host.name}: ${id} has no task`)
    const cabled = host.jobs.filter(j => j.internal_ip !== undefined).length
    const links =
      host.links === cabled ? [] : [`${host.name} has ${host.links} cables for ${cabled} containers`]
    return [
      ...stray('the task', host.tasks),
      ...stray('the container', host.containers),
      ...stray('a mount', [...new Set(mounted)]),
      ...lost,
      ...links,
    ]
  })
}

function serviceFaults(view: ClusterView): string[] {
  const found: string[] = []
  for (const { name, seen } of view.services) {
    const [first] = seen
    const views = new Set(seen.map(s => JSON.stringify(s)))
    if (views.size > 1) found.push(`${name} looks different on the hosts: ${[...views].join(' ')}`)
    if (!first || first.instances.length === 0) continue
    if (first.leader === undefined) found.push(`${name} has no leader`)
    else if (!first.instances.includes(first.leader))
      found.push(`${name} is led by ${first.leader}, which is no instance of it`)
  }
  if (new Set(view.etcdLeaders).size !== 1)
    found.push(`the consensus has several leaders: ${view.etcdLeaders.join(', ')}`)
  return [...found, ...strayInstances(view)]
}

/** An address in the overlay that no job has. */
function strayInstances(view: ClusterView): string[] {
  const owned = new Set(allJobs(view).flatMap(j => j.internal_ip ?? []))
  return view.services.flatMap(({ name, seen }) =>
    (seen[0]?.instances ?? [])
      .filter(a => a.startsWith('100.100.') && !owned.has(a.split(':')[0] ?? ''))
      .map(a => `${name} has the instance ${a}, which no job is`),
  )
}

const leaderRoles = ['primary', 'master', 'leader']

function postgresFaults(view: ClusterView, wanted: Counts): string[] {
  const leads = view.postgres.filter(p => leaderRoles.includes(p.role)).map(p => p.address)
  const named = view.services.find(s => s.name === 'postgres')?.seen[0]?.leader
  const found = view.postgres
    .filter(p => p.state !== 'running' && p.state !== 'streaming')
    .map(p => `postgres at ${p.address} is ${p.state || 'silent'}`)
  const want = wanted['postgres/postgres'] ?? view.postgres.length
  if (view.postgres.length !== want) found.push(`${view.postgres.length} of ${want} servers are registered`)
  if (leads.length !== 1) found.push(`${leads.length} servers take writes: ${leads.join(', ')}`)
  else if (leads[0] !== named) found.push(`postgres is led by ${leads[0]}, discoverd says ${named}`)
  return found
}
