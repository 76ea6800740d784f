// The scheduler at work: events in one line through the core, effects out, a timer for what is due, periodic syncs, and
// leadership from discoverd. Reads everything before it registers, so that during a deploy of itself some scheduler
// always sees every event (contract controller.md 4.1). Called by main.ts.
import { randomBytes } from 'node:crypto'
import type { DiscoverdClient, Registration } from '../../discoverd/client.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { Seed } from '../../pkg/random/random.core.ts'
import { type ControllerClient, schedulerService } from '../client.ts'
import type { ExpandedFormation } from '../types.ts'
import { fromFormation, fromRecordedJobs, fromVolume } from './convert.core.ts'
import { Effects } from './effects.ts'
import { follow } from './follow.ts'
import { Hosts } from './hosts.ts'
import { Leadership } from './leadership.ts'
import { step } from './scheduler.core.ts'
import { SinkSync, sinkSyncMs } from './sinks.ts'
import { emptyState, formationKey, type Happening, type State } from './state.core.ts'
import { Traffic } from './traffic.ts'

export const hostCheckMs = 500
export const jobSyncMs = 30_000
export const formationSyncMs = 60_000
export const tickMs = 10_000
/** A new leader waits this long for the hosts' lists: the one that led may have died with its host. */
export const leadingListTimeoutMs = 2_000
/** A first look at the hosts waits no longer for those that do not answer. */
export const firstListTimeoutMs = 10_000
/** After a power cut the database may take so long to answer. */
export const firstRecordsTimeoutMs = 600_000

export type SchedulerOptions = {
  readonly controller: ControllerClient
  readonly discoverd: DiscoverdClient
  readonly hostAuthKey: string | undefined
  /** Address that the scheduler registers under, e.g. `:3000`. */
  readonly addr: string
  readonly log: Logger
}

function newSeed(): Seed {
  const bytes = randomBytes(16)
  return [bytes.readUInt32LE(0), bytes.readUInt32LE(4), bytes.readUInt32LE(8), bytes.readUInt32LE(12)]
}

export class Scheduler {
  readonly #options: SchedulerOptions
  readonly #stop = new AbortController()
  readonly #hosts: Hosts
  readonly #traffic: Traffic
  readonly #effects: Effects
  readonly #sinks: SinkSync
  readonly #expanded = new Map<string, ExpandedFormation>()
  readonly #inbox: Happening[] = []
  #state: State = emptyState
  #stepping = false
  #wake: NodeJS.Timeout | undefined
  #registration: Registration | undefined
  #leadership: Leadership | undefined
  #running: Promise<unknown> | undefined

