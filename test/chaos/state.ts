// Everything that the checks look at, read from a healed cluster at one moment: each host's jobs, containers, mounts and
// links, each daemon's view of services, the controller's jobs. state.core.ts says what is wrong with it.
import type { ExpandedFormation, Job } from '../../controller/types.ts'
import type { TestHost } from '../cluster/types.ts'
import { domain, type FlynnCluster } from '../fixtures/flynn-cluster.ts'
import type { ClusterView, Counts, HostView, PostgresView, ServiceView } from './state.core.ts'
import type { Wire } from './wire.ts'
import { controllerHeaders } from './workload.ts'

const lookTimeoutMs = 10_000
const call = { timeoutMs: lookTimeoutMs, retryMs: 0 }

export type Observer = {
  readonly cluster: FlynnCluster
  readonly wire: Wire
  readonly controllerKey: string
}

/** Rejects when a host or daemon does not answer: then the cluster is not healed. */
export async function viewCluster(observer: Observer): Promise<ClusterView> {
  const { cluster } = observer
  const hosts = await Promise.all(cluster.hosts.map(h => viewHost(observer, h)))
  const [first] = cluster.hosts
  if (!first) throw new Error('no hosts')
  const names = await cluster.discoverd(first).services(call)
  const services = await Promise.all(names.map(name => viewService(cluster, name)))
  const jobs = await askController<readonly Job[]>(observer, '/active-jobs')
  const controllerJobs = jobs.map(j => `${j.id} ${j.state}`)
  const etcdLeaders = await Promise.all(
    cluster.hosts.map(async h => (await cluster.discoverd(h).raftLeader(call)).host),
  )
  return { hosts, services, controllerJobs, etcdLeaders, postgres: await viewPostgres(cluster, services) }
}

async function viewHost({ cluster, wire }: Observer, host: TestHost): Promise<HostView> {
  const jobs = Object.values(await cluster.host(host).jobs({ ...call, active: true }))
  const script = `ctr -a /run/flynn/containerd.sock -n flynn tasks ls | tail -n +2
echo ---
ctr -a /run/flynn/containerd.sock -n flynn containers ls -q
echo ---
cat /proc/self/mounts
echo ---
ip -br link show type veth`
  const printed = await host.run(['sh', '-c', script], { timeoutMs: lookTimeoutMs })
  const [tasks = '', containers = '', mounts = '', links = ''] = printed.split('---\n')
  const headers = { host: `guestbook.${domain}` }
  const page = await wire.ask({ url: `http://${host.address}/`, headers, timeoutMs: lookTimeoutMs })
  return {
    name: host.name,
    jobs,
    tasks: lines(tasks).map(l => l.split(/\s+/)[0] ?? ''),
    containers: lines(containers),
    mounts: lines(mounts).map(l => l.split(' ')[1] ?? ''),
    // The host's own cable is one too.
    links: lines(links).filter(l => l.startsWith('veth')).length,
    page: page.type === 'answered' ? page.status : 0,
  }
}

const lines = (text: string) => text.split('\n').filter(l => l !== '')

async function viewService(cluster: FlynnCluster, name: string): Promise<ServiceView> {
  const seen = cluster.hosts.map(async h => {
    const discoverd = cluster.discoverd(h)
    const instances = await discoverd.instances(name, call)
    const leader = await discoverd.leader(name, call)
    return { instances: instances.map(i => i.addr).sort(), leader: leader?.addr }
  })
  return { name, seen: await Promise.all(seen) }
}

async function askController<T>(observer: Observer, path: string): Promise<T> {
  const [host] = observer.cluster.hosts
  const answer = await observer.wire.ask({
    url: `http://${host?.address}${path}`,
    headers: controllerHeaders(observer.controllerKey),
    timeoutMs: lookTimeoutMs,
  })
  if (answer.type === 'answered' && answer.status === 200) return JSON.parse(answer.text) as T
  throw new Error(`the controller does not answer: ${JSON.stringify(answer).slice(0, 200)}`)
}

/** What the controller wants to run, by `app/type`. */
export async function wantedJobs(observer: Observer): Promise<Counts> {
  const counts: Record<string, number> = {}
  const formations = await askController<readonly ExpandedFormation[]>(observer, '/formations?active=true')
  for (const { app, release, processes } of formations)
    for (const [type, count] of Object.entries(processes ?? {})) {
      const each = release?.processes?.[type]?.omni ? observer.cluster.hosts.length : 1
      if (count > 0) counts[`${app?.name}/${type}`] = count * each
    }
  return counts
}

/** Asks each server itself whether it takes writes. */
async function viewPostgres(
  cluster: FlynnCluster,
  services: readonly ServiceView[],
): Promise<readonly PostgresView[]> {
  const service = services.find(s => s.name === 'postgres')
  const [first] = cluster.hosts
  return Promise.all(
    (service?.seen[0]?.instances ?? []).map(async address => {
      const url = `http://${address.split(':')[0]}:8008/patroni`
      const printed = await first?.run(['curl', '-sS', '--max-time', '5', url], { timeoutMs: lookTimeoutMs })
      const { role, state } = JSON.parse(printed ?? '{}') as { role?: string; state?: string }
      return { address, role: role ?? '', state: state ?? '' }
    }),
  )
}
