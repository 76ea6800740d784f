import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type MemberView, nextSteps, planRecover, planText } from './recover.core.ts'

const member = (n: number, revision?: number, learner = false): MemberView => ({
  ...{ name: `h${n}`, address: `10.0.0.${n}`, learner },
  ...(revision === undefined ? {} : { revision, hasLeader: false }),
})
const plan = (members: readonly MemberView[], n = 1, force = false) =>
  planRecover(members, `10.0.0.${n}`, { force })

test('one of three that is left is recovered from, the others are peers no more', () => {
  const made = plan([member(1, 40), member(2), member(3)])
  assert.equal(made.refused, undefined)
  assert.deepEqual(
    made.removed.map(m => m.name),
    ['h2', 'h3'],
  )
  assert.match(planText(made), /h1 \(10\.0\.0\.1\) has data to revision 40 {3}<- these data are kept/)
  assert.match(planText(made), /h2, h3: no peers any more/)
})

test('the next commands name the addresses', () => {
  const text = nextSteps(plan([member(1, 40), member(2)]))
  assert.match(text, /flynn-host promote 10\.0\.0\.2\n/)
  assert.match(text, /flynn-host init --peer-ips=10\.0\.0\.1\n/)
})

test('a majority that answers refuses, with a leader or without', () => {
  assert.match(plan([member(1, 40), member(2, 40), member(3)]).refused?.text ?? '', /2 of 3 .* majority/)
  assert.match(plan([member(1, 40)]).refused?.text ?? '', /1 of 1/)
})

test('half of the peers is no majority', () => {
  assert.equal(plan([member(1, 40), member(2)]).refused, undefined)
})

test('newer data elsewhere refuse unless forced, and say where', () => {
  const members = [member(1, 40), member(2, 41), member(3), member(4), member(5)]
  assert.match(plan(members).refused?.remedy ?? '', /flynn-host recover 10\.0\.0\.2/)
  assert.equal(plan(members, 1, true).refused, undefined)
  assert.equal(plan(members, 2).refused, undefined)
})

test('a learner, a silent member and a host without data are refused', () => {
  assert.ok(plan([member(1, 40, true), member(2), member(3)]).refused)
  assert.ok(plan([member(1), member(2), member(3, 40)]).refused)
  assert.ok(plan([member(2), member(3, 40), member(4)]).refused)
})