  constructor(options: SchedulerOptions) {
    this.#options = options
    const { controller, discoverd, log } = options
    const { signal } = this.#stop
    const dispatch = (happening: Happening): void => this.dispatch(happening)
    this.#hosts = new Hosts({ discoverd, authKey: options.hostAuthKey, log, signal, dispatch })
    this.#traffic = new Traffic({ discoverd, controller, log, signal, dispatch })
    this.#sinks = new SinkSync({
      controller,
      log,
      signal,
      hosts: () => [...this.#state.hosts.keys()],
      host: id => this.#hosts.client(id),
      leads: () => this.#state.leader,
    })
    this.#effects = new Effects({
      controller,
      log,
      signal,
      host: id => this.#hosts.client(id),
      formation: key => this.#expanded.get(key),
      dispatch,
      database: { instances: service => discoverd.instances(service), log, signal },
    })
  }

  get state(): State {
    return this.#state
  }

  /** For people: an app by its name, or its id while that is not known. */
  appName(id: string): string {
    return [...this.#expanded.values()].find(e => e.app.id === id)?.app.name ?? id
  }

  /** One event through the core. Events that effects cause at once wait until it is through. */
  dispatch(happening: Happening): void {
    this.#leadership?.look()
    this.#inbox.push(happening)
    if (this.#stepping || this.#stop.signal.aborted) return
    this.#stepping = true
    try {
      for (let next = this.#inbox.shift(); next; next = this.#inbox.shift()) this.#step(next)
    } finally {
      this.#stepping = false
    }
  }

  #step(happening: Happening): void {
    const nowMs = Date.now()
    const hosts = this.#state.hosts.size
    const result = step(this.#state, { ...happening, nowMs, seed: newSeed() })
    this.#state = result.state
    if (this.#state.hosts.size > hosts || happening.kind === 'leader') this.#sinks.sync()
    for (const effect of result.effects) this.#effects.run(effect)
    clearTimeout(this.#wake)
    if (result.wakeAtMs !== undefined)
      this.#wake = setTimeout(() => this.dispatch({ kind: 'tick' }), result.wakeAtMs - nowMs + 1)
  }

  /** Reads the world, registers, and works until closed. Resolves when registered. */
  async start(): Promise<void> {
    const { log } = this.#options
    const { signal } = this.#stop
    const ended = (what: string) => (err: unknown) => {
      if (!signal.aborted) log.fatal({ err, what }, 'part of the scheduler ended')
    }
    const formations = Promise.withResolvers<void>()
    const volumes = Promise.withResolvers<void>()
    this.#running = Promise.all([
      this.#hosts.run().catch(ended('hosts')),
      this.#followFormations(formations.resolve).catch(ended('formations')),
      this.#followVolumes(volumes.resolve).catch(ended('volumes')),
      this.#traffic.run().catch(ended('traffic')),
      this.#sinks.run().catch(ended('sinks')),
    ])
    await Promise.all([formations.promise, volumes.promise, this.#hosts.listed(firstListTimeoutMs)])
    await poll(() => this.#readRecords().then(() => true), {
      timeoutMs: firstRecordsTimeoutMs,
      intervalMs: 500,
      signal,
      what: 'the controller to list its jobs',
    })
    this.dispatch({ kind: 'loaded' })
    log.info({ hosts: this.#state.hosts.size, jobs: this.#state.jobs.size }, 'everything has been read')
    const { discoverd, addr } = this.#options
    this.#registration = await discoverd.register({
      service: schedulerService,
      addr,
      create: true,
      signal,
      log,
    })
    this.#leadership = new Leadership({
      ...{ discoverd, log, signal, ownId: this.#registration.instance.id },
      leads: () => this.#state.leader,
      prepare: () => this.#beforeLeading(),
      change: leader => this.dispatch({ kind: 'leader', leader }),
    })
    void this.#leadership.run().catch(ended('leader'))
    this.#every(hostCheckMs, () => this.#hosts.check(this.#state))
    this.#every(tickMs, async () => this.dispatch({ kind: 'tick' }))
    this.#every(jobSyncMs, () => this.#syncJobs())
    this.#every(sinkSyncMs, async () => this.#sinks.sync())
    this.#every(formationSyncMs, () => this.#syncFormations())
  }

  #every(ms: number, work: () => Promise<void>): void {
    const { signal } = this.#stop
    const loop = async (): Promise<void> => {
      // From start to start: work that waits for an answer until its deadline does not make the next one late.
      for (let pauseMs = ms; !signal.aborted; ) {
        await sleep(pauseMs, signal).catch(() => undefined)
        if (signal.aborted) return
        const began = performance.now()
        try {
          await work()
        } catch (err) {
          if (!signal.aborted) this.#options.log.warn({ err }, 'periodic work failed')
        }
        pauseMs = Math.max(0, ms - (performance.now() - began))
      }
    }
    void loop()
  }

  // Formations and volumes ------------------------------------------------------------------------------------------

  #takeFormation(expanded: ExpandedFormation): void {
    this.#expanded.set(formationKey(expanded.app.id, expanded.release.id), expanded)
  }

  async #followFormations(onCurrent: () => void): Promise<void> {
    const { controller, log } = this.#options
    const { signal } = this.#stop
    await follow({
      what: 'formations',
      log,
      signal,
      stream: async alive => {
        for await (const change of controller.streamFormations({ signal })) {
          alive()
          if (change.kind === 'current') {
            onCurrent()
            continue
          }
          this.#takeFormation(change.formation)
          this.dispatch({ kind: 'formation', formation: fromFormation(change.formation) })
          this.#watchServices()
        }
      },
    })
  }

  #watchServices(): void {
    const names = new Set<string>()
    for (const formation of this.#state.formations.values())
      for (const [type, process] of Object.entries(formation.processes))
        if (process.service !== undefined && (formation.counts[type] ?? 0) > 0) names.add(process.service)
    this.#traffic.services(names)
  }

  async #syncFormations(): Promise<void> {
    const list = await this.#options.controller.activeFormations({ signal: this.#stop.signal })
    for (const formation of list) this.#takeFormation(formation)
    this.dispatch({ kind: 'formations', formations: list.map(fromFormation) })
    for (const key of this.#expanded.keys()) if (!this.#state.formations.has(key)) this.#expanded.delete(key)
    this.#watchServices()
  }

  async #followVolumes(onCurrent: () => void): Promise<void> {
    const { controller, log } = this.#options
    const { signal } = this.#stop
    await follow({
      what: 'volumes',
      log,
      signal,
      stream: async alive => {
        for await (const change of controller.streamVolumes({ signal })) {
          alive()
          if (change.kind === 'current') onCurrent()
          else if (change.volume.type === 'data')
            this.dispatch({ kind: 'volume', volume: fromVolume(change.volume) })
        }
      },
    })
  }

  // Jobs ------------------------------------------------------------------------------------------------------------

  async #readRecords(): Promise<void> {
    const { controller } = this.#options
    const options = { signal: this.#stop.signal }
    const [jobs, volumes] = await Promise.all([controller.activeJobs(options), controller.volumes(options)])
    this.dispatch({ kind: 'recordedVolumes', ids: volumes.map(v => v.id) })
    this.dispatch({ kind: 'recordedJobs', jobs: fromRecordedJobs(jobs, volumes) })
  }

  async #syncJobs(): Promise<void> {
    await this.#hosts.sync()
    if (this.#state.leader) await this.#readRecords()
  }

  // Leadership ------------------------------------------------------------------------------------------------------

  /** A new leader looks at everything again before it acts. */
  async #beforeLeading(): Promise<void> {
    const { log } = this.#options
    try {
      await this.#hosts.sync(leadingListTimeoutMs)
      await this.#readRecords()
    } catch (err) {
      // The streams are in force and the periodic syncs follow; not leading at all would be worse.
      if (!this.#stop.signal.aborted) log.warn({ err }, 'records could not be read before leading')
    }
  }

  /** Leaves discoverd, then ends every stream. Jobs run on. Safe to call twice. */
  async close(): Promise<void> {
    await this.#registration?.close()
    this.#stop.abort()
    clearTimeout(this.#wake)
    await this.#running
  }
}
