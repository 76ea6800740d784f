import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { HealthCheck } from '../types.ts'
import {
  type CheckEvent,
  type CheckState,
  checkPlan,
  newCheck,
  resumedCheck,
  stepCheck,
} from './check.core.ts'

const ok: CheckEvent = { type: 'probed', ok: true }
const bad: CheckEvent = { type: 'probed', ok: false }
const startTimeout: CheckEvent = { type: 'startTimeout' }

/** Effects of each event, joined; `-` for none. */
function play(
  check: Partial<HealthCheck>,
  events: readonly CheckEvent[],
  from: CheckState = newCheck,
): string[] {
  const plan = checkPlan({ type: 'tcp', ...check })
  let state = from
  return events.map(event => {
    const step = stepCheck(plan, state, event)
    state = step.state
    return step.effects.join('+') || '-'
  })
}

test('the first success registers at once, failures before it are only waited out', () => {
  assert.deepEqual(play({}, [bad, bad, bad, ok]), ['-', '-', '-', 'register'])
})

test('a service goes down and up again after as many results in a row as its threshold', () => {
  const events = [ok, bad, ok, bad, bad, bad, ok, bad, ok, ok, ok]
  assert.deepEqual(play({ threshold: 2 }, events), [
    ...['register', '-', '-', '-', 'deregister'],
    ...['-', '-', '-', '-', 'register', '-'],
  ])
  assert.deepEqual(play({ threshold: 3 }, [ok, bad, bad, bad]), ['register', '-', '-', 'deregister'])
})

test('with kill_down a job that is not up in time is killed, and one that goes down later', () => {
  const check = { kill_down: true, threshold: 1 }
  assert.deepEqual(play(check, [bad, startTimeout]), ['-', 'kill'])
  assert.deepEqual(play(check, [ok, startTimeout, bad]), ['register', '-', 'deregister+kill'])
})

test('before the start time is over a service may go down and come back without being killed', () => {
  assert.deepEqual(play({ kill_down: true, threshold: 1 }, [ok, bad, ok, startTimeout]), [
    'register',
    'deregister',
    'register',
    '-',
  ])
})

test('without kill_down nothing is ever killed', () => {
  assert.deepEqual(play({ threshold: 1 }, [bad, startTimeout, ok, bad]), ['-', '-', 'register', 'deregister'])
})

test('a check that goes on after a restart keeps its phase', () => {
  assert.deepEqual(play({}, [ok, bad, bad], resumedCheck('up')), ['-', '-', 'deregister'])
  assert.deepEqual(play({}, [ok, ok], resumedCheck('down')), ['-', 'register'])
})

test('probes come every 100 ms until the first success, then every interval', () => {
  const plan = checkPlan({ type: 'http', interval: 3_000_000_000 })
  assert.equal(stepCheck(plan, newCheck, bad).nextProbeMs, 100)
  assert.equal(stepCheck(plan, newCheck, ok).nextProbeMs, 3_000)
})

test('a check that asks for nothing gets the defaults of the contract', () => {
  assert.deepEqual(checkPlan({ type: 'http' }), {
    type: 'http',
    intervalMs: 2_000,
    threshold: 2,
    killDown: false,
    startTimeoutMs: 10_000,
    path: '/',
    host: undefined,
    match: undefined,
    status: 200,
  })
})

test('an unknown type is refused', () => {
  assert.throws(() => checkPlan({ type: 'ping' }), /unsupported check type: ping/)
})
