import assert from 'node:assert/strict'
import { createServer, type RequestListener } from 'node:http'
import { type AddressInfo, connect, createServer as createTcpServer } from 'node:net'
import { Readable } from 'node:stream'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { exchange, makeAgents } from './request.ts'

async function serve(t: TestContext, listener: RequestListener): Promise<URL> {
  const server = createServer(listener).listen(0, '127.0.0.1')
  await new Promise(resolve => server.once('listening', resolve))
  t.after(() => {
    server.closeAllConnections()
    server.close()
  })
  return new URL(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
}

test('an answer of any status is an answer', async t => {
  const url = await serve(t, (_, res) => res.writeHead(503, { 'x-why': 'tired' }).end('later'))
  const res = await exchange(url)
  assert.equal(res.statusCode, 503)
  assert.equal(res.headers['x-why'], 'tired')
  assert.equal(await res.body.text(), 'later')
})

test('a connection is used again, also after a body that nobody wanted', async t => {
  const ports = new Set<number | undefined>()
  const url = await serve(t, (req, res) => {
    ports.add(req.socket.remotePort)
    res.end('x'.repeat(1000))
  })
  for (let i = 0; i < 3; i++) await (await exchange(url)).body.dump()
  assert.equal(ports.size, 1)
})

test('a connection over which a request was refused is not used again', async t => {
  const ports: (number | undefined)[] = []
  const url = await serve(t, (req, res) => {
    ports.push(req.socket.remotePort)
    res.writeHead(req.url === '/missing' ? 404 : 200).end('text')
  })
  for (const path of ['/', '/missing', '/']) await (await exchange(new URL(path, url))).body.dump()
  assert.equal(ports[0], ports[1])
  assert.notEqual(ports[1], ports[2])
})

test('a streamed body arrives whole with any method', async t => {
  const url = await serve(t, async (req, res) => res.end(`${req.method} ${await text(req)}`))
  for (const method of ['PUT', 'DELETE']) {
    const res = await exchange(url, { method, body: Readable.from(['a', 'b', 'c']) })
    assert.equal(await res.body.text(), `${method} abc`)
  }
})

test('a refused connection rejects with the code of the system', async t => {
  const url = await serve(t, () => undefined)
  const free = createTcpServer().listen(0, '127.0.0.1')
  await new Promise(resolve => free.once('listening', resolve))
  url.port = String((free.address() as AddressInfo).port)
  await new Promise(resolve => free.close(resolve))
  await assert.rejects(exchange(url), { code: 'ECONNREFUSED' })
})

test('the limit of an exchange holds until its body has ended, and no longer', async t => {
  const ports: (number | undefined)[] = []
  const url = await serve(t, (req, res) => {
    if (req.url === '/body') res.write('begun')
    if (req.url !== '/whole') return
    ports.push(req.socket.remotePort)
    res.end('all')
  })
  const late = { name: 'TimeoutError', message: `no answer from ${url.host} in 50 ms` }
  await assert.rejects(exchange(url, { timeoutMs: 50 }), late)
  const begun = await exchange(new URL('/body', url), { timeoutMs: 50 })
  await assert.rejects(begun.body.text(), late)
  for (let i = 0; i < 2; i++) {
    const whole = await exchange(new URL('/whole', url), { timeoutMs: 50 })
    assert.equal(await whole.body.text(), 'all')
    await new Promise(resolve => setTimeout(resolve, 100))
  }
  assert.equal(ports[0], ports[1])
})

test('the reason of the signal is what a caller gets, before the head and in the body', async t => {
  const url = await serve(t, (req, res) => {
    if (req.url === '/body') res.write('begun')
  })
  const stop = new AbortController()
  const why = new Error('enough')
  const waiting = exchange(url, { signal: stop.signal })
  const { body } = await exchange(new URL('/body', url), { signal: stop.signal })
  stop.abort(why)
  await assert.rejects(waiting, why)
  await assert.rejects(body.text(), why)
  await assert.rejects(exchange(url, { signal: stop.signal }), why)
})

test('an answer that does not begin in time is given up', async t => {
  const url = await serve(t, () => undefined)
  await assert.rejects(exchange(url, { headersTimeoutMs: 20 }), { code: 'ERR_HEADERS_TIMEOUT' })
})

test('a body that falls silent breaks, one whose reader is slow does not', async t => {
  const big = 'x'.repeat(1_000_000)
  const url = await serve(t, (req, res) => {
    if (req.url === '/silent') res.write('begun')
    else res.end(big)
  })
  const silent = await exchange(new URL('/silent', url), { idleTimeoutMs: 50 })
  await assert.rejects(silent.body.text(), { code: 'ERR_BODY_TIMEOUT' })
  const slow = await exchange(url, { idleTimeoutMs: 50 })
  await new Promise(resolve => setTimeout(resolve, 200))
  assert.equal((await slow.body.text()).length, big.length)
})

test('a body that the server cuts off rejects', async t => {
  const url = await serve(t, (_, res) => {
    res.writeHead(200, { 'content-length': '10' })
    res.write('half', () => res.socket?.destroy())
  })
  const { body } = await exchange(url)
  await assert.rejects(body.text(), { code: 'ECONNRESET' })
})

test('connections may be made by the caller, and end with their agents', async t => {
  const url = await serve(t, (req, res) => res.end(req.headers.host))
  const dialled: string[] = []
  const agents = makeAgents(async target => {
    dialled.push(target.host)
    const socket = connect(Number(url.port), url.hostname)
    await new Promise(resolve => socket.once('connect', resolve))
    return socket
  })
  t.after(() => agents.close())
  const elsewhere = new URL(`http://controller.example:${url.port}/`)
  for (let i = 0; i < 2; i++)
    assert.equal(await (await exchange(elsewhere, { agents })).body.text(), elsewhere.host)
  assert.deepEqual(dialled, [elsewhere.host])
  const failing = makeAgents(() => Promise.reject(Object.assign(new Error('wrong pin'), { code: 'pin' })))
  await assert.rejects(exchange(elsewhere, { agents: failing }), { code: 'pin' })
})

test('a request can be given up while its connection is being made', async t => {
  const connecting = Promise.withResolvers<void>()
  const agents = makeAgents(() => {
    connecting.resolve()
    return new Promise(() => undefined)
  })
  t.after(() => agents.close())
  const stop = new AbortController()
  const asked = exchange(new URL('http://127.0.0.1:1/'), { agents, signal: stop.signal })
  await connecting.promise
  stop.abort(new Error('waited long enough'))
  await assert.rejects(asked, /waited long enough/)
})
