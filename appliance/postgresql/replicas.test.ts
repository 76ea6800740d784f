import assert from 'node:assert/strict'
import { test } from 'node:test'
import { alertIntervalMs, type Failures, lookAtReplicas, type Member } from './replicas.core.ts'

const primary = { name: 'a', role: 'leader', state: 'running' }
const standby = { name: 'b', role: 'sync_standby', state: 'running' }
const replica = (state: string) => ({ name: 'c', role: 'replica', state })

function looks(...seen: readonly (readonly Member[])[]): (string | undefined)[] {
  let failures: Failures = new Map()
  return seen.map(members => {
    const step = lookAtReplicas(failures, members)
    failures = step.failures
    return step.copyAnew
  })
}

const whole = (...states: readonly string[]) => looks(...states.map(s => [primary, standby, replica(s)]))

const times = (n: number, state: string) => Array<string>(n).fill(state)

test('a replica that cannot start is copied anew at the sixth look', () => {
  assert.deepEqual(whole(...times(5, 'start failed'), 'crashed'), [...Array(5).fill(undefined), 'c'])
  assert.equal(whole(...times(6, 'start failed').flatMap(s => [s, 'starting'])).at(-2), 'c')
})

test('a replica that was well in between, or only starts or stops, is left alone', () => {
  assert.equal(whole(...times(5, 'start failed'), 'running', 'start failed').at(-1), undefined)
  assert.equal(whole(...times(5, 'start failed'), 'creating replica', 'crashed').at(-1), undefined)
  assert.equal(whole('starting', ...times(100, 'stopped'), 'stopping', 'starting').at(-1), undefined)
  const patient = times(89, 'starting')
  assert.equal(whole(...patient, 'running', ...patient).at(-1), undefined)
})

test('a replica whose start does not end is copied anew after three minutes', () => {
  const looks = whole(...times(90, 'starting'))
  assert.deepEqual([looks.at(-2), looks.at(-1)], [undefined, 'c'])
  assert.equal(90 * alertIntervalMs, 180_000)
})

test('data are never given up while they may be the only second copy', () => {
  const failing = replica('start failed')
  const alone = [primary, failing]
  assert.deepEqual(looks(...Array(7).fill(alone)), Array(7).fill(undefined))
  const asynchronous = [primary, { ...standby, role: 'replica' }, failing]
  assert.deepEqual(looks(...Array(7).fill(asynchronous)), Array(7).fill(undefined))
  const down = [primary, { ...standby, state: 'crashed' }, failing]
  assert.deepEqual(looks(...Array(7).fill(down)), Array(7).fill(undefined))
  const leaderless = [{ ...primary, role: 'replica' }, standby, failing]
  assert.deepEqual(looks(...Array(7).fill(leaderless)), Array(7).fill(undefined))
})

test('a primary that cannot start is never copied over', () => {
  const broken = [{ ...primary, state: 'start failed' }, standby, replica('running')]
  assert.deepEqual(looks(...Array(7).fill(broken)), Array(7).fill(undefined))
})
