// Power-off of a host with processes of an app: how long until its instances are gone at every other host, until the
// replacement is up, and how many requests to the app failed that were begun after the plug was pulled.
import { poll, sleep } from '../../../pkg/clock/clock.ts'
import type { TestHost } from '../../cluster/types.ts'
import { testDatabase } from '../../fixtures/database.ts'
import { countJobs, type FlynnCluster } from '../../fixtures/flynn-cluster.ts'
import { type Scenario, type TrialResult, trialPatienceMs } from './types.ts'

const web = 'guestbook-web'
/** A page that asks no database: the host that dies may be its primary's, which has scenarios of its own. */
const page = '/healthz'
const processes = 3
const visitPauseMs = 10
/** A request that was under way to the dead host is answered by another instance within this time. */
const visitTimeoutMs = 30_000
const lanes = 2
const failuresShownMax = 10

type Visit = {
  readonly host: string
  readonly beganMs: number
  readonly tookMs: number
  /** 0 without an answer. */
  readonly status: number
}

async function visitAll(
  cluster: FlynnCluster,
  hosts: readonly TestHost[],
  visits: Visit[],
  signal: AbortSignal,
): Promise<void> {
  const lane = async (host: TestHost) => {
    while (!signal.aborted) {
      const beganMs = Date.now()
      const status = await cluster.visit(host, 'guestbook', page, visitTimeoutMs)
      visits.push({ host: host.name, beganMs, tookMs: Date.now() - beganMs, status })
      await sleep(visitPauseMs, signal).catch(() => undefined)
    }
  }
  await Promise.all(hosts.flatMap(h => Array.from({ length: lanes }, () => lane(h))))
}

/** Resolves with the time when the list of the app's instances, as seen at a host, is as wanted. */
async function seen(
  cluster: FlynnCluster,
  host: TestHost,
  fits: (addrs: readonly string[]) => boolean,
): Promise<number> {
  const client = cluster.discoverd(host)
  await poll(async () => fits((await client.instances(web)).map(i => i.addr)), {
    timeoutMs: trialPatienceMs,
    intervalMs: 25,
    what: `instances of ${web} at ${host.name}`,
  })
  return Date.now()
}

async function settled(cluster: FlynnCluster): Promise<void> {
  const wanted: Readonly<Record<string, number>> = {
    'discoverd/app': 3,
    'router/app': 3,
    'controller/scheduler': 3,
    'postgres/postgres': 3,
    'guestbook/web': processes,
  }
  await poll(
    async () => {
      const counts = countJobs(await cluster.jobs())
      return Object.entries(wanted).every(([key, n]) => counts[key] === n)
    },
    { timeoutMs: trialPatienceMs, intervalMs: 500, what: 'the jobs to settle' },
  )
  await Promise.all(cluster.hosts.map(h => seen(cluster, h, addrs => addrs.length === processes)))
  // Else the next host to die may have the only complete copy of the database, and nobody may take over from it.
  await testDatabase(cluster).well(3)
  // The router of a host that came back may be up and not serve yet.
  const serves = (h: TestHost) =>
    poll(async () => (await cluster.visit(h, 'guestbook', page)) === 200, {
      timeoutMs: trialPatienceMs,
      what: `the page through the router of ${h.name}`,
    })
  await Promise.all(cluster.hosts.map(serves))
}

async function subnetOf(cluster: FlynnCluster, host: TestHost): Promise<string> {
  const { network } = await cluster.host(host).status()
  return `${(network?.subnet ?? '').split('.', 3).join('.')}.`
}

/** One process of the app on each host, which a host that came back may lack. */
async function spread(cluster: FlynnCluster): Promise<void> {
  await cluster.run('flynn', '-a', 'guestbook', 'scale', `web=${processes - 1}`)
  await cluster.run('flynn', '-a', 'guestbook', 'scale', `web=${processes}`)
}

async function trial(cluster: FlynnCluster, n: number): Promise<TrialResult> {
  const victim = cluster.hosts[n % cluster.hosts.length] as TestHost
  const survivors = cluster.hosts.filter(h => h !== victim)
  await settled(cluster)
  const subnet = await subnetOf(cluster, victim)
  const there = async () =>
    (await cluster.discoverd(victim).instances(web)).some(i => i.addr.startsWith(subnet))
  if (!(await there())) await spread(cluster)
  const visits: Visit[] = []
  const stop = new AbortController()
  const visiting = visitAll(cluster, survivors, visits, stop.signal)
  await sleep(500)
  const offMs = Date.now()
  await victim.powerOff()
  const deadMs = Date.now()
  const gone = await Promise.all(
    survivors.map(h => seen(cluster, h, addrs => addrs.every(a => !a.startsWith(subnet)))),
  )
  const up = await seen(cluster, survivors[0] as TestHost, addrs => addrs.length === processes)
  stop.abort()
  await visiting
  // What ended before is not of this death: the client's connections to the host that died last, mostly.
  const failed = visits.filter(v => v.status !== 200 && v.beganMs + v.tookMs >= offMs)
  for (const v of failed.slice(0, failuresShownMax))
    process.stderr.write(
      `  ${v.status} from ${v.host}, begun ${v.beganMs - offMs} ms after it, took ${v.tookMs} ms\n`,
    )
  await cluster.boot(victim)
  await settled(cluster)
  return {
    timesMs: { gone: Math.max(...gone) - offMs, replaced: up - offMs, 'whole again': Date.now() - offMs },
    counts: {
      requests: visits.length,
      'failed, in flight': failed.filter(v => v.beganMs <= deadMs).length,
      'failed, begun later': failed.filter(v => v.beganMs > deadMs).length,
    },
  }
}

export const host: Scenario = {
  title: 'power-off of a host',
  aims: [
    { name: 'gone', statistic: 'max', underMs: 6_000 },
    { name: 'replaced', statistic: 'p99', underMs: 15_000 },
  ],
  zero: ['failed, in flight', 'failed, begun later'],
  trial,
}
