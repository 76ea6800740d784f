import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formatMessage, sequenceData } from '../pkg/syslog/syslog.core.ts'
import { type Buffers, createBuffers, toMessage } from './buffers.core.ts'
import { linesMax } from './types.ts'

function add(buffers: Buffers, timestampUs: number, seq: number, appId = 'app', msg = String(seq)): boolean {
  const structuredData = sequenceData(seq)
  const fields = {
    timestampUs,
    hostname: 'h',
    appName: appId,
    procId: 'web.j',
    msgId: 'ID1',
    structuredData,
    msg,
  }
  return buffers.add(appId, { timestampUs, text: formatMessage(fields) }, structuredData)
}
const read = (buffers: Buffers, appId = 'app') => buffers.read(appId).map(e => toMessage(e).msg)

test('late lines are put in their place, lines of one moment stay as they came', () => {
  const buffers = createBuffers()
  for (const [time, seq] of [
    [10, 1],
    [30, 2],
    [20, 3],
    [30, 4],
    [20, 5],
    [5, 6],
  ] as const)
    assert.equal(add(buffers, time, seq), true)
  assert.deepEqual(read(buffers), ['6', '1', '3', '5', '2', '4'])
})

test('a line that comes twice is kept once', () => {
  const buffers = createBuffers()
  assert.equal(add(buffers, 10, 1), true)
  assert.equal(add(buffers, 10, 2), true)
  assert.equal(add(buffers, 20, 3), true)
  assert.equal(add(buffers, 10, 1), false)
  assert.equal(add(buffers, 20, 1), true, 'another moment is another line')
  assert.deepEqual(read(buffers), ['1', '2', '3', '1'])
})

test('a full buffer drops its oldest line and refuses what is older still', () => {
  const buffers = createBuffers()
  for (let i = 0; i < linesMax + 2_500; i++) add(buffers, 1_000 + i, i)
  assert.equal(read(buffers).length, linesMax)
  assert.equal(read(buffers)[0], '2500')
  assert.equal(add(buffers, 1, 99_999), false)
  assert.equal(read(buffers).length, linesMax)
})

test('a late line in a full buffer drops the oldest too', () => {
  const buffers = createBuffers()
  for (let i = 0; i < linesMax; i++) add(buffers, 10 * i, i)
  assert.equal(add(buffers, 55, 77_777), true)
  assert.equal(read(buffers).length, linesMax)
  assert.deepEqual(read(buffers).slice(0, 6), ['1', '2', '3', '4', '5', '77777'])
})

test('short memory is taken from the app that has most', () => {
  const buffers = createBuffers(200_000)
  for (let i = 0; i < 10; i++) add(buffers, i, i, 'quiet')
  for (let i = 0; i < 5_000; i++) {
    add(buffers, i, i, 'loud', 'x'.repeat(200))
    assert.ok(buffers.bytes <= 200_000)
  }
  assert.equal(read(buffers, 'quiet').length, 10)
  assert.ok(read(buffers, 'loud').length > 300)
})

test('any number of apps stays within the budget, and reading an unknown one costs nothing', () => {
  const buffers = createBuffers(50_000)
  for (let i = 0; i < 2_000; i++) add(buffers, i, i, `app${i}`)
  assert.ok(buffers.bytes <= 50_000)
  const { bytes } = buffers
  assert.deepEqual(read(buffers, 'nobody'), [])
  assert.equal(buffers.bytes, bytes)
})
