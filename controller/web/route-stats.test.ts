import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RouteStats } from '../../router/types.ts'
import { mergeStats } from './route-stats.core.ts'

const stats = (over: Partial<RouteStats>): RouteStats => ({
  id: 'a',
  type: 'http',
  service: 'web',
  address: 'a.test/',
  requests: 0,
  requests_per_second: 0,
  error_rate: 0,
  p50_ms: 0,
  p99_ms: 0,
  ...over,
})

test('figures of several routers are added, weighed and the slowest taken', () => {
  const one = stats({ requests: 900, requests_per_second: 15, error_rate: 0, p50_ms: 3, p99_ms: 20 })
  const two = stats({ requests: 100, requests_per_second: 1.67, error_rate: 0.5, p50_ms: 5, p99_ms: 400 })
  assert.deepEqual(mergeStats(['a', 'b'], [[one], [two, stats({ id: 'c', requests: 7 })]]), [
    {
      route_id: 'a',
      requests: 1_000,
      requests_per_second: 16.67,
      error_rate: 0.05,
      p50_ms: 5,
      p99_ms: 400,
      routers: 2,
    },
    { route_id: 'b', requests: 0, requests_per_second: 0, error_rate: 0, p50_ms: 0, p99_ms: 0, routers: 0 },
  ])
})
