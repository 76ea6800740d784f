// Which step a deployment takes next, from the counts as they are now: so a worker that takes over half-way goes on, and
// a step that came to nothing is repeated (contract controller.md 5.1). Pure. Called by deployment.ts.
import type { Processes, Strategy } from '../types.ts'

export type Plan = {
  readonly strategy: Strategy
  /** Counts of the old formation when the deployment was created: what the new one shall have. */
  readonly wanted: Processes
  /** Counts now. */
  readonly old: Processes
  readonly new: Processes
  /** Process types that the new release has. */
  readonly types: ReadonlySet<string>
  /**
   * Types with a data volume. Two jobs cannot hold one volume: the old job lets go before the new one starts, whatever
   * the strategy, and the new one finds the data (4.11).
   */
  readonly exclusive: ReadonlySet<string>
  readonly batchSize: number
}

export type Step = {
  readonly release: 'old' | 'new'
  readonly processes: Processes
  /** False: nobody waits for the end of it. */
  readonly wait: boolean
}

/** Down events of new jobs that one step bears; the next one fails the deployment. */
export const jobFailuresMax = 5

const count = (processes: Processes, type: string): number => processes[type] ?? 0

/** The next step; undefined when the new release has taken over. */
export function nextStep(plan: Plan): Step | undefined {
  return plan.strategy === 'all-at-once' ? allAtOnce(plan) : inTurn(plan)
}

/**
 * What a worker begins with that takes over: the counts of the new release say what was asked for, not that it came up.
 * Without this the old release would be stopped for one that does not run. Undefined when nothing was asked for yet.
 */
export function resumeStep(plan: Plan): Step | undefined {
  const asked = Object.entries(plan.new).filter(([type, n]) => plan.types.has(type) && n > 0)
  return asked.length === 0 ? undefined : { release: 'new', processes: Object.fromEntries(asked), wait: true }
}

function typesOf(plan: Plan): readonly string[] {
  return [...new Set([...Object.keys(plan.wanted), ...Object.keys(plan.old)])].sort()
}

function allAtOnce(plan: Plan): Step | undefined {
  const types = typesOf(plan)
  const missing = types.filter(t => plan.types.has(t) && count(plan.new, t) < count(plan.wanted, t))
  const held = missing.filter(t => plan.exclusive.has(t) && count(plan.old, t) > 0)
  if (held.length > 0) return { release: 'old', processes: zero(held), wait: true }
  if (missing.length > 0) {
    const processes = Object.fromEntries(missing.map(t => [t, count(plan.wanted, t)]))
    return { release: 'new', processes, wait: true }
  }
  const left = types.filter(t => count(plan.old, t) > 0)
  return left.length > 0 ? { release: 'old', processes: zero(left), wait: false } : undefined
}

function zero(types: readonly string[]): Processes {
  return Object.fromEntries(types.map(t => [t, 0]))
}

function inTurn(plan: Plan): Step | undefined {
  for (const type of typesOf(plan)) {
    const step = typeStep(plan, type)
    if (step) return step
  }
  return undefined
}

function typeStep(plan: Plan, type: string): Step | undefined {
  const size = plan.strategy === 'in-batches' ? Math.max(1, plan.batchSize) : 1
  const goal = plan.types.has(type) ? count(plan.wanted, type) : 0
  const now = { old: count(plan.old, type), new: count(plan.new, type) }
  const scale = (release: Step['release'], to: number): Step => ({
    release,
    processes: { [type]: to },
    wait: true,
  })
  const missing = Math.max(0, goal - now.new)
  const downFirst = plan.strategy === 'one-down-one-up' || plan.exclusive.has(type)
  if (missing === 0) return now.old > 0 ? scale('old', Math.max(0, now.old - size)) : undefined
  if (downFirst) {
    if (now.old > 0 && now.old >= missing) return scale('old', Math.max(0, Math.min(now.old, missing) - size))
    return scale('new', Math.min(goal, now.new + size))
  }
  // As many old ones go as new ones have come: never fewer in all than were wanted.
  if (now.old > missing) return scale('old', Math.max(missing, now.old - size))
  return scale('new', Math.min(goal, now.new + size))
}
