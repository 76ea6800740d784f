import assert from 'node:assert/strict'
import { test } from 'node:test'
import { initialState, look, type Observation, type WatchState } from './leader.core.ts'

function looks(...seen: readonly Observation[]): (string | undefined)[] {
  let state: WatchState = initialState
  return seen.map(s => {
    const step = look(state, s)
    state = step.state
    return step.setLeader
  })
}

test('a leader that agrees with the primary is left alone', () => {
  const agree = { primaries: ['a'], leader: 'a' }
  assert.deepEqual(looks(agree, agree, agree), [undefined, undefined, undefined])
})

test('a missing or wrong leader is corrected at the second look', () => {
  const missing = { primaries: ['a'], leader: undefined }
  const wrong = { primaries: ['a'], leader: 'b' }
  assert.deepEqual(looks(missing, missing), [undefined, 'a'])
  assert.deepEqual(looks(missing, wrong), [undefined, 'a'])
})

test('a primary that changes between two looks is not yet believed', () => {
  assert.deepEqual(
    looks(
      { primaries: ['a'], leader: 'b' },
      { primaries: ['b'], leader: 'b' },
      { primaries: ['c'], leader: 'b' },
    ),
    [undefined, undefined, undefined],
  )
})

test('nothing is set without a primary, or with two', () => {
  const none = { primaries: [], leader: 'a' }
  const two = { primaries: ['a', 'b'], leader: 'c' }
  assert.deepEqual(looks(none, none, two, two), [undefined, undefined, undefined, undefined])
})
