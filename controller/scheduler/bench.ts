// A scheduler for tests whose world answers exactly when the test says so. Used by the scheduler's unit tests.
import { seededRandom } from '../../pkg/random/random.core.ts'
import { step } from './scheduler.core.ts'
import {
  type Effect,
  emptyState,
  type Formation,
  formationKey,
  type Happening,
  type HostJob,
  type Job,
  type Process,
  type State,
  type Volume,
} from './state.core.ts'

export const plain: Process = { omni: false, volumes: [], asks: { memoryBytes: 1, cpuMillis: 1 }, args: [] }

export class Bench {
  state: State = emptyState
  nowMs = 1_000_000
  effects: Effect[] = []
  #random = seededRandom([1, 2, 3, 4])

  send(happening: Happening): readonly Effect[] {
    const result = step(this.state, { ...happening, nowMs: this.nowMs, seed: this.#random.seed() })
    this.state = result.state
    this.effects.push(...result.effects)
    return result.effects
  }

  lead(hosts: Readonly<Record<string, Record<string, string>>> = { h1: {} }): this {
    for (const [id, tags] of Object.entries(hosts)) {
      this.send({ kind: 'host', host: { id, tags, shutdown: false } })
      this.send({ kind: 'hostJobs', hostId: id, jobs: [] })
    }
    this.send({ kind: 'loaded' })
    this.send({ kind: 'leader', leader: true })
    return this
  }

  take<K extends Effect['kind']>(kind: K): Extract<Effect, { kind: K }>[] {
    const found = this.effects.filter(e => e.kind === kind) as Extract<Effect, { kind: K }>[]
    this.effects = this.effects.filter(e => e.kind !== kind)
    return found
  }

  report(uuid: string, status: HostJob['status'], extra: Partial<HostJob> = {}): void {
    const job = this.state.jobs.get(uuid)
    const volumes = (job?.volumeIds ?? []).map(id => ({ id, path: '/data', deleteOnStop: false }))
    this.send({
      kind: 'hostJob',
      job: {
        uuid,
        hostId: job?.hostId ?? 'h1',
        status,
        appId: job?.appId ?? 'app',
        releaseId: job?.releaseId ?? 'r1',
        type: job?.type ?? 'web',
        formation: true,
        system: false,
        meta: {},
        args: [],
        volumes,
        createdMs: this.nowMs,
        ...(status === 'running' ? { startedMs: this.nowMs } : {}),
        ...extra,
      },
    })
  }

  /** Accepts and starts whatever was placed; returns the jobs' ids. */
  startAll(): string[] {
    const started: string[] = []
    for (let placed = this.take('place'); placed.length > 0; placed = this.take('place'))
      for (const { uuid, hostId, attempt } of placed) {
        this.send({ kind: 'placed', uuid, hostId, attempt })
        this.nowMs += 1
        this.report(uuid, 'starting')
        this.report(uuid, 'running')
        started.push(uuid)
      }
    return started
  }

  endAll(): void {
    for (const { uuid } of this.take('stop')) this.report(uuid, 'done', { exitStatus: 0 })
  }

  jobs(phase?: Job['phase']): Job[] {
    return [...this.state.jobs.values()].filter(j => phase === undefined || j.phase === phase)
  }
}

/** Data in use on h1. */
export const dataVolume: Volume = {
  id: 'v',
  hostId: 'h1',
  appId: 'app',
  releaseId: 'r1',
  type: 'db',
  path: '/data',
  deleteOnStop: false,
  state: 'created',
  decommissioned: false,
  createdMs: 0,
}

let updates = 0
export function formation(counts: Record<string, number>, options: Partial<Formation> = {}): Formation {
  updates++
  const releaseId = options.releaseId ?? 'r1'
  return {
    key: formationKey('app', releaseId),
    appId: 'app',
    releaseId,
    system: false,
    critical: false,
    meta: {},
    updatedAtUs: updates,
    counts,
    tags: {},
    processes: Object.fromEntries(Object.keys(counts).map(type => [type, plain])),
    scale: { id: `s${updates}` },
    ...options,
  }
}
