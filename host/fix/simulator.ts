// A small cluster in memory for plan.test.ts: hosts with jobs and volumes, services that come up when what they need is there,
// and a scheduler that starts things of its own while it leads. It refuses what a real host refuses, and notes what must
// never happen.
import { type ActiveJob, isActive, type Job, jobStatus } from '../types.ts'
import {
  type ClusterView,
  type FixService,
  type FixStep,
  fixProcesses,
  type ServicesView,
} from './plan.core.ts'

type State = 'up' | 'starting' | 'down'
const statuses = { up: jobStatus.running, starting: jobStatus.starting, down: jobStatus.done } as const

/** A job of a system app. */
export function job(
  id: string,
  app: string,
  type: string,
  state: State,
  volumes: readonly string[] = [],
  createdMs = 0,
): ActiveJob {
  const spec: Job = {
    id,
    partition: 'system',
    metadata: {
      'flynn-controller.app': app,
      'flynn-controller.app_name': app,
      'flynn-controller.type': type,
    },
    config: { volumes: volumes.map(volume => ({ target: '/data', volume })) },
  }
  const time = new Date(createdMs).toISOString()
  return {
    ...{ job: spec, host_id: '', created_at: time, started_at: time, ended_at: time },
    status: statuses[state],
  }
}

export type SimulatedHost = {
  readonly id: string
  on: boolean
  jobs: ActiveJob[]
  readonly volumes: string[]
}

/** Numbers below `limit`, the same for the same seed (mulberry32). */
function randomFrom(seed: number): (limit: number) => number {
  let state = seed
  return limit => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % limit
  }
}

const chancesOfTen = { hostOff: 2, jobDown: 6, oldJob: 3, volumeLost: 1, comesUp: 5 }

export class World {
  readonly random: (limit: number) => number
  readonly hosts: readonly SimulatedHost[]
  readonly violations: string[] = []
  readonly #up = new Set<string>()
  #jobs = 0

  constructor(seed: number) {
    this.random = randomFrom(seed)
    const count = [1, 3, 5][this.random(3)] as number
    this.hosts = Array.from({ length: count }, (_, i) => this.#makeHost(`h${i + 1}`, i))
  }

  #chance(ofTen: number): boolean {
    return this.random(10) < ofTen
  }

  #makeHost(id: string, index: number): SimulatedHost {
    const host: SimulatedHost = { id, on: true, jobs: [], volumes: [`${id}-dv`, `${id}-pv`] }
    const add = (service: FixService, volumes: readonly string[] = []) => {
      const { app, type } = fixProcesses[service]
      if (this.#chance(chancesOfTen.oldJob)) host.jobs.push(this.#make(id, app, type, 'down', volumes))
      host.jobs.push(this.#make(id, app, type, 'up', volumes))
    }
    add('discoverd', [`${id}-dv`])
    add('router')
    if (index < 3) add('postgres', [`${id}-pv`])
    add('scheduler')
    if (index < 2) add('controller')
    return host
  }

  #make(host: string, app: string, type: string, state: State, volumes: readonly string[]): ActiveJob {
    this.#jobs++
    return job(`${host}-${this.#jobs}`, app, type, state, volumes, this.#jobs)
  }

  /** Random hosts lose their power, random jobs end, a volume may be lost. */
  break(): void {
    for (const host of this.hosts) {
      if (this.#chance(chancesOfTen.hostOff)) host.on = false
      host.jobs = host.jobs.map(j =>
        isActive(j) && this.#chance(chancesOfTen.jobDown) ? { ...j, status: jobStatus.done } : j,
      )
      if (this.#chance(chancesOfTen.volumeLost)) host.volumes.splice(1, 1)
    }
  }

  get #alive(): readonly SimulatedHost[] {
    return this.hosts.filter(h => h.on)
  }

  #active(service: FixService): readonly { readonly host: SimulatedHost; readonly id: string }[] {
    return this.#alive.flatMap(host =>
      host.jobs.filter(j => isActive(j) && isA(j.job, service)).map(j => ({ host, id: j.job.id })),
    )
  }

