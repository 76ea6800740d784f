// A worker of a simulated world that replaces one release by another with the planner of the real one (contract
// controller.md 5.1): step after step, and all back when the new release does not come up, somebody cancels, or a step takes
// too long. It dies at times; another goes on from the counts as they are. Used by simulator-deploy.test.ts.
import { jobFailuresMax, nextStep, type Plan, resumeStep, type Step } from '../worker/deployment.core.ts'
import type { World } from './simulator.ts'
import type { Formations } from './simulator-worlds.ts'

const pollMs = 500
/** How long a new job must have run before an old one is stopped for it. */
const steadyMs = 2_000
/** How long one step may take. */
export const stepTimeoutMs = 120_000

export type DeploymentOptions = {
  readonly app: string
  readonly from: string
  readonly to: string
  readonly strategy: Plan['strategy']
  readonly wanted: Readonly<Record<string, number>>
  readonly exclusive: ReadonlySet<string>
}

export class SimDeployment {
  outcome: 'complete' | 'failed' | undefined
  readonly #world: World
  readonly #formations: Formations
  readonly #options: DeploymentOptions
  #cancelled = false
  /** A worker that died does nothing more. */
  #worker = 0
  /** New jobs that had ended when the step began. */
  #endedBefore = 0

  constructor(world: World, formations: Formations, options: DeploymentOptions) {
    this.#world = world
    this.#formations = formations
    this.#options = options
    this.#next()
  }

  cancel(): void {
    this.#cancelled = true
  }

  /** The worker ends in the middle of what it does; another one takes over. */
  crash(): void {
    this.#worker++
    this.#after(5_000, () => this.#take(resumeStep(this.#plan()) ?? nextStep(this.#plan())))
  }

  #after(delayMs: number, run: () => void): void {
    const worker = this.#worker
    this.#world.at(delayMs, () => {
      if (worker === this.#worker && this.outcome === undefined) run()
    })
  }

  #counts(release: string): Readonly<Record<string, number>> {
    return this.#world.formations.get(`${this.#options.app}:${release}`)?.counts ?? {}
  }

  #plan(): Plan {
    const { from, to, strategy, wanted, exclusive } = this.#options
    return {
      ...{ strategy, wanted, exclusive },
      old: this.#counts(from),
      new: this.#counts(to),
      types: new Set(Object.keys(wanted)),
      batchSize: 2,
    }
  }

  #scale(release: string, processes: Readonly<Record<string, number>>): string {
    const formation = this.#formations.make(this.#options.app, release, {
      ...this.#counts(release),
      ...processes,
    })
    this.#world.setFormation(formation)
    return formation.scale?.id ?? ''
  }

  #next(): void {
    this.#take(nextStep(this.#plan()))
  }

  #take(step: Step | undefined): void {
    if (step === undefined) {
      this.#world.setFormation(this.#formations.make(this.#options.app, this.#options.from, {}))
      this.outcome = 'complete'
      return
    }
    const fresh = step.release === 'new'
    this.#endedBefore = this.#ended()
    const scale = this.#scale(fresh ? this.#options.to : this.#options.from, step.processes)
    if (step.wait) this.#wait(scale, this.#world.nowMs + stepTimeoutMs, fresh)
    else this.#after(pollMs, () => this.#next())
  }

  /** New jobs that are down. */
  #ended(): number {
    const { app, to } = this.#options
    return [...this.#world.table.rows.values()].filter(
      r => r.appId === app && r.releaseId === to && r.state === 'down',
    ).length
  }

  #wait(scale: string, untilMs: number, fresh: boolean): void {
    const state = this.#world.table.finishedScales.get(scale)
    const failed = fresh && this.#ended() - this.#endedBefore > jobFailuresMax
    if (failed || this.#cancelled || this.#world.nowMs > untilMs) this.#rollBack()
    else if (state === undefined) this.#after(pollMs, () => this.#wait(scale, untilMs, fresh))
    else if (fresh) this.#steady(untilMs)
    else this.#next()
  }

  /** New jobs must last for a moment before old ones are stopped for them. */
  #steady(untilMs: number): void {
    const before = this.#ended()
    this.#after(steadyMs, () => {
      if (
        this.#ended() - this.#endedBefore > jobFailuresMax ||
        this.#cancelled ||
        this.#world.nowMs > untilMs
      )
        this.#rollBack()
      else if (this.#ended() > before || !this.#allUp()) this.#steady(untilMs)
      else this.#next()
    })
  }

  #allUp(): boolean {
    const { app, to } = this.#options
    const up = [...this.#world.table.rows.values()].filter(
      r => r.appId === app && r.releaseId === to && r.state === 'up',
    )
    return Object.entries(this.#counts(to)).every(([type, n]) => up.filter(r => r.type === type).length >= n)
  }

  #rollBack(): void {
    const { app, from, to, wanted, exclusive } = this.#options
    this.#cancelled = true
    const drop = (): void => this.#world.setFormation(this.#formations.make(app, to, {}))
    // What the new release holds, the old one needs: it goes first then.
    if (exclusive.size > 0) drop()
    const scale = this.#scale(from, wanted)
    const end = this.#world.nowMs + stepTimeoutMs
    const back = (): void => {
      if (this.#world.table.finishedScales.get(scale) === undefined && this.#world.nowMs < end) {
        this.#after(pollMs, back)
        return
      }
      drop()
      this.outcome = 'failed'
    }
    back()
  }
}
