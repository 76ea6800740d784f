import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Failures, lookAtReplicas, type Member } from './replicas.core.ts'

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

test('a replica that cannot start is copied anew at the third look', () => {
  assert.deepEqual(whole('start failed', 'crashed', 'start failed'), [undefined, undefined, 'c'])
  assert.equal(whole('start failed', 'starting', 'start failed', 'starting', 'start failed').at(-1), 'c')
})

test('a replica that was well in between, or only starts or stops, is left alone', () => {
  assert.equal(whole('start failed', 'start failed', 'running', 'start failed').at(-1), undefined)
  assert.equal(whole('start failed', 'start failed', 'creating replica', 'crashed').at(-1), undefined)
  assert.equal(whole('starting', 'stopped', 'stopping', 'starting', 'starting').at(-1), undefined)
  const patient = Array<string>(17).fill('starting')
  assert.equal(whole(...patient, 'running', ...patient).at(-1), undefined)
})

test('a replica whose start does not end is copied anew after three minutes', () => {
  const looks = whole(...Array<string>(18).fill('starting'))
  assert.deepEqual([looks.at(-2), looks.at(-1)], [undefined, 'c'])
})

test('data are never given up while they may be the only second copy', () => {
  const failing = replica('start failed')
  const alone = [primary, failing]
  assert.deepEqual(looks(alone, alone, alone, alone), Array(4).fill(undefined))
  const asynchronous = [primary, { ...standby, role: 'replica' }, failing]
  assert.deepEqual(looks(asynchronous, asynchronous, asynchronous), Array(3).fill(undefined))
  const down = [primary, { ...standby, state: 'crashed' }, failing]
  assert.deepEqual(looks(down, down, down), Array(3).fill(undefined))
  const leaderless = [{ ...primary, role: 'replica' }, standby, failing]
  assert.deepEqual(looks(leaderless, leaderless, leaderless), Array(3).fill(undefined))
})

test('a primary that cannot start is never copied over', () => {
  const broken = [{ ...primary, state: 'start failed' }, standby, replica('running')]
  assert.deepEqual(looks(broken, broken, broken, broken), Array(4).fill(undefined))
})
