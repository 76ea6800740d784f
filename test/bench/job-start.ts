// How long a job takes from `PUT /host/jobs/:id` until the event stream says that it runs, beside containerd's own
// create and start of the same container. See README.md for how to run it and what it prints.
import { HostClient } from '../../host/client.ts'
import type { Mountspec } from '../../host/types.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import { table } from '../../pkg/table/table.ts'
import { createCluster, type TestHost } from '../cluster/cluster.ts'
import { busyboxImage } from '../fixtures/busybox.ts'
import { testDaemon } from '../fixtures/flynn-host.ts'
import { type BareContainerd, openBareContainerd } from './containerd.ts'
import { type JobStarts, watchJobStarts } from './jobs.ts'
import { summary, summaryHeader, summaryRow } from './stats.core.ts'

/** Aim of issue 2, "What must be shown", item 5. */
const medianAimMs = 150
const atOnce = 20
const oneByOne = 20
/** First starts of a process fill caches of every kind; they are not counted. */
const warmUps = 3
/** Between two samples, so that one's clean-up is not measured in the next. */
const pauseMs = 200

type Bench = {
  readonly client: HostClient
  readonly starts: JobStarts
  readonly newId: () => string
  readonly image: Mountspec
}

/** Adds a job that sleeps; answers the milliseconds until it ran. */
async function startJob(bench: Bench, id: string): Promise<number> {
  const began = performance.now()
  const running = bench.starts.running(id)
  await bench.client.addJob({
    id,
    mountspecs: [bench.image],
    config: { args: ['sleep', '1000'], env: { DISCOVERD: 'none' } },
  })
  return (await running) - began
}

async function stopJob(bench: Bench, id: string): Promise<void> {
  const cleaned = bench.starts.cleaned(id)
  await bench.client.stopJob(id)
  await cleaned
}

/** Samples of both kinds in turn, so that both see the same machine. */
async function measureOneByOne(bench: Bench, bare: BareContainerd) {
  const jobs: number[] = []
  const containers: number[] = []
  for (let i = -warmUps; i < oneByOne; i++) {
    const id = bench.newId()
    const jobMs = await startJob(bench, id)
    await stopJob(bench, id)
    await sleep(pauseMs)
    const containerMs = await bare.createAndStart()
    await sleep(pauseMs)
    if (i < 0) continue
    jobs.push(jobMs)
    containers.push(containerMs)
  }
  return { jobs, containers }
}

async function measureAtOnce(bench: Bench) {
  const ids = Array.from({ length: atOnce }, () => bench.newId())
  const began = performance.now()
  const samples = await Promise.all(ids.map(id => startJob(bench, id)))
  const allMs = performance.now() - began
  const listed = await bench.client.jobs({ active: true })
  const lost = ids.filter(id => listed[id]?.status !== 1)
  await Promise.all(ids.map(id => stopJob(bench, id)))
  return { samples, allMs, lost }
}

async function measure(host: TestHost, image: Mountspec): Promise<boolean> {
  const daemon = testDaemon(host, image)
  await daemon.start()
  const client = new HostClient({ url: daemon.client.url, authKey: await daemon.key() })
  await using starts = await watchJobStarts(client)
  const bench: Bench = { client, starts, newId: () => jobId(host.name), image }
  // Keeps the layer mounted: what is measured is the start with the image present.
  const keeper = bench.newId()
  await startJob(bench, keeper)
  await using bare = await openBareContainerd(host, image)
  const { jobs, containers } = await measureOneByOne(bench, bare)
  const { samples, allMs, lost } = await measureAtOnce(bench)
  await stopJob(bench, keeper)
  const job = summary(jobs)
  const container = summary(containers)
  const rows = [
    [...summaryHeader],
    summaryRow('job, one after another', job),
    summaryRow('bare containerd', container),
    ['ratio', '', ...(['median', 'p95', 'min', 'max'] as const).map(k => (job[k] / container[k]).toFixed(2))],
    summaryRow(`job, ${atOnce} at once`, summary(samples)),
  ]
  process.stdout.write(`milliseconds from PUT /host/jobs to running\n\n${table(rows)}\n`)
  process.stdout.write(`${atOnce} at once: all running after ${Math.round(allMs)} ms, ${lost.length} lost\n`)
  const met = job.median < medianAimMs
  process.stdout.write(
    `aim: median under ${medianAimMs} ms one after another, none lost: ${met && lost.length === 0 ? 'met' : 'MISSED'}\n`,
  )
  return met && lost.length === 0
}

const image = await busyboxImage()
try {
  const binds = [{ source: image.dir, target: image.dir }]
  await using cluster = await createCluster({ name: 'bench-job-start', hosts: 1, binds })
  if (!(await measure(cluster.host(1), image.mountspec))) process.exitCode = 1
} finally {
  await image.remove()
}
