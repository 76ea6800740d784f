// How fast the scheduler's core is: jobs placed a second with every event of their start, a full rectification, the loss of a
// host, and how all of that grows with the cluster. No machine is needed: the core is a function, and this its whole world.
import { parseArgs } from 'node:util'
import { step } from '../../controller/scheduler/scheduler.core.ts'
import {
  type Effect,
  emptyState,
  type Formation,
  type Happening,
  type HostJob,
  type State,
} from '../../controller/scheduler/state.core.ts'
import { type Random, seededRandom } from '../../pkg/random/random.core.ts'
import { median } from './stats.core.ts'

const jobsPerHost = 50
const jobsPerFormation = 100
const repeats = 7
const placementsAim = 2_000
const rectifyAimMs = 1_000
const gib = 1024 ** 3

class Cluster {
  state: State = emptyState
  nowMs = 1_000_000
  placed = 0
  readonly #random: Random = seededRandom([1, 2, 3, 4])
  readonly #work: Effect[] = []

  send(happening: Happening): void {
    const result = step(this.state, { ...happening, nowMs: this.nowMs, seed: this.#random.seed() })
    this.state = result.state
    for (const effect of result.effects) if (effect.kind === 'place') this.#work.push(effect)
  }

  addHosts(count: number): void {
    for (let i = 0; i < count; i++) {
      const id = `host${i}`
      const host = { id, tags: {}, shutdown: false, memoryBytes: 64 * gib, cpuMillis: 16_000 }
      this.send({ kind: 'host', host })
      this.send({ kind: 'hostJobs', hostId: id, jobs: [] })
    }
  }

  scale(app: string, count: number): void {
    const process = { omni: false, volumes: [], asks: { memoryBytes: gib / 2, cpuMillis: 100 }, args: [] }
    const formation: Formation = {
      key: `${app}:r1`,
      appId: app,
      releaseId: 'r1',
      system: false,
      critical: false,
      meta: {},
      updatedAtUs: this.nowMs * 1000,
      counts: { web: count },
      tags: {},
      processes: { web: process },
    }
    this.send({ kind: 'formation', formation })
  }

  /** Hosts accept and start whatever they are asked for, one after another. */
  startAll(): void {
    for (let effect = this.#work.shift(); effect !== undefined; effect = this.#work.shift()) {
      if (effect.kind !== 'place') continue
      const { uuid, hostId, attempt, formationKey, type } = effect
      this.placed++
      this.nowMs += 1
      this.send({ kind: 'placed', uuid, hostId, attempt })
      const [appId = '', releaseId = ''] = formationKey.split(':')
      const job: HostJob = {
        ...{ uuid, hostId, appId, releaseId, type },
        ...{ formation: true, system: false, meta: {}, args: [], volumes: [] },
        status: 'starting',
        createdMs: this.nowMs,
      }
      this.send({ kind: 'hostJob', job })
      this.send({ kind: 'hostJob', job: { ...job, status: 'running', startedMs: this.nowMs } })
    }
  }

  loseHost(hostId: string): void {
    this.send({ kind: 'hostGone', hostId })
    while (this.state.hosts.has(hostId)) this.send({ kind: 'hostProbe', hostId, ok: false })
  }

  perHost(): readonly number[] {
    return [...this.state.index.loads.values()].map(load => load.jobs)
  }
}

/** Milliseconds of processor time: what else the machine does is no matter of the core's. */
function timed(run: () => void): number {
  const begin = process.cpuUsage()
  run()
  const { user, system } = process.cpuUsage(begin)
  return (user + system) / 1000
}

type Row = {
  readonly hosts: number
  readonly jobs: number
  readonly placementsPerSecond: number
  readonly rectifyMs: number
  readonly lossMs: number
  readonly eventUs: number
  readonly perHost: string
}

function measure(hosts: number): Row {
  const cluster = new Cluster()
  cluster.send({ kind: 'loaded' })
  cluster.send({ kind: 'leader', leader: true })
  cluster.addHosts(hosts)
  const jobs = hosts * jobsPerHost
  const placing = timed(() => {
    for (let i = 0; i < jobs / jobsPerFormation; i++) {
      cluster.scale(`app${i}`, jobsPerFormation)
      cluster.startAll()
    }
  })
  const placed = cluster.placed
  const counts = cluster.perHost()
  const rectifying = Array.from({ length: repeats }, () => {
    cluster.send({ kind: 'leader', leader: false })
    return timed(() => cluster.send({ kind: 'leader', leader: true }))
  })
  const events = Array.from({ length: repeats }, () => eventCost(cluster))
  const loss = timed(() => {
    cluster.loseHost('host0')
    cluster.startAll()
  })
  if (placed !== jobs || cluster.placed === placed) throw new Error(`${placed} of ${jobs} jobs were placed`)
  return {
    ...{ hosts, jobs },
    placementsPerSecond: Math.round((placed / placing) * 1000),
    rectifyMs: Math.round(median(rectifying) * 10) / 10,
    lossMs: Math.round(loss * 10) / 10,
    eventUs: Math.round(median(events) * 1000),
    perHost: `${Math.min(...counts)} to ${Math.max(...counts)}`,
  }
}

/** Milliseconds of an event that changes one job: it crashes and another is placed. */
function eventCost(cluster: Cluster): number {
  const job = [...cluster.state.jobs.values()].find(j => j.phase === 'running')
  if (job?.hostId === undefined) throw new Error('nothing runs')
  const { uuid, hostId, appId, releaseId, type } = job
  const report: HostJob = {
    ...{ uuid, hostId, appId, releaseId, type },
    ...{ formation: true, system: false, meta: {}, args: [], volumes: [] },
    status: 'crashed',
    exitStatus: 1,
    createdMs: job.createdMs,
    endedMs: cluster.nowMs,
  }
  const cost = timed(() => cluster.send({ kind: 'hostJob', job: report }))
  cluster.startAll()
  return cost
}

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } })
measure(10)
const rows = [10, 100, 1_000].map(measure)
if (values.json) process.stdout.write(`${JSON.stringify(rows)}\n`)
else {
  for (const row of rows) {
    const { hosts, jobs, placementsPerSecond, rectifyMs, lossMs, eventUs, perHost } = row
    process.stdout.write(
      `${hosts} hosts, ${jobs} jobs (${perHost} a host): ${placementsPerSecond} placements/s, rectification ${rectifyMs} ms, ` +
        `a lost host replaced in ${lossMs} ms, a crashed job in ${eventUs} us\n`,
    )
  }
}
const largest = rows.at(-1)
const missed =
  largest === undefined || largest.placementsPerSecond < placementsAim || largest.rectifyMs > rectifyAimMs
if (missed)
  process.stderr.write(
    `aim missed: over ${placementsAim} placements/s, rectification under ${rectifyAimMs} ms\n`,
  )
process.exitCode = missed ? 1 : 0
