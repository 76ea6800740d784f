// Which route a request has and what a route can ask of the router (contract router.md 4.1, 4.5, 8.2, 8.6-8.9, 8.12,
// 8.23-8.26, 8.39-8.40, 8.48-8.49), on a real HAProxy.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:net'
import { after, before, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import { freePort } from '../fixtures/ports.ts'
import {
  accessed,
  type Backend,
  deadlineMs,
  exchange,
  http,
  startBackend,
  startRouter,
  type TestRouter,
} from '../fixtures/router.ts'

let router: TestRouter
let one: Backend
let two: Backend
let port: number
let extra: number

before(async () => {
  extra = await freePort()
  router = await startRouter({
    additionalHttpPorts: [extra],
    unavailablePage: '<h1>Back 100% soon</h1>\n',
  })
  port = router.settings.httpPort ?? 0
  one = await startBackend('one')
  two = await startBackend('two')
})
after(async () => {
  one.stop()
  two.stop()
  await router.stop()
})

const services = () => ({ web: [one.addr], two: [two.addr], none: [] })
const nameAt = async (host: string, path = '/') => (await router.get(host, path)).seen.name

test('a route is served, led elsewhere, and gone', async () => {
  await router.apply([http('move.test')], services())
  assert.equal(await nameAt('move.test'), 'one')
  await router.apply([http('move.test', { service: 'two' })], services())
  assert.equal(await nameAt('move.test'), 'two')
  await router.apply([], services())
  const { status, body } = await router.get('move.test')
  assert.deepEqual([status, body], [404, 'Not Found\n'])
})

test('an exact host comes before wildcards, the nearest wildcard before others, the catch-all last', async () => {
  await router.apply(
    [
      http('foo.bar'),
      http('*.foo.bar', { service: 'two' }),
      http('dev.foo.bar'),
      http('*.bar', { service: 'none' }),
      http('*', { service: 'two' }),
    ],
    services(),
  )
  assert.equal(await nameAt('foo.bar'), 'one')
  assert.equal(await nameAt('dev.foo.bar'), 'one')
  assert.equal(await nameAt('x.foo.bar'), 'two')
  assert.equal(await nameAt('a.b.c.d.e.f.foo.bar'), 'two')
  assert.equal((await router.get('other.bar')).status, 503)
  assert.equal(await nameAt('elsewhere.test'), 'two')
})

test('a mixed-case domain is served and removed', async () => {
  await router.apply([http('MiXed.Test')], services())
  assert.equal(await nameAt('mixed.test'), 'one')
  await router.apply([], services())
  assert.equal((await router.get('mixed.test')).status, 404)
})

test('the longest path on whole segments wins, with and without a trailing slash', async () => {
  await router.apply(
    [
      http('p.test', { path: '/2/', service: 'two' }),
      http('p.test'),
      http('p.test', { path: '/2/one', service: 'web' }),
    ],
    services(),
  )
  for (const path of ['/2', '/2/', '/2/x', '/2//x', '//2', '/2?q=/2/one'])
    assert.equal(await nameAt('p.test', path), 'two', path)
  for (const path of ['/', '/2x', '/2/one', '/2/one/x', '/x/2'])
    assert.equal(await nameAt('p.test', path), 'one', path)
  assert.equal((await router.get('p.test', '/2/x')).seen.url, '/2/x')
})

test('a leader route follows the leader', async () => {
  const routes = [http('l.test', { leader: true }), http('all.test')]
  const both = { web: [one.addr, two.addr] }
  await router.apply(routes, both, one.addr)
  for (let n = 0; n < 8; n++) assert.equal(await nameAt('l.test'), 'one')
  await router.apply(routes, both, two.addr)
  for (let n = 0; n < 8; n++) assert.equal(await nameAt('l.test'), 'two')
})

test('an additional port has routes of its own', async () => {
  await router.apply(
    [
      http('port.test'),
      http('port.test', { port: extra, service: 'two' }),
      http('*.deep.test', { port: extra, service: 'two' }),
    ],
    services(),
  )
  const at = (host: string) => router.get(host, '/', { port: extra })
  assert.equal(await nameAt('port.test'), 'one')
  assert.equal((await at('port.test')).seen.name, 'two')
  assert.equal((await at('a.b.deep.test')).seen.name, 'two')
  assert.equal((await at('port.test')).seen.headers['x-forwarded-port'], String(extra))
  assert.equal((await router.get('a.deep.test')).status, 404)
  await router.apply([http('port.test')], services())
  assert.equal((await at('port.test')).status, 404)
})

test('without a backend that answers there is 503 with the page of the operator, upgrades included', async () => {
  const dead = `127.0.0.1:${await freePort()}`
  await router.apply([http('n.test', { service: 'none' }), http('d.test', { service: 'dead' })], {
    none: [],
    dead: [dead],
  })
  for (const host of ['n.test', 'd.test']) {
    const { status, body, headers } = await router.get(host)
    assert.deepEqual([status, body], [503, '<h1>Back 100% soon</h1>\n'])
    assert.equal(headers['content-type'], 'text/html; charset=utf-8')
    const upgrade = `GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n`
    assert.match(await exchange(port, upgrade, /soon/), /^HTTP\/1.1 503/)
  }
})

test('a dead backend beside a live one costs no request', async () => {
  const dead = `127.0.0.1:${await freePort()}`
  await router.apply([http('half.test')], { web: [dead, one.addr] })
  for (const method of ['GET', 'POST', 'GET', 'POST', 'GET', 'POST']) {
    const answer = await router.get('half.test', '/', { method, ...(method === 'POST' ? { body: 'x' } : {}) })
    assert.equal(answer.seen.name, 'one')
  }
})

test('a request that a backend breaks off after it came is not given to another, and is 503', async () => {
  let reached = 0
  const breaking = createServer(socket => {
    socket.on('error', () => undefined)
    socket.once('data', () => {
      reached++
      socket.destroy()
    })
  })
  breaking.listen(0, '127.0.0.1')
  await once(breaking, 'listening')
  const address = breaking.address()
  const addr = `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
  await router.apply([http('break.test')], { web: [addr, one.addr] })
  one.seen.length = 0
  let failed = 0
  for (let n = 0; n < 30 && failed === 0; n++) {
    const { status } = await router.get('break.test', '/', { method: 'POST', body: 'x' })
    if (status === 503) failed++
    assert.equal(one.seen.length + reached, n + 1, 'each request reached one backend')
  }
  assert.equal(failed, 1)
  breaking.close()
})

test('a backend that closes connections behind its answers fails no request', async () => {
  const closing = await startBackend('closing', (_req, res) => {
    res.end('x')
    setTimeout(() => res.socket?.destroy(), 1)
  })
  await router.apply([http('closing.test')], { web: [closing.addr] })
  for (let n = 0; n < 100; n++) assert.equal((await router.get('closing.test')).status, 200)
  closing.stop()
})

test('without keep-alive each request has a connection of its own', async () => {
  await router.apply([http('fresh.test', { disable_keep_alives: true })], services())
  const before = one.accepted()
  for (let n = 0; n < 4; n++) await router.get('fresh.test')
  assert.equal(one.accepted(), before + 4)
  await router.apply([http('fresh.test')], services())
  await router.get('fresh.test')
  const reused = one.accepted()
  for (let n = 0; n < 4; n++) await router.get('fresh.test')
  assert.ok(one.accepted() - reused <= 1, 'connections are used again')
})

test('a loaded backend gets fewer requests', async () => {
  const slow = await startBackend('slow', () => undefined)
  await router.apply([http('load.test')], { web: [slow.addr, one.addr] })
  const stop = new AbortController()
  const hanging = Array.from({ length: 20 }, () => router.get('load.test').catch(() => undefined))
  await poll(async () => slow.seen.length > 0, { timeoutMs: deadlineMs, what: 'a request to hang' })
  slow.stop()
  stop.abort()
  const answers = await Promise.all(hanging)
  const quick = answers.filter(a => a?.status === 200).length
  assert.ok(quick >= 15, `${quick} of 20 went past the slow backend`)
})

test('a sticky client stays, is moved when its backend is gone, and is told so once', async () => {
  const all = { web: [one.addr, two.addr] }
  const sticky = http('sticky.test', { sticky: true })
  await router.apply([sticky], all)
  const first = await router.get('sticky.test')
  const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
  for (let n = 0; n < 10; n++) {
    const again = await router.get('sticky.test', '/', { headers: { cookie } })
    assert.equal(again.seen.name, first.seen.name)
    assert.equal(again.headers['set-cookie'], undefined)
  }
  const left = first.seen.name === 'one' ? two : one
  await router.apply([sticky], { web: [left.addr] })
  const moved = await router.get('sticky.test', '/', { headers: { cookie } })
  assert.notEqual(moved.seen.name, first.seen.name)
  assert.match(String(moved.headers['set-cookie']), /^_backend=/)
})

test('a sticky cookie means the same to every router and after a restart', async () => {
  const routes = [http('sticky.test', { sticky: true })]
  const all = { web: [one.addr, two.addr] }
  const other = await startRouter()
  await other.apply([http('first.test', { service: 'first' }), ...routes], { first: [one.addr], ...all })
  await router.apply(routes, { web: [one.addr] })
  await router.apply(routes, all)
  for (let n = 0; n < 6; n++) {
    const first = await router.get('sticky.test')
    const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
    assert.equal((await other.get('sticky.test', '/', { headers: { cookie } })).seen.name, first.seen.name)
  }
  await other.stop()
})

test('a route in maintenance answers 503 whatever its backends do', async () => {
  await router.apply([http('m.test', { maintenance: true })], services())
  const { status, body, headers } = await router.get('m.test')
  assert.deepEqual([status, body], [503, '<h1>Back 100% soon</h1>\n'])
  assert.equal(headers['retry-after'], '60')
  await router.apply([http('m.test')], services())
  assert.equal(await nameAt('m.test'), 'one')
})

test('a route can send plain requests to https', async () => {
  await router.apply([http('r.test', { redirect_https: true })], services())
  const get = await router.get('R.test:99', '/a//b?c=%20')
  assert.equal(get.status, 301)
  assert.equal(get.headers['location'], `https://r.test:${router.settings.httpsPort}/a//b?c=%20`)
  assert.equal((await router.get('r.test', '/', { method: 'POST', body: 'x' })).status, 308)
})

test('a body over the limit of its route is refused, one of unknown length too', async () => {
  await router.apply([http('z.test', { max_body_bytes: 10 }), http('free.test')], services())
  const post = (host: string, body: string) => router.get(host, '/', { method: 'POST', body })
  assert.equal((await post('z.test', '1234567890')).seen.body, '1234567890')
  assert.equal((await post('z.test', '12345678901')).status, 413)
  assert.equal((await post('free.test', 'x'.repeat(100_000))).seen.body.length, 100_000)
  const chunked = 'POST / HTTP/1.1\r\nHost: z.test\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n'
  assert.match(await exchange(port, chunked, /\r\n\r\n/), /^HTTP\/1.1 411/)
  assert.equal(await nameAt('z.test'), 'one')
})

test('requests over the rate of a route are 429, other routes and later ones are not', async () => {
  await router.apply([http('rate.test', { rate_limit: 5 }), http('free.test')], services())
  const statuses: number[] = []
  for (let n = 0; n < 12; n++) statuses.push((await router.get('rate.test')).status)
  assert.equal(statuses[0], 200)
  assert.ok(statuses.includes(429), statuses.join())
  assert.equal((await router.get('free.test')).status, 200)
  await poll(async () => (await router.get('rate.test')).status === 200, {
    timeoutMs: deadlineMs,
    intervalMs: 500,
    what: 'the rate to fall',
  })
})

test('requests in progress over the limit of a route are 429 until one ends', async () => {
  const held: (() => void)[] = []
  const slow = await startBackend('slow', (_req, res) => {
    held.push(() => res.end('x'))
  })
  await router.apply([http('c.test', { connection_limit: 2 })], { web: [slow.addr] })
  const under = [router.get('c.test'), router.get('c.test')]
  await poll(() => held.length === 2, { timeoutMs: deadlineMs, what: 'two requests' })
  assert.equal((await router.get('c.test')).status, 429)
  for (const release of held.splice(0)) release()
  for (const answer of await Promise.all(under)) assert.equal(answer.status, 200)
  const next = router.get('c.test')
  await poll(() => held.length === 1, { timeoutMs: deadlineMs, what: 'the next request' })
  for (const release of held.splice(0)) release()
  assert.equal((await next).status, 200)
  slow.stop()
})

test('the status path answers on the default ports whatever the host', async () => {
  await router.apply([http('a.test')], services())
  for (const host of ['a.test', 'nobody.test']) {
    const { status, body } = await router.get(host, '/.well-known/status')
    assert.deepEqual([status, body], [200, '{"data":{"status":"healthy"}}'])
  }
})

test('every request is told with its route, status, size and backend', async () => {
  await router.apply([http('log.test', { id: 'the-route' })], services())
  await router.get('log.test', '/some/path?q="1"', { headers: { 'x-request-id': 'request-of-the-log-test' } })
  const access = await accessed(router, a => a.requestId === 'request-of-the-log-test')
  assert.equal(access.key, 'the-route')
  assert.equal(access.status, 200)
  assert.equal(access.method, 'GET')
  assert.equal(access.host, 'log.test')
  assert.equal(access.target, '/some/path?q="1"')
  assert.equal(access.client, '127.0.0.1')
  assert.equal(access.server, `i_${one.addr.replaceAll(/[.:]/g, '_')}`)
  assert.ok(access.bytesOut > 100)
  assert.equal(access.tls, false)
})

test('while nobody takes access lines they wait', async () => {
  await router.apply([http('log.test')], services())
  await router.whileAway(() =>
    router.get('log.test', '/', { headers: { 'x-request-id': 'request-while-nobody-listens' } }),
  )
  await accessed(router, a => a.requestId === 'request-while-nobody-listens')
})

test('challenges of a domain with an automatic certificate are answered whatever its route asks for', async () => {
  const thumbprint = 'abcdefghijklmnopqrstuvwxyz0123456789ABCDE-_'
  const managed = { managed_certificate_domain: 'auto.test', acme_thumbprint: thumbprint }
  await router.apply(
    [
      http('auto.test', { ...managed, redirect_https: true }),
      http('own.test'),
      http('odd.test', { managed_certificate_domain: 'odd.test', acme_thumbprint: 'a b|c' }),
    ],
    services(),
  )
  const challenge = '/.well-known/acme-challenge/'
  const token = 'tokeN-of_1'
  const answer = await router.get('AUTO.test', `${challenge}${token}`)
  assert.equal(answer.status, 200)
  assert.equal(answer.body, `${token}.${thumbprint}`)
  for (const path of ['', 'a/b', 'a%20b', 'a.b'])
    assert.equal((await router.get('auto.test', challenge + path)).status, 404, path)
  assert.equal((await router.get('auto.test', '/other')).status, 301)
  // An app may have a client of its own.
  assert.equal((await router.get('own.test', `${challenge}${token}`)).seen.url, `${challenge}${token}`)
  assert.equal((await router.get('odd.test', `${challenge}${token}`)).status, 200)
  assert.equal((await router.get('odd.test', `${challenge}${token}`)).seen.url, `${challenge}${token}`)
})
