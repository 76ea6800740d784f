// One scheduler process of a simulated world: the core with its timers and streams. Messages to it are late, out of order,
// lost or doubled; it freezes, and does not lead when it thaws, as leadership.ts has it. Used by simulator.ts only.

import { standstillMaxMs } from './leadership.ts'
import { step } from './scheduler.core.ts'
import type { World } from './simulator.ts'
import { Rules } from './simulator-rules.ts'
import { type Effect, type Event, emptyState, type Happening, type State } from './state.core.ts'

export const hostCheckMs = 1_000
export const tickMs = 10_000
export const jobSyncMs = 30_000
export const formationSyncMs = 60_000

export class SimScheduler {
  readonly number: number
  state: State = emptyState
  alive = true
  frozen = false
  /** Events that it has taken in. */
  events = 0
  readonly #world: World
  readonly #rules: Rules
  #asleep: (() => void)[] = []
  #frozenAtMs = 0
  #wakeAtMs: number | undefined

  constructor(world: World, number: number) {
    this.#world = world
    this.number = number
    this.#rules = new Rules(this, violation => world.violations.push(violation))
  }

  /** Reads the world, then registers. */
  start(): void {
    const world = this.#world
    for (const host of world.hosts.values()) if (host.listed) this.dispatch(world.announcement(host))
    for (const formation of world.formations.values()) this.dispatch({ kind: 'formation', formation })
    for (const { volume } of world.table.volumes.values()) this.dispatch({ kind: 'volume', volume })
    for (const host of world.hosts.values())
      if (host.reachable) for (const happening of world.listing(host)) this.dispatch(happening)
    this.dispatch({ kind: 'recordedJobs', jobs: world.table.activeRows() })
    this.dispatch({ kind: 'loaded' })
    this.dispatch(world.service())
    if (world.router !== undefined) for (const happening of world.router.all()) this.dispatch(happening)
    world.register(this)
    this.#every(hostCheckMs, () => this.#probe())
    this.#every(tickMs, () => this.dispatch({ kind: 'tick' }))
    this.#every(jobSyncMs, () => this.#syncJobs())
    this.#every(formationSyncMs, () => this.#syncFormations())
  }

  kill(): void {
    this.alive = false
  }

  freeze(): void {
    this.frozen = true
    this.#frozenAtMs = this.#world.nowMs
  }

  thaw(): void {
    this.frozen = false
    if (this.alive && this.#world.nowMs - this.#frozenAtMs >= standstillMaxMs)
      this.dispatch({ kind: 'leader', leader: false })
    for (const run of this.#asleep.splice(0)) this.#do(run)
  }

  #do(run: () => void): void {
    if (!this.alive) return
    if (this.frozen) this.#asleep.push(run)
    else run()
  }

  #after(delayMs: number, run: () => void): void {
    this.#world.at(delayMs, () => this.#do(run))
  }

  #every(everyMs: number, run: () => void): void {
    const again = (): void => {
      run()
      this.#after(everyMs, again)
    }
    this.#after(everyMs, again)
  }

  dispatch(happening: Happening): void {
    const { nowMs, random } = this.#world
    this.events++
    const event: Event = { ...happening, nowMs, seed: random.seed() }
    const before = this.state
    const result = step(before, event)
    this.state = result.state
    this.#rules.look(event, result.effects)
    for (const effect of result.effects) this.#carryOut(effect)
    this.#wake(result.wakeAtMs)
  }

  #wake(atMs: number | undefined): void {
    if (atMs === undefined || this.#wakeAtMs === atMs) return
    this.#wakeAtMs = atMs
    this.#after(atMs - this.#world.nowMs, () => {
      if (this.#wakeAtMs === atMs) this.#wakeAtMs = undefined
      this.dispatch({ kind: 'tick' })
    })
  }

  /** A message: late; unless it is reliable, also lost or doubled. */
  tell(happening: Happening, options: { readonly reliable?: boolean } = {}): void {
    const world = this.#world
    if (!options.reliable && world.chance(5)) return
    this.#after(world.delayMs(), () => this.dispatch(happening))
    if (!options.reliable && world.chance(5))
      this.#after(world.delayMs(2_000), () => this.dispatch(happening))
  }

  /** What discoverd says, as it is when it comes through: its streams keep their order. */
  show(now: () => Happening | undefined): void {
    this.#after(this.#world.delayMs(), () => {
      const happening = now()
      if (happening !== undefined) this.dispatch(happening)
    })
  }

  #carryOut(effect: Effect): void {
    this.#world.carryOut(effect, this, happening =>
      this.#after(this.#world.delayMs(), () => this.dispatch(happening)),
    )
  }

  #probe(): void {
    for (const known of [...this.state.hosts.values()]) {
      if (known.healthy) continue
      const host = this.#world.hosts.get(known.id)
      const ok = host?.reachable === true
      this.dispatch({ kind: 'hostProbe', hostId: known.id, ok, silent: !ok })
    }
  }

  #syncJobs(): void {
    const world = this.#world
    for (const host of world.hosts.values()) if (host.reachable) this.list(host.id)
    this.#after(world.delayMs(), () => {
      if (this.state.leader && !world.table.away)
        this.dispatch({ kind: 'recordedJobs', jobs: world.table.activeRows() })
    })
    this.dispatch(world.service())
  }

  /** The host's jobs as they are now, known a little later. */
  list(hostId: string): void {
    const host = this.#world.hosts.get(hostId)
    if (!host?.reachable || !this.state.hosts.has(hostId)) return
    for (const happening of this.#world.listing(host)) this.tell(happening, { reliable: true })
  }

  #syncFormations(): void {
    if (this.#world.table.away) return
    const formations = [...this.#world.formations.values()].filter(
      f => f.scale !== undefined || Object.values(f.counts).some(n => n > 0),
    )
    this.dispatch({ kind: 'formations', formations })
  }
}
