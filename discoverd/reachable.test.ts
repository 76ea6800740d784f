import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Reachable } from './reachable.ts'

test('thousands who wait ask one question at a time, and all hear the answer', async () => {
  let [now, most, asked] = [0, 0, 0]
  const reachable = new Reachable(async () => {
    most = Math.max(most, ++now)
    await new Promise(setImmediate)
    now--
    if (++asked < 3) throw new Error('away')
  })
  await Promise.all(Array.from({ length: 2_000 }, () => reachable.wait(undefined)))
  assert.deepEqual([most, asked], [1, 3])
})

test('whoever gives up waits no longer, and the questions end with the last', async () => {
  let asked = 0
  const reachable = new Reachable(async () => {
    asked++
    throw new Error('away')
  })
  const [one, two] = [new AbortController(), new AbortController()]
  const waits = [reachable.wait(one.signal), reachable.wait(two.signal)]
  one.abort()
  await waits[0]
  const before = asked
  while (asked === before) await new Promise(resolve => setTimeout(resolve, 10))
  two.abort()
  await waits[1]
  const after = asked
  await new Promise(resolve => setTimeout(resolve, 1_500))
  assert.equal(asked, after)
})

test('who comes after the last gave up asks anew', async () => {
  let away = true
  const reachable = new Reachable(async () => {
    if (away) throw new Error('away')
  })
  const stop = new AbortController()
  const wait = reachable.wait(stop.signal)
  stop.abort()
  await wait
  away = false
  await reachable.wait(undefined)
})

test('who has given up already does not wait', async () => {
  const reachable = new Reachable(() => assert.fail('asked'))
  await reachable.wait(AbortSignal.abort())
})
