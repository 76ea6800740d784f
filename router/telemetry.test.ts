import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { silentLogger } from '../pkg/log/log.ts'
import { accessText, parseAccess } from './access.core.ts'
import { AppLog } from './app-log.ts'
import { parseServerStats, renderMetrics } from './metrics.core.ts'
import { boundsMs, quiet, Stats } from './stats.core.ts'

const line = 'H route-1 200 1000 1012 345 67 i_10_0_0_1_80 1.2.3.4 1 an-id GET a.test /path with?"quote"'

test('an access line is read field by field, and what clients choose may hold blanks', () => {
  const access = parseAccess(line)
  assert.ok(access)
  assert.deepEqual(
    [access.key, access.status, access.durationMs, access.bytesOut, access.bytesIn, access.tls],
    ['route-1', 200, 12, 345, 67, true],
  )
  assert.equal(access.target, '/path with?"quote"')
  assert.equal(
    accessText(access, 'job-1'),
    'method=GET path="/path with?%22quote%22" host=a.test request_id=an-id fwd="1.2.3.4" job=job-1 status=200 bytes=345 duration=12ms protocol=https',
  )
})

test('a request without an answer counts as 499, a line without a route as nothing', () => {
  assert.equal(parseAccess(line.replace(' 200 ', ' - '))?.status, 499)
  assert.equal(parseAccess(line.replace('route-1', '-')), undefined)
  assert.equal(parseAccess('anything else'), undefined)
})

test('a TCP connection is known by its port', () => {
  const access = parseAccess('T 3000 1500 10 20 i_10_0_0_1_80 1.2.3.4')
  assert.deepEqual(
    [access?.kind, access?.key, access?.durationMs, access?.bytesIn],
    ['tcp', '3000', 1500, 20],
  )
})

const sample = (status: number, durationMs: number) => ({ status, durationMs, bytesIn: 1, bytesOut: 2 })

test('the last minute has its rate, errors and percentiles, and is forgotten after a minute', () => {
  const stats = new Stats()
  for (let n = 0; n < 98; n++) stats.record('r', 1_000 + n / 10, sample(200, 10))
  stats.record('r', 1_009, sample(503, 900))
  stats.record('r', 1_009, sample(500, 900))
  const minute = stats.minute('r', 1_010)
  assert.equal(minute.requests, 100)
  assert.equal(minute.requestsPerSecond, 2)
  assert.equal(minute.errorRate, 0.02)
  assert.ok(minute.p50Ms >= 10 && minute.p50Ms <= 13)
  assert.ok(minute.p99Ms >= 900 && minute.p99Ms <= 1_130)
  assert.deepEqual(stats.minute('r', 1_075), quiet)
  assert.deepEqual(stats.minute('other', 1_010), quiet)
})

test('a slot of a minute ago is used again without its old counts', () => {
  const stats = new Stats()
  stats.record('r', 1_000, sample(200, 1))
  stats.record('r', 1_060, sample(200, 1))
  assert.equal(stats.minute('r', 1_060).requests, 1)
})

test('the bounds rise and reach ten minutes', () => {
  assert.ok(boundsMs.every((b, i) => i === 0 || b > (boundsMs[i - 1] ?? 0)))
  assert.ok((boundsMs.at(-1) ?? 0) >= 600_000)
  assert.ok(boundsMs.length < 80)
})

test('metrics have counters by route and class, cumulative buckets, and backends', () => {
  const stats = new Stats()
  for (const [status, ms] of [
    [200, 3],
    [204, 50],
    [500, 3_000],
  ] as const)
    stats.record('r', 1, sample(status, ms))
  const labels = new Map([['r', { id: 'r', service: 'web', address: 'a"b/' }]])
  const backends = [{ service: 'web', addr: '10.0.0.1:80', connections: 2, total: 3, failures: 1 }]
  const text = renderMetrics(labels, stats.totals(), backends)
  assert.match(text, /flynn_router_requests_total\{route="r",service="web",address="a\\"b\/",class="2xx"\} 2/)
  assert.match(text, /class="5xx"\} 1/)
  assert.match(text, /le="\+Inf"\} 3/)
  assert.match(text, /flynn_router_request_duration_seconds_count\{[^}]*\} 3/)
  assert.match(text, /flynn_router_backend_connections\{service="web",addr="10.0.0.1:80"\} 2/)
  const counts = [...text.matchAll(/_bucket\{.*\} (\d+)/g)].map(m => Number(m[1]))
  assert.deepEqual(
    counts,
    [...counts].sort((a, b) => a - b),
  )
})

test('rows of HAProxy are read by the names of their columns', () => {
  const csv = '# pxname,svname,scur,smax,stot,econ,eresp,\nb1,i_1,2,9,30,1,1,\n'
  assert.deepEqual(parseServerStats(csv), [
    { slot: 'b1', server: 'i_1', connections: 2, total: 30, failures: 2 },
  ])
})

test('an aggregator that refuses connections is tried again', { timeout: 20_000 }, async () => {
  const server = createServer()
  const listen = async () => {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { address, port } = server.address() as AddressInfo
    return `${address}:${port}`
  }
  const refusing = await listen()
  server.close()
  await once(server, 'close')
  const good = await listen()
  const connected = once(server, 'connection')
  const addresses = [refusing, refusing, good]
  const stop = new AbortController()
  const appLog = new AppLog({
    aggregator: async () => addresses.shift() ?? good,
    ...{ log: silentLogger(), signal: stop.signal, hostname: 'router.h1', job: 'h1-1' },
  })
  const running = appLog.run()
  await connected
  stop.abort()
  await running
  server.close()
})
