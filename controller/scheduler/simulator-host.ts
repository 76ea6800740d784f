// One host of a simulated world: its jobs start, run, crash and fail by lot; it loses power, is cut off, freezes, leaves and
// comes back. Used by simulator.ts only.
import type { Random } from '../../pkg/random/random.core.ts'
import type { SimClock } from './simulator-clock.ts'
import type { SimFence } from './simulator-moves.ts'
import type { Host, HostJob } from './state.core.ts'

/** Time until discoverd drops a host that does not renew its lease. */
const leaseMs = 4_000
/** A host lists no more of its ended jobs. */
const endedListedMax = 25

export type HostWorld = {
  readonly clock: SimClock
  readonly random: Random
  /** True in so many of a hundred cases, while faults are on. */
  readonly chance: (percent: number) => boolean
  readonly delayMs: (max?: number) => number
  /** How a job of this kind ends: by lot when it is not said. */
  readonly fate: (job: HostJob) => 'runs' | 'crashes' | 'fails'
  /** A job event on the host's stream. */
  readonly tell: (job: HostJob) => void
  /** A job has begun to run, or has ended. */
  readonly changed: (host: SimHost) => void
  /** The host is in discoverd's list again, or no more. */
  readonly registered: (host: SimHost, listed: boolean) => void
}

export type HostSize = Pick<Host, 'memoryBytes' | 'cpuMillis'>

export function isLive(job: HostJob): boolean {
  return job.status === 'starting' || job.status === 'running'
}

export class SimHost {
  readonly id: string
  readonly size: HostSize
  readonly jobs = new Map<string, HostJob>()
  readonly volumes = new Set<string>()
  /** Those that no job may have. */
  readonly fences = new Map<string, SimFence>()
  alive = true
  /** Somebody wants its jobs on other hosts. */
  draining = false
  /** discoverd lists it. */
  listed = true
  /** Nobody reaches it, yet it runs. */
  cut = false
  frozen = false
  /** It says that it shuts down. */
  leaving = false
  #boots = 0
  readonly #ended: string[] = []
  #asleep: (() => void)[] = []
  readonly #world: HostWorld

  constructor(id: string, size: HostSize, world: HostWorld) {
    this.id = id
    this.size = size
    this.#world = world
  }

  get reachable(): boolean {
    return this.alive && !this.cut && !this.frozen
  }

  holderOf(volumeId: string): HostJob | undefined {
    return [...this.jobs.values()].find(j => isLive(j) && j.volumes.some(v => v.id === volumeId))
  }

  /** Runs when the host is awake: at once, or when it thaws; never when power went meanwhile. */
  awake(run: () => void): void {
    if (this.frozen) this.#asleep.push(run)
    else run()
  }

  start(job: HostJob): void {
    const { clock, delayMs, fate } = this.#world
    const end = fate(job)
    const boot = this.#boots
    const later = (ms: number, run: () => void): void =>
      clock.at(ms, () =>
        this.awake(() => {
          if (this.alive && this.#boots === boot) run()
        }),
      )
    this.#set(job)
    later(delayMs(3_000), () => {
      const now = this.jobs.get(job.uuid)
      if (now?.status !== 'starting') return
      if (end === 'fails') {
        this.#end(job.uuid, 'failed')
        return
      }
      this.#set({ ...now, status: 'running', startedMs: clock.nowMs })
      if (end === 'crashes') later(delayMs(500), () => this.#end(job.uuid, 'crashed', 1))
    })
  }

  end(uuid: string, status: 'done' | 'crashed' | 'failed', exitStatus?: number): void {
    this.awake(() => this.#end(uuid, status, exitStatus))
  }

  #end(uuid: string, status: 'done' | 'crashed' | 'failed', exitStatus?: number): void {
    const job = this.jobs.get(uuid)
    if (!this.alive || !job || !isLive(job)) return
    const ended: HostJob = { ...job, status, endedMs: this.#world.clock.nowMs }
    this.#set(exitStatus === undefined ? ended : { ...ended, exitStatus })
  }

  #set(job: HostJob): void {
    this.jobs.set(job.uuid, job)
    if (!isLive(job)) this.#forget(job.uuid)
    if (this.reachable) this.#world.tell(job)
    this.#world.changed(this)
  }

  #forget(uuid: string): void {
    this.#ended.push(uuid)
    if (this.#ended.length > endedListedMax) this.jobs.delete(this.#ended.shift() ?? '')
  }

  /** Its jobs end without a word. */
  powerOff(): void {
    if (!this.alive) return
    this.alive = false
    this.frozen = false
    this.#asleep = []
    this.#boots++
    this.#leaseEnds()
    this.#world.changed(this)
  }

  /** System jobs are started again under new ids before the host is listed (docs/wiring.md). */
  powerOn(): void {
    if (this.alive) return
    this.alive = true
    this.leaving = false
    const { clock, random } = this.#world
    for (const job of [...this.jobs.values()].filter(isLive)) {
      this.jobs.set(job.uuid, { ...job, status: 'failed', endedMs: clock.nowMs })
      if (job.system && !job.volumes.some(v => this.fences.has(v.id)))
        this.start({ ...job, uuid: random.uuid(), status: 'starting', createdMs: clock.nowMs })
    }
    this.#list()
  }

  cutOff(): void {
    if (!this.reachable) return
    this.cut = true
    this.#leaseEnds()
  }

  heal(): void {
    if (!this.cut) return
    this.cut = false
    if (this.alive && !this.frozen) this.#list()
  }

  freeze(): void {
    if (!this.alive || this.frozen) return
    this.frozen = true
    this.#leaseEnds()
  }

  /** What came in meanwhile is done now, whoever gave up waiting for it. */
  thaw(): void {
    if (!this.frozen) return
    this.frozen = false
    if (!this.cut) this.#list()
    for (const run of this.#asleep.splice(0)) run()
  }

  /** Says that it shuts down, ends its jobs and goes; power brings it back. */
  leave(): void {
    if (!this.reachable || this.leaving) return
    this.leaving = true
    this.#list()
    const { clock, delayMs } = this.#world
    for (const job of this.jobs.values())
      if (isLive(job)) clock.at(delayMs(10_000), () => this.end(job.uuid, 'done', 0))
    clock.at(12_000, () => {
      if (this.leaving) this.powerOff()
    })
  }

  #leaseEnds(): void {
    this.#world.clock.at(leaseMs, () => {
      if (this.reachable || !this.listed) return
      this.listed = false
      this.#world.registered(this, false)
    })
  }

  #list(): void {
    this.listed = true
    this.#world.registered(this, true)
  }
}
