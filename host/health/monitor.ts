// Runs one health check: probes on time, folds the results in the pure machine, hands out its effects.
import { type CheckEffect, type CheckPlan, type CheckState, stepCheck } from './check.core.ts'
import type { Probe } from './probe.ts'

export type MonitorOptions = {
  readonly plan: CheckPlan
  readonly state: CheckState
  readonly probe: Probe
  readonly host: string
  readonly port: number
  /** `reason` says what the last probe found wrong; empty when it found nothing. */
  readonly onEffect: (effect: CheckEffect, reason: string) => void
}

/** Probes until the returned function is called. */
export function monitor(options: MonitorOptions): () => void {
  const { plan } = options
  let state = options.state
  let over = false
  let timer: NodeJS.Timeout | undefined
  let startTimer: NodeJS.Timeout | undefined

  async function round(): Promise<void> {
    const reason = await options.probe(plan, options.host, options.port)
    if (over) return
    const step = stepCheck(plan, state, { type: 'probed', ok: reason === undefined })
    state = step.state
    for (const effect of step.effects) options.onEffect(effect, reason ?? '')
    timer = setTimeout(() => void round(), step.nextProbeMs)
  }
  void round()
  if (plan.killDown && !state.startOver)
    startTimer = setTimeout(() => {
      const step = stepCheck(plan, state, { type: 'startTimeout' })
      state = step.state
      for (const effect of step.effects) options.onEffect(effect, `not up within ${plan.startTimeoutMs} ms`)
    }, plan.startTimeoutMs)

  return () => {
    over = true
    clearTimeout(timer)
    clearTimeout(startTimer)
  }
}
