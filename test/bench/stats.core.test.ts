import assert from 'node:assert/strict'
import { test } from 'node:test'
import { median, percentile, summary, summaryRow } from './stats.core.ts'

test('the median of an even number of samples lies between the middle two', () => {
  assert.equal(median([4, 1, 3, 2]), 2.5)
  assert.equal(median([9, 1, 5]), 5)
})

test('a percentile is a sample that was measured', () => {
  const hundred = Array.from({ length: 100 }, (_, i) => 100 - i)
  assert.equal(percentile(hundred, 0.95), 95)
  assert.equal(percentile([7], 0.95), 7)
})

test('a summary orders numbers as numbers', () => {
  assert.deepEqual(summary([10, 9, 100]), { count: 3, median: 10, p95: 100, min: 9, max: 100 })
})

test('no samples are an error, not a zero', () => {
  assert.throws(() => summary([]), /no samples/)
})

test('a row shows small figures finer than large ones', () => {
  assert.deepEqual(summaryRow('x', summary([1.234, 98.76])), ['x', '2', '50.0', '98.8', '1.23', '98.8'])
})
