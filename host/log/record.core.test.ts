import assert from 'node:assert/strict'
import { test } from 'node:test'
import { lineSplitter } from './lines.core.ts'
import {
  formatMessage,
  formatMicros,
  frameMessage,
  isAfter,
  type LogRecord,
  parseFrame,
  parseMessage,
  parseMicros,
} from './record.core.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (data: Uint8Array) => new TextDecoder().decode(data)
const micros = Date.UTC(2016, 0, 2, 15, 4, 5) * 1000 + 42
const record = (line: string) =>
  formatMessage({
    micros,
    seq: 7,
    hostId: 'h1',
    app: 'app',
    procId: 'web.h1-a',
    stream: 'stderr',
    line: bytes(line),
  })

test('a record is an RFC 5424 message with six fractional digits and its seq', () => {
  assert.equal(
    text(record('hello')),
    '<190>1 2016-01-02T15:04:05.000042Z h1 app web.h1-a ID2 [flynn seq="7"] hello',
  )
})

test('an empty line leaves the space before it out, unknown names are a dash', () => {
  assert.match(text(record('')), /\[flynn seq="7"\]$/)
  const message = formatMessage({
    micros,
    seq: 1,
    hostId: 'h1',
    app: undefined,
    procId: 'x',
    stream: 'stdout',
    line: bytes('a'),
  })
  assert.match(text(message), / h1 - x ID1 /)
})

test('records are read back, whatever bytes the line has', () => {
  for (const line of ['hello', '', ']" \\ [x]', '  two', 'ünï\u0000'.repeat(50)]) {
    const parsed = parseMessage(record(line)) as LogRecord
    assert.equal(text(parsed.line), line)
    assert.deepEqual(
      [parsed.micros, parsed.seq, parsed.procId, parsed.stream],
      [micros, 7, 'web.h1-a', 'stderr'],
    )
  }
})

test('times are read with any number of fractional digits', () => {
  assert.equal(parseMicros('2016-01-02T15:04:05.000042Z'), micros)
  assert.equal(parseMicros('2016-01-02T15:04:05.000042999Z'), micros)
  assert.equal(parseMicros('2016-01-02T15:04:05Z'), micros - 42)
  assert.equal(parseMicros('2016-01-02T15:04:05.1Z'), micros - 42 + 100_000)
  assert.equal(parseMicros('yesterday'), undefined)
  assert.equal(formatMicros(micros), '2016-01-02T15:04:05.000042Z')
})

test('frames are found one after the other; an incomplete one waits; damage costs a line', () => {
  const good = frameMessage(record('one'), '\n')
  const file = Buffer.concat([good, bytes('garbage line\n'), good, good.subarray(0, 20)])
  const seen: string[] = []
  for (let at = 0; at < file.length; ) {
    const frame = parseFrame(file, at)
    seen.push(frame.type)
    if (frame.type === 'incomplete') break
    at += frame.size
  }
  assert.deepEqual(seen, ['frame', 'garbage', 'frame', 'incomplete'])
})

test('a length that lies is garbage', () => {
  assert.equal(parseFrame(bytes('999999 x\n'), 0).type, 'garbage')
  assert.equal(parseFrame(bytes('12000 x\n'), 0).type, 'garbage')
  assert.equal(parseFrame(bytes('3 abcdef\n'), 0).type, 'garbage')
})

test('cursors are ordered by time, then by seq', () => {
  assert.equal(isAfter({ micros: 2, seq: 1 }, { micros: 1, seq: 9 }), true)
  assert.equal(isAfter({ micros: 1, seq: 2 }, { micros: 1, seq: 1 }), true)
  assert.equal(isAfter({ micros: 1, seq: 1 }, { micros: 1, seq: 1 }), false)
})

test('lines are cut at newlines and at their greatest length, whatever the chunks', () => {
  const input = `ab\n\n${'x'.repeat(25)}\n${'y'.repeat(10)}\ntail`
  const expected = ['ab', '', 'x'.repeat(10), 'x'.repeat(10), 'x'.repeat(5), 'y'.repeat(10)]
  for (let size = 1; size <= input.length; size++) {
    const splitter = lineSplitter(10)
    const lines: string[] = []
    for (let at = 0; at < input.length; at += size)
      lines.push(...splitter.push(bytes(input.slice(at, at + size))).map(text))
    assert.deepEqual(lines, expected, `chunks of ${size}`)
    assert.equal(splitter.consumed, input.length - 4)
    assert.deepEqual(splitter.end().map(text), ['tail'])
    assert.equal(splitter.consumed, input.length)
  }
})
