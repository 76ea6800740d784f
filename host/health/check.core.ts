// When a service of a job counts as up (contract discoverd.md 14): the first success at once, afterwards `threshold`
// results in a row either way; with kill_down a job that is not up in time, or goes down later, is killed. Pure.
import { hostErrors } from '../errors.ts'
import type { HealthCheck } from '../types.ts'

export const firstProbeIntervalMs = 100
export const probeTimeoutMs = 2_000
export const defaultIntervalMs = 2_000
export const defaultThreshold = 2
export const defaultStartTimeoutMs = 10_000
export const defaultHttpStatus = 200
/** How far an answer is searched for `match`. */
export const matchBytesMax = 5_120

export type CheckPlan = {
  readonly type: 'tcp' | 'http' | 'https'
  readonly intervalMs: number
  readonly threshold: number
  readonly killDown: boolean
  readonly startTimeoutMs: number
  readonly path: string
  readonly host: string | undefined
  readonly match: string | undefined
  readonly status: number
}

const nsPerMs = 1_000_000

/** A check with its defaults filled in; throws UNSUPPORTED_CHECK. */
export function checkPlan(check: HealthCheck): CheckPlan {
  const { type } = check
  if (type !== 'tcp' && type !== 'http' && type !== 'https') throw hostErrors.UNSUPPORTED_CHECK({ type })
  const path = check.path || '/'
  return {
    type,
    intervalMs: check.interval ? Math.max(1, check.interval / nsPerMs) : defaultIntervalMs,
    threshold: check.threshold || defaultThreshold,
    killDown: check.kill_down ?? false,
    startTimeoutMs: check.start_timeout ? check.start_timeout / nsPerMs : defaultStartTimeoutMs,
    path: path.startsWith('/') ? path : `/${path}`,
    host: check.host || undefined,
    match: check.match || undefined,
    status: check.status || defaultHttpStatus,
  }
}

export type CheckState = {
  readonly phase: 'created' | 'up' | 'down'
  /** Results in a row that speak against the phase. */
  readonly against: number
  /** With kill_down: whether the time to come up has passed. */
  readonly startOver: boolean
}

export type CheckEvent =
  | { readonly type: 'probed'; readonly ok: boolean }
  /** `startTimeoutMs` after the job started. */
  | { readonly type: 'startTimeout' }

export type CheckEffect = 'register' | 'deregister' | 'kill'

export type CheckStep = {
  readonly state: CheckState
  readonly effects: readonly CheckEffect[]
  /** Wait before the next probe. */
  readonly nextProbeMs: number
}

export const newCheck: CheckState = { phase: 'created', against: 0, startOver: false }

/** The state of a service that was up, or down, when the daemon went away. */
export function resumedCheck(phase: 'up' | 'down'): CheckState {
  return { phase, against: 0, startOver: true }
}

export function stepCheck(plan: CheckPlan, state: CheckState, event: CheckEvent): CheckStep {
  const result = (next: CheckState, ...effects: CheckEffect[]): CheckStep => ({
    state: next,
    effects,
    nextProbeMs: next.phase === 'created' ? firstProbeIntervalMs : plan.intervalMs,
  })
  if (event.type === 'startTimeout') {
    const next = { ...state, startOver: true }
    return plan.killDown && state.phase !== 'up' ? result(next, 'kill') : result(next)
  }
  if (state.phase === 'created')
    return event.ok ? result({ ...state, phase: 'up' }, 'register') : result(state)
  const agrees = event.ok === (state.phase === 'up')
  if (agrees) return result({ ...state, against: 0 })
  const against = state.against + 1
  if (against < plan.threshold) return result({ ...state, against })
  if (event.ok) return result({ ...state, phase: 'up', against: 0 }, 'register')
  const down: CheckState = { ...state, phase: 'down', against: 0 }
  return plan.killDown && state.startOver ? result(down, 'deregister', 'kill') : result(down, 'deregister')
}
