// What the platform takes of a machine when nothing happens: memory and processor time by process, on a one-node
// cluster whose one app is scaled to nothing. See README.md for how to run it and how to read it.
import { parseArgs } from 'node:util'
import { HostClient } from '../../host/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { table } from '../../pkg/table/table.ts'
import { openCluster, type TestCluster, type TestHost } from '../cluster/cluster.ts'
import { bootQuickstart } from './cluster.ts'
import { ownerOf, type Sample, shortName } from './processes.core.ts'
import { hostCpuPercent, sampleHost } from './processes.ts'

/** Aims of issue 2, "What must be shown", item 6. */
const pssAimBytes = 700 * 1000 * 1000
const cpuAimPercent = 5
const measureMs = 60_000
/** What follows a boot is over: PostgreSQL writes for nine minutes and a half until its first checkpoint is done. */
const restAfterMs = 11 * 60_000

type Job = { readonly partition: string; readonly label: string }
type Row = { readonly group: string; readonly name: string; readonly count: number } & Sums
type Sums = { readonly pss: number; readonly rss: number; readonly anonymous: number; readonly cpu: number }

async function jobsOf(host: TestHost): Promise<ReadonlyMap<string, Job>> {
  const authKey = (await host.readFile('/etc/flynn/auth-key')).trim()
  const client = new HostClient({ url: `http://${host.address}:1113`, authKey })
  const found = new Map<string, Job>()
  for (const [id, { job }] of Object.entries(await client.jobs({ active: true }))) {
    const meta = job.metadata ?? {}
    const label = [meta['flynn-controller.app_name'] ?? id, meta['flynn-controller.type']]
      .filter(Boolean)
      .join(' ')
    found.set(id, { partition: job.partition ?? 'user', label })
  }
  return found
}

function add(a: Sums, b: Sums): Sums {
  return { pss: a.pss + b.pss, rss: a.rss + b.rss, anonymous: a.anonymous + b.anonymous, cpu: a.cpu + b.cpu }
}

const nothing: Sums = { pss: 0, rss: 0, anonymous: 0, cpu: 0 }

/** Processes of one name of one owner are one row; user apps are one row altogether. */
function rowsOf(samples: readonly Sample[], jobs: ReadonlyMap<string, Job>): readonly Row[] {
  const partitions = new Map([...jobs].map(([id, job]) => [id, job.partition]))
  const rows = new Map<string, Row>()
  for (const sample of samples) {
    const owner = ownerOf(sample.cgroup, sample.argv, partitions)
    const isUser = owner.kind === 'job' && owner.partition === 'user'
    const group = isUser
      ? 'user apps'
      : owner.kind === 'host'
        ? 'host'
        : (jobs.get(owner.jobId)?.label ?? owner.jobId)
    const program = shortName(sample.argv)
    const name = isUser ? 'all' : program
    const { pssBytes: pss, rssBytes: rss, anonymousBytes: anonymous } = sample.memory
    const sums = { pss, rss, anonymous, cpu: sample.cpuPercent }
    const known = rows.get(`${group} ${name}`)
    rows.set(`${group} ${name}`, {
      group,
      name,
      count: (known?.count ?? 0) + 1,
      ...add(known ?? nothing, sums),
    })
  }
  return [...rows.values()].sort((a, b) => b.pss - a.pss)
}

/** Its first process and what that keeps alive are the test host, not the platform. */
function isTestHost(sample: Sample): boolean {
  const line = sample.argv.join(' ')
  return sample.argv[0] === 'unshare' || line.endsWith('sleep infinity')
}

function cells(group: string, name: string, count: string, s: Sums): string[] {
  const mb = (bytes: number) => (bytes / 1e6).toFixed(1).padStart(7)
  return [group, name, count, mb(s.pss), mb(s.anonymous), mb(s.rss), s.cpu.toFixed(2).padStart(6)]
}

async function measure(cluster: TestCluster): Promise<boolean> {
  const host = cluster.host(1)
  const [samples, cpu] = await Promise.all([
    sampleHost(cluster.name, host.name, measureMs),
    hostCpuPercent(cluster.name, host.name, measureMs),
  ])
  const rows = rowsOf(
    samples.filter(s => !isTestHost(s)),
    await jobsOf(host),
  )
  const platform = rows.filter(r => r.group !== 'user apps')
  // The sum over processes lacks those that came and went; the host's own account of its time has them.
  const total = { ...platform.reduce<Sums>(add, nothing), cpu }
  const lines = [
    ['of', 'process', 'count', ' PSS MB', 'anon MB', ' RSS MB', ' CPU %'],
    ...rows.map(r => cells(r.group, r.name, String(r.count), r)),
    cells(
      'platform',
      'all together, without user apps',
      String(platform.reduce((n, r) => n + r.count, 0)),
      total,
    ),
  ]
  process.stdout.write(table(lines))
  const verdict = (met: boolean) => (met ? 'met' : 'MISSED')
  const memoryMet = total.pss < pssAimBytes
  const cpuMet = total.cpu < cpuAimPercent
  process.stdout.write(
    `\naim: under ${pssAimBytes / 1e6} MB PSS: ${verdict(memoryMet)}; ` +
      `under ${cpuAimPercent} % of one core over ${measureMs / 1000} s: ${verdict(cpuMet)}\n`,
  )
  return memoryMet && cpuMet
}

const { values } = parseArgs({ options: { cluster: { type: 'string' } } })
if (values.cluster === undefined) {
  await using booted = await bootQuickstart('bench-footprint')
  // Its worker asks the database for work every second: that is the app's load, not the platform's.
  await booted.cluster.host(1).run(['flynn', '-a', 'guestbook', 'scale', 'web=0', 'worker=0'])
  process.stderr.write(`booted; measured in ${restAfterMs / 60_000} minutes, when it has come to rest\n`)
  await sleep(restAfterMs)
  if (!(await measure(booted.cluster))) process.exitCode = 1
} else {
  const cluster = await openCluster(values.cluster)
  if (!cluster) throw new Error(`there is no test cluster ${values.cluster}`)
  if (!(await measure(cluster))) process.exitCode = 1
}
