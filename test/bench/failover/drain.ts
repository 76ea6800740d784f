// Drain of a host with ten jobs of apps, one of them with a volume of 1 GB that it goes on writing to: how long it takes, how
// long the app with the volume is away, and how many requests to an app with two processes fail meanwhile.
import assert from 'node:assert/strict'
import { request } from 'undici'
import { poll, sleep } from '../../../pkg/clock/clock.ts'
import type { TestHost } from '../../cluster/types.ts'
import { domain, type FlynnCluster } from '../../fixtures/flynn-cluster.ts'
import { startLoad } from '../../fixtures/load.ts'
import { type Scenario, type TrialResult, trialPatienceMs } from './types.ts'

const app = '/code/test/fixtures/keeper'
const volumeMegabytes = 1_024
const fillMegabytes = 64
const perSecond = 50
const lookPauseMs = 10
const callTimeoutMs = 60_000
const drainTimeoutMs = 300_000
/** With one of `pair` and the one of `keeper`, about ten jobs on each host. */
const processes = { many: 24, pair: 2, keeper: 0 } as const

type File = { readonly name: string; readonly sha256: string }
type Journal = { readonly lines: number; readonly whole: boolean }

async function keeper<T>(host: TestHost, path: string): Promise<T> {
  const answer = await request(`http://${host.address}${path}`, {
    headers: { host: `keeper.${domain}` },
    signal: AbortSignal.timeout(callTimeoutMs),
  })
  const text = await answer.body.text()
  assert.equal(answer.statusCode, 200, text)
  return JSON.parse(text) as T
}

const appOf = (job: { readonly metadata?: Readonly<Record<string, string>> }) =>
  job.metadata?.['flynn-controller.app_name'] ?? ''

async function homeOf(cluster: FlynnCluster): Promise<TestHost> {
  const job = (await cluster.jobs()).find(j => appOf(j.job) === 'keeper')
  const host = cluster.hosts.find(h => h.name === job?.host_id)
  assert.ok(host, 'a job of keeper')
  return host
}

async function prepare(cluster: FlynnCluster): Promise<void> {
  for (const [name, web] of Object.entries(processes)) {
    await cluster.run('flynn', 'create', '--remote', '', name)
    await cluster.run('flynn', '-a', name, 'deploy', app)
    await cluster.run('flynn', '-a', name, 'scale', `web=${web}`)
  }
  await cluster.run('flynn', '-a', 'keeper', 'release', 'update', `${app}/volume.json`)
  await cluster.run('flynn', '-a', 'keeper', 'scale', 'web=1')
  const host = cluster.hosts[0] as TestHost
  await poll(() => keeper(host, '/').then(() => true), { timeoutMs: trialPatienceMs, what: 'keeper' })
  for (let mb = 0; mb < volumeMegabytes; mb += fillMegabytes) await keeper(host, `/fill?mb=${fillMegabytes}`)
}

/** Asks for the page of the app with the volume until the signal aborts; resolves with the longest time without one. */
async function longestGapMs(cluster: FlynnCluster, host: TestHost, signal: AbortSignal): Promise<number> {
  let lastGood = performance.now()
  let longest = 0
  while (!signal.aborted) {
    const status = await cluster.visit(host, 'keeper')
    if (status === 200) {
      longest = Math.max(longest, performance.now() - lastGood)
      lastGood = performance.now()
    }
    await sleep(lookPauseMs, signal).catch(() => undefined)
  }
  return longest
}

async function trial(cluster: FlynnCluster, n: number): Promise<TrialResult> {
  if (n === 0) await prepare(cluster)
  const home = await homeOf(cluster)
  const other = cluster.hosts.find(h => h !== home) as TestHost
  const jobs = (await cluster.jobs()).filter(j => j.host_id === home.name && appOf(j.job) in processes)
  const before = await keeper<readonly File[]>(other, '/sums')
  const journal = await keeper<Journal>(other, '/journal')
  const load = startLoad({
    address: other.address,
    hostName: `pair.${domain}`,
    pages: { '/': 'keeper' },
    perSecond,
  })
  const looking = new AbortController()
  const gap = longestGapMs(cluster, other, looking.signal)
  const begin = performance.now()
  const drained = await other.exec(['flynn-host', 'drain', home.name], { timeoutMs: drainTimeoutMs })
  const tookMs = performance.now() - begin
  assert.equal(drained.code, 0, drained.stderr)
  await poll(async () => (await cluster.visit(other, 'keeper')) === 200, {
    timeoutMs: trialPatienceMs,
    what: 'the app with the volume on its new host',
  })
  await sleep(lookPauseMs * 10)
  looking.abort()
  const awayMs = await gap
  const visits = await load.stop()
  const after = await keeper<readonly File[]>(other, '/sums')
  const journalAfter = await keeper<Journal>(other, '/journal')
  const sameFiles = JSON.stringify(after) === JSON.stringify(before)
  const sameLines = journalAfter.whole && journalAfter.lines >= journal.lines
  await other.run(['flynn-host', 'drain', '--cancel', home.name])
  // Back to about ten jobs on each host.
  await cluster.run('flynn', '-a', 'many', 'scale', 'web=0')
  await cluster.run('flynn', '-a', 'many', 'scale', `web=${processes.many}`)
  return {
    timesMs: { drain: tookMs, 'app with the volume away': awayMs },
    counts: {
      jobs: jobs.length,
      requests: visits.length,
      failed: visits.filter(v => v.failure !== undefined).length,
      'files or lines lost': Number(!sameFiles) + Number(!sameLines),
    },
  }
}

export const drain: Scenario = {
  title: `drain of a host with ten jobs and a volume of ${volumeMegabytes} MB`,
  aims: [{ name: 'app with the volume away', statistic: 'max', underMs: 3_000 }],
  zero: ['failed', 'files or lines lost'],
  trial,
}
