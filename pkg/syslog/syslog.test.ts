import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  encodeFrame,
  formatMessage,
  formatTimestamp,
  formatTimestampNano,
  frameDecoder,
  parseMessage,
  parseSequence,
  parseTimestamp,
  sequenceData,
  splitProcId,
} from './syslog.core.ts'

const message = {
  timestampUs: 1_451_743_445_000_042,
  hostname: 'host0',
  appName: '3a2f',
  procId: 'web.host0-11',
  msgId: 'ID1',
  structuredData: sequenceData(7),
  msg: 'hello [world] "x"',
}

test('a message survives formatting and parsing', () => {
  assert.deepEqual(parseMessage(formatMessage(message)), message)
})

test('an empty line has no space after the structured data', () => {
  const text = formatMessage({ ...message, msg: '' })
  assert.ok(text.endsWith('[flynn seq="7"]'))
  assert.equal(parseMessage(text)?.msg, '')
})

test('brackets and quotes inside a parameter do not end the structured data', () => {
  const sd = '[x a="]\\"]"][flynn b="\\]" seq="12"]'
  const parsed = parseMessage(formatMessage({ ...message, structuredData: sd }))
  assert.equal(parsed?.structuredData, sd)
  assert.equal(parseSequence(sd), 12)
})

test('text that is no RFC 5424 message is refused', () => {
  for (const text of ['', 'hello', '<190>1 yesterday h a p m -', '<190>1 2016-01-02T15:04:05Z h a p m [x'])
    assert.equal(parseMessage(text), undefined, text)
})

test('timestamps have six digits on the wire and no trailing zeros in JSON', () => {
  const us = parseTimestamp('2016-01-02T15:04:05.1002Z') as number
  assert.equal(formatTimestamp(us), '2016-01-02T15:04:05.100200Z')
  assert.equal(formatTimestampNano(us), '2016-01-02T15:04:05.1002Z')
  assert.equal(formatTimestampNano(parseTimestamp('2016-01-02T15:04:00Z') as number), '2016-01-02T15:04:00Z')
})

test('frames come out whole however the bytes are cut', () => {
  const texts = ['one', 'zwei ü', 'three\nlines']
  const bytes = Buffer.concat(texts.map(encodeFrame))
  for (let size = 1; size <= bytes.length; size++) {
    const decoder = frameDecoder()
    const out: string[] = []
    for (let at = 0; at < bytes.length; at += size) out.push(...decoder.push(bytes.subarray(at, at + size)))
    assert.deepEqual(out, texts)
    assert.equal(decoder.pendingBytes, 0)
  }
})

test('an over-long frame and a missing length are errors', () => {
  assert.throws(() => frameDecoder().push(Buffer.from('11001 x')))
  assert.throws(() => frameDecoder().push(Buffer.from('123456 x')))
  assert.throws(() => frameDecoder().push(Buffer.from('abc def')))
})

test('a process id divides at its first dot', () => {
  assert.deepEqual(splitProcId('web.host-1.x'), { processType: 'web', jobId: 'host-1.x' })
  assert.deepEqual(splitProcId('host-1'), { processType: '', jobId: 'host-1' })
})