  #isUp(service: FixService): string | undefined {
    return this.#active(service).find(j => this.#up.has(j.id))?.id
  }

  #quorum(): boolean {
    const hosts = new Set(this.#active('discoverd').map(j => j.host.id))
    return hosts.size > this.hosts.length / 2
  }

  /** Whether what is left suffices. */
  canWork(): boolean {
    const had = (service: FixService) => this.#alive.some(h => h.jobs.some(j => isA(j.job, service)))
    const data = this.#alive.some(
      h => h.volumes.includes(`${h.id}-pv`) && h.jobs.some(j => isA(j.job, 'postgres')),
    )
    return this.#alive.length > this.hosts.length / 2 && data && had('controller')
  }

  works(): boolean {
    return (
      this.#quorum() && (['postgres', 'scheduler', 'controller', 'router'] as const).every(s => this.#isUp(s))
    )
  }

  view(): ClusterView {
    const services: ServicesView = {
      postgresLeader: this.#isUp('postgres'),
      schedulerLeader: this.#isUp('scheduler'),
      controllers: this.#active('controller').flatMap(j => (this.#up.has(j.id) ? [j.id] : [])),
      routers: this.#active('router').flatMap(j => (this.#up.has(j.id) ? [j.id] : [])),
    }
    return {
      hosts: this.hosts.map(h => ({
        ...{ id: h.id, address: h.id, volumes: [...h.volumes], leaving: false },
        jobs: h.on ? [...h.jobs] : undefined,
      })),
      services: this.#quorum() ? services : undefined,
    }
  }

  /** Of a plan made from the present: what it starts does not run where it would be started, or anywhere. */
  checkNothingDoubled(steps: readonly FixStep[]): void {
    for (const step of steps) {
      if (step.kind !== 'start') continue
      const active = this.#active(step.service)
      const alone = step.service === 'scheduler' || step.service === 'controller'
      if (alone ? active.length > 0 : active.some(j => j.host.id === step.host))
        this.violations.push(`a second ${step.service} on ${step.host}`)
      if (step.service !== 'discoverd' && this.#quorum() && this.#isUp(step.service))
        this.violations.push(`${step.service} works and is started on ${step.host}`)
    }
  }

  /** A start as the host of run.ts answers it. */
  start(step: FixStep & { kind: 'start' }): void {
    const host = this.hosts.find(h => h.id === step.host)
    if (!host?.on) return
    const { app, type } = fixProcesses[step.service]
    // `unless_active`, and one job a volume.
    if (host.jobs.some(j => isActive(j) && isA(j.job, step.service))) return
    const volumes = (step.like.config.volumes ?? []).map(v => v.volume)
    for (const volume of volumes)
      if (!host.volumes.includes(volume))
        this.violations.push(`${step.service} on ${host.id} without its data`)
    if (step.service === 'postgres' && volumes.length === 0) this.violations.push('a database without data')
    host.jobs.push(this.#make(host.id, app, type, 'starting', volumes))
  }

  /** Some time passes: what can come up does so now or later, and a scheduler that leads starts what is missing. */
  pass(): void {
    const ready: Readonly<Record<FixService, boolean>> = {
      discoverd: true,
      postgres: this.#quorum(),
      scheduler: this.#quorum() && this.#isUp('controller') !== undefined,
      controller: this.#quorum() && this.#isUp('postgres') !== undefined,
      router: this.#quorum(),
    }
    for (const service of Object.keys(ready) as FixService[])
      for (const { id } of this.#active(service))
        if (!ready[service]) this.#up.delete(id)
        else if (this.#chance(chancesOfTen.comesUp)) this.#up.add(id)
    if (!this.#isUp('scheduler')) return
    for (const host of this.#alive) {
      const has = host.jobs.some(j => isActive(j) && isA(j.job, 'router'))
      if (!has && this.#chance(chancesOfTen.comesUp))
        host.jobs.push(this.#make(host.id, 'router', 'app', 'starting', []))
    }
  }
}

function isA(spec: Job, service: FixService): boolean {
  const { app, type } = fixProcesses[service]
  return (
    spec.metadata?.['flynn-controller.app_name'] === app && spec.metadata['flynn-controller.type'] === type
  )
}
