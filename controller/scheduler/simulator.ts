// A seeded world around the scheduler's core: hosts that start, crash, freeze, lose power, leave and come back, messages
// that are late, out of order, lost or doubled, a database that is away, schedulers that die, freeze and take over from
// each other. One seed is one run; the same seed replays it. Time is a number that the queue advances.
// Used by simulator.test.ts and simulator-deploy.test.ts.
import { type Random, seededRandom } from '../../pkg/random/random.core.ts'
import { SimClock } from './simulator-clock.ts'
import { type HostSize, isLive, SimHost } from './simulator-host.ts'
import { fencedOn, misplaced, simulateMove } from './simulator-moves.ts'
import { SimRouter } from './simulator-router.ts'
import { SimScheduler } from './simulator-scheduler.ts'
import { SimTable } from './simulator-table.ts'
import type { Effect, Formation, Happening, HostJob, State, Volume } from './state.core.ts'

/** How long a client waits for a host. */
const hostCallTimeoutMs = 10_000
/** A scheduler that is silent for so long no longer leads. */
const leaderLeaseMs = 10_000

export type SimOptions = {
  readonly seed: number
  readonly hosts: number
  readonly faults: boolean
  /** Schedulers at a time; 1 when absent. */
  readonly schedulers?: number
  /** Of every host; without it hosts take what comes. */
  readonly size?: HostSize
  readonly router?: boolean
  /** Jobs crash by lot, and hosts refuse; true when absent. */
  readonly crashes?: boolean
}

export class World {
  readonly random: Random
  readonly hosts = new Map<string, SimHost>()
  /** The controller's. */
  readonly table = new SimTable(this)
  readonly violations: string[] = []
  readonly router: SimRouter | undefined
  readonly schedulers: SimScheduler[] = []
  /** Called with every change of what runs. */
  onJobs: () => void = () => undefined
  /** Starts and stops that hosts were asked for. */
  starts = 0
  stops = 0
  faults: boolean
  /** Types whose processes end at once, always; `<release> <type>` for those of one release, which never come up. */
  readonly broken = new Set<string>()
  readonly #crashes: boolean
  readonly #clock = new SimClock()
  readonly #size: HostSize
  readonly #wanted: number
  #born = 0
  #leader: SimScheduler | undefined
  #electing = false

