import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decide, type RequestConditions } from './conditions.core.ts'

const info = {
  size: 10,
  contentType: '',
  etag: '"abc/+="',
  lastModified: new Date('2026-01-02T03:04:05.678Z'),
}
const kind = (conditions: RequestConditions) => decide(conditions, info).kind
const ranges = (range: string, conditions: RequestConditions = {}) => {
  const decision = decide({ ...conditions, range }, info)
  return decision.kind === 'partial' ? decision.ranges.map(r => [r.start, r.length]) : decision.kind
}

test('a request without conditions gets the whole', () => {
  assert.equal(kind({}), 'whole')
})

test('a client that has the content is told so', () => {
  for (const ifNoneMatch of [info.etag, '*', `"x", W/${info.etag}`])
    assert.equal(kind({ ifNoneMatch }), 'not-modified')
  assert.equal(kind({ ifNoneMatch: '"x"' }), 'whole')
  assert.equal(kind({ ifModifiedSince: 'Fri, 02 Jan 2026 03:04:05 GMT' }), 'not-modified')
  assert.equal(kind({ ifModifiedSince: 'Fri, 02 Jan 2026 03:04:04 GMT' }), 'whole')
  assert.equal(kind({ ifModifiedSince: 'yesterday' }), 'whole')
})

test('an entity tag outweighs a date', () => {
  assert.equal(kind({ ifNoneMatch: '"x"', ifModifiedSince: 'Fri, 02 Jan 2026 03:04:05 GMT' }), 'whole')
})

test('a precondition that does not hold fails the request', () => {
  assert.equal(kind({ ifMatch: '"x"' }), 'precondition-failed')
  assert.equal(kind({ ifMatch: `W/${info.etag}` }), 'precondition-failed')
  assert.equal(kind({ ifMatch: info.etag }), 'whole')
  assert.equal(kind({ ifUnmodifiedSince: 'Fri, 02 Jan 2026 03:04:04 GMT' }), 'precondition-failed')
  assert.equal(kind({ ifUnmodifiedSince: 'Fri, 02 Jan 2026 03:04:05 GMT' }), 'whole')
})

test('ranges are read from both ends and cut at the end', () => {
  assert.deepEqual(ranges('bytes=0-3'), [[0, 4]])
  assert.deepEqual(ranges('bytes=4-'), [[4, 6]])
  assert.deepEqual(ranges('bytes=-3'), [[7, 3]])
  assert.deepEqual(ranges('bytes=-99'), [[0, 10]])
  assert.deepEqual(ranges('bytes=8-99'), [[8, 2]])
  assert.deepEqual(ranges('bytes=0-1, 4-5'), [
    [0, 2],
    [4, 2],
  ])
})

test('a range that cannot be met is refused, a partly met list is not', () => {
  for (const range of ['bytes=10-', 'bytes=-0', 'bytes=3-2', 'bytes=a-b', 'lines=1-2', 'bytes=--1'])
    assert.equal(ranges(range), 'unsatisfiable', range)
  assert.deepEqual(ranges('bytes=0-0,20-'), [[0, 1]])
})

test('ranges that add up to more than the object get the whole', () => {
  assert.equal(ranges('bytes=0-9,0-9'), 'whole')
})

test('a range of a changed object gets the whole', () => {
  assert.equal(ranges('bytes=0-3', { ifRange: '"old"' }), 'whole')
  assert.deepEqual(ranges('bytes=0-3', { ifRange: info.etag }), [[0, 4]])
  assert.deepEqual(ranges('bytes=0-3', { ifRange: 'Fri, 02 Jan 2026 03:04:05 GMT' }), [[0, 4]])
})