  constructor(options: SimOptions) {
    this.random = seededRandom([options.seed, 0x9e3779b9, 0x243f6a88, 0xb7e15162])
    this.faults = options.faults
    this.#crashes = options.crashes ?? true
    this.#size = options.size ?? {}
    this.#wanted = options.schedulers ?? 1
    const later = (run: () => void): void => this.at(this.delayMs(1_000), run)
    if (options.router) this.router = new SimRouter('rt', happening => this.#tell(happening), later)
    for (let i = 1; i <= options.hosts; i++) this.addHost(`h${i}`)
  }

  // Time ------------------------------------------------------------------------------------------------------------

  get nowMs(): number {
    return this.#clock.nowMs
  }

  /** Things that are to happen. */
  get planned(): number {
    return this.#clock.planned
  }

  at(delayMs: number, run: () => void): void {
    this.#clock.at(delayMs, run)
  }

  run(forMs: number): void {
    this.#clock.run(forMs)
  }

  chance(percent: number): boolean {
    return this.faults && this.random.below(100) < percent
  }

  delayMs(max = 200): number {
    return 1 + this.random.below(max)
  }

  // Schedulers ------------------------------------------------------------------------------------------------------

  /** The one that acts, or the youngest. */
  get scheduler(): SimScheduler {
    const found = this.#leader ?? this.schedulers.at(-1)
    if (found === undefined) throw new Error('no scheduler was started')
    return found
  }

  get formations(): ReadonlyMap<string, Formation> {
    return this.table.formations
  }

  /** What it knows. */
  get state(): State {
    return this.scheduler.state
  }

  /** Ends all there are, and starts as many as belong to this world. */
  startScheduler(): void {
    for (const scheduler of this.schedulers.splice(0)) scheduler.kill()
    this.#startMissing()
  }

  #startMissing(): void {
    while (this.schedulers.length < this.#wanted) {
      const scheduler = new SimScheduler(this, ++this.#born)
      this.schedulers.push(scheduler)
      scheduler.start()
    }
  }

  /** One ends and another, which knows nothing, takes its place. */
  replaceScheduler(): void {
    const old = this.schedulers.splice(this.random.below(this.schedulers.length), 1)
    for (const scheduler of old) scheduler.kill()
    this.#elect()
    this.#startMissing()
  }

  freezeScheduler(forMs: number): void {
    const scheduler = this.schedulers[this.random.below(this.schedulers.length)]
    if (scheduler === undefined || scheduler.frozen) return
    scheduler.freeze()
    this.at(leaderLeaseMs, () => this.#elect())
    this.at(forMs, () => {
      scheduler.thaw()
      this.#elect()
    })
  }

  register(scheduler: SimScheduler): void {
    if (this.#leader?.alive) scheduler.tell({ kind: 'leader', leader: false }, { reliable: true })
    else this.#elect()
  }

  #elect(): void {
    if (this.#electing) return
    const fit = (s: SimScheduler | undefined): boolean => s?.alive === true && !s.frozen
    if (fit(this.#leader) && this.#leader?.state.leader) return
    const next = this.schedulers.find(fit)
    if (next === undefined) return
    this.#leader = next
    // A new leader lists everything again before it acts (scheduler.ts).
    this.#electing = true
    for (const other of this.schedulers)
      if (other !== next) other.tell({ kind: 'leader', leader: false }, { reliable: true })
    for (const host of this.hosts.values()) if (host.reachable) next.list(host.id)
    this.at(300, () => {
      this.#electing = false
      if (!fit(next)) this.#elect()
      else if (this.#leader === next) {
        next.dispatch({ kind: 'recordedJobs', jobs: this.table.activeRows() })
        next.dispatch({ kind: 'leader', leader: true })
      }
    })
  }

  #tell(happening: Happening, options: { readonly reliable?: boolean } = {}): void {
    for (const scheduler of this.schedulers) scheduler.tell(happening, options)
  }

  // What schedulers read --------------------------------------------------------------------------------------------

  announcement(host: SimHost): Happening {
    const { id, draining, leaving, size } = host
    return { kind: 'host', host: { id, tags: {}, shutdown: leaving, draining, ...size } }
  }

  listing(host: SimHost): readonly Happening[] {
    return [
      { kind: 'hostJobs', hostId: host.id, jobs: [...host.jobs.values()] },
      { kind: 'hostVolumes', hostId: host.id, ids: [...host.volumes], fenced: fencedOn(host) },
    ]
  }

  #serving(): readonly string[] {
    return [...this.hosts.values()]
      .filter(h => h.listed && h.alive)
      .flatMap(h => [...h.jobs.values()])
      .filter(j => j.status === 'running')
      .map(j => j.uuid)
  }

  service(): Happening {
    return { kind: 'service', service: 'svc', jobs: this.#serving() }
  }

  // Effects ---------------------------------------------------------------------------------------------------------

  carryOut(effect: Effect, from: SimScheduler, answer: (happening: Happening) => void): void {
    switch (effect.kind) {
      case 'place':
        this.at(this.delayMs(), () => this.#place(effect, from, answer))
        return
      case 'stop':
        this.at(this.delayMs(), () => this.#stop(effect.hostId, effect.uuid, answer))
        return
      case 'inspect':
        this.at(this.delayMs(), () => this.#inspect(effect.hostId, effect.uuid, answer))
        return
      case 'recordJob':
      case 'recordVolume':
      case 'finishScale':
        this.table.record(effect)
        return
      case 'movePrimary':
      case 'copyVolume':
      case 'finishMove':
      case 'undoMove':
      case 'dropCopy':
        simulateMove({ world: this, answer }, effect)
        return
      case 'dropVolume':
        this.at(this.delayMs(), () => {
          const host = this.hosts.get(effect.hostId)
          if (host?.reachable && host.holderOf(effect.volumeId) === undefined)
            host.volumes.delete(effect.volumeId)
        })
        return
      case 'deregister':
        this.router?.drain(effect.uuid)
        return
      case 'note':
        return
    }
  }

  #place(
    effect: Extract<Effect, { kind: 'place' }>,
    from: SimScheduler,
    answer: (h: Happening) => void,
  ): void {
    const { hostId, uuid, attempt } = effect
    const failed = (why: 'refused' | 'busy' | 'uncertain'): void =>
      answer({ kind: 'placeFailed', uuid, hostId, attempt, why, message: why })
    const host = this.hosts.get(hostId)
    if (host === undefined || !host.alive || host.cut || this.chance(5)) {
      failed('uncertain')
      return
    }
    let waited = false
    if (host.frozen)
      this.at(hostCallTimeoutMs, () => {
        if (waited) return
        waited = true
        failed('uncertain')
      })
    host.awake(() => {
      const outcome = this.#accept(effect, host, from)
      if (waited) return
      waited = true
      if (outcome !== 'placed') failed(outcome)
      else if (this.chance(5)) failed('uncertain')
      else answer({ kind: 'placed', uuid, hostId, attempt })
    })
  }

  #accept(
    effect: Extract<Effect, { kind: 'place' }>,
    host: SimHost,
    from: SimScheduler,
  ): 'placed' | 'refused' | 'busy' {
    const { uuid } = effect
    if (host.jobs.has(uuid)) return 'placed'
    if (host.leaving) return 'refused'
    if (this.chance(10)) return this.chance(50) ? 'refused' : 'busy'
    for (const volume of effect.volumes) {
      if (host.fences.has(volume.id)) return 'refused'
      this.violations.push(...misplaced(this, host, volume))
      host.volumes.add(volume.id)
      // The host's own table keeps a second writer out, whoever asks.
      if (host.holderOf(volume.id) !== undefined) return 'refused'
    }
    const [appId = '', releaseId = ''] = effect.formationKey.split(':')
    this.starts++
    host.start({
      uuid,
      hostId: host.id,
      status: 'starting',
      appId,
      releaseId,
      type: effect.type,
      formation: true,
      system: this.table.formations.get(effect.formationKey)?.system ?? false,
      meta: {},
      args: [],
      asks: from.state.jobs.get(uuid)?.asks ?? { memoryBytes: 0, cpuMillis: 0 },
      volumes: effect.volumes.map(v => ({ id: v.id, path: v.path, deleteOnStop: v.deleteOnStop })),
      createdMs: this.nowMs,
    })
    this.#checkWriters(effect.volumes)
    return 'placed'
  }

  #checkWriters(volumes: readonly Volume[]): void {
    for (const { id } of volumes) {
      const writers = [...this.hosts.values()].filter(h => h.alive).flatMap(h => h.holderOf(id) ?? [])
      if (writers.length > 1)
        this.violations.push(`volume ${id} has two writers: ${writers.map(w => w.hostId).join(', ')}`)
    }
  }

  #stop(hostId: string, uuid: string, answer: (h: Happening) => void): void {
    const host = this.hosts.get(hostId)
    const job = host?.jobs.get(uuid)
    if (!host?.reachable || !job || this.chance(5)) {
      answer({ kind: 'stopFailed', uuid, hostId })
      return
    }
    if (!isLive(job)) return
    this.stops++
    this.at(this.delayMs(5_000), () => host.end(uuid, 'done', 0))
  }

  #inspect(hostId: string, uuid: string, answer: (h: Happening) => void): void {
    const host = this.hosts.get(hostId)
    if (!host?.reachable) return
    const job = host.jobs.get(uuid)
    answer(job ? { kind: 'hostJob', job } : { kind: 'hostJobMissing', hostId, uuid })
  }

  // Hosts -----------------------------------------------------------------------------------------------------------

  addHost(id: string): void {
    const host = new SimHost(id, this.#size, {
      clock: this.#clock,
      random: this.random,
      chance: percent => this.chance(percent),
      delayMs: max => this.delayMs(max),
      fate: job => this.#fate(job),
      tell: job => this.#tell({ kind: 'hostJob', job }),
      changed: () => this.#changed(),
      registered: (changed, listed) => this.#listed(changed, listed),
    })
    this.hosts.set(id, host)
    if (this.schedulers.length > 0) this.#listed(host, true)
  }

  #fate(job: HostJob): 'runs' | 'crashes' | 'fails' {
    if (this.broken.has(`${job.releaseId} ${job.type}`)) return 'fails'
    if (this.broken.has(job.type)) return this.random.below(2) === 0 ? 'crashes' : 'fails'
    if (!this.#crashes) return 'runs'
    if (this.chance(10)) return 'crashes'
    return this.chance(5) ? 'fails' : 'runs'
  }

  #told = ''
  #changed(): void {
    this.onJobs()
    const serving = this.#serving()
    const text = serving.join()
    if (text === this.#told) return
    this.#told = text
    this.router?.serve(serving)
    for (const scheduler of this.schedulers) scheduler.show(() => this.service())
  }

  #listed(host: SimHost, listed: boolean): void {
    this.#changed()
    if (!listed) {
      this.#tell({ kind: 'hostGone', hostId: host.id }, { reliable: true })
      return
    }
    for (const scheduler of this.schedulers) {
      scheduler.show(() => (host.listed ? this.announcement(host) : undefined))
      this.at(this.delayMs() + 200, () => scheduler.list(host.id))
    }
  }

  // People ----------------------------------------------------------------------------------------------------------

  setDraining(host: SimHost, draining: boolean): void {
    host.draining = draining
    if (host.reachable) this.#listed(host, true)
  }

  setFormation(formation: Formation): void {
    this.table.formations.set(formation.key, formation)
    this.#tell({ kind: 'formation', formation }, { reliable: true })
  }

  liveJobs(key: string, type: string): HostJob[] {
    return [...this.hosts.values()]
      .filter(h => h.alive)
      .flatMap(h => [...h.jobs.values()])
      .filter(j => isLive(j) && `${j.appId}:${j.releaseId}` === key && j.type === type)
  }

  /** Everything that was broken is whole again. */
  heal(): void {
    this.faults = false
    this.table.away = false
    for (const scheduler of this.schedulers) if (scheduler.frozen) scheduler.thaw()
    this.#elect()
    for (const host of this.hosts.values()) {
      host.thaw()
      host.powerOn()
      host.heal()
      if (host.leaving) {
        host.powerOff()
        host.powerOn()
      }
    }
  }
}
