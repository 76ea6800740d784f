// TCP routes and the PROXY protocol in both directions (contract router.md 4.9, 5, 8.37, 8.41-8.43, 8.46), on a real
// HAProxy.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, createServer, type Server } from 'node:net'
import { after, before, test } from 'node:test'
import { connect as connectTls } from 'node:tls'
import { poll } from '../../pkg/clock/clock.ts'
import { freePort } from '../fixtures/ports.ts'
import {
  accessed,
  deadlineMs,
  exchange,
  http,
  startBackend,
  startRouter,
  type TestRouter,
  tcp,
} from '../fixtures/router.ts'

let router: TestRouter
let port: number
const servers: Server[] = []

before(async () => {
  router = await startRouter()
  port = router.settings.tcpRange?.first ?? 0
})
after(async () => {
  for (const server of servers) server.close()
  await router.stop()
})

/** Answers `name` and what it got when the client has finished sending. */
async function echoServer(name: string): Promise<string> {
  const server = createServer({ allowHalfOpen: true }, socket => {
    let text = ''
    socket.setEncoding('latin1')
    socket.on('error', () => undefined)
    socket.on('data', chunk => {
      text += String(chunk)
    })
    socket.on('end', () => socket.end(`${name}:${text}`))
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  servers.push(server)
  const address = server.address()
  return `127.0.0.1:${typeof address === 'object' ? address?.port : 0}`
}

/**
 * Sends, finishes sending, and answers all that comes back: half-closed connections must work. HAProxy gives up a client
 * that closes its half before it has sent anything, so there must be a text to be sure of an answer.
 */
async function talk(to: number, text: string): Promise<string> {
  const socket = connect({ port: to, host: '127.0.0.1', allowHalfOpen: true })
  let answer = ''
  socket.setEncoding('latin1')
  socket.on('data', chunk => {
    answer += String(chunk)
  })
  socket.on('error', () => undefined)
  socket.setTimeout(deadlineMs, () => socket.destroy())
  socket.end(text)
  // A connection that nobody serves is reset: an error event, which `once` would reject with.
  await new Promise(resolve => socket.once('close', resolve))
  return answer
}

test('a TCP route is served, led elsewhere, without a backend closed, and gone', async () => {
  const [one, two] = [await echoServer('one'), await echoServer('two')]
  await router.apply([tcp(port)], { web: [one] })
  assert.equal(await talk(port, 'hi'), 'one:hi')
  await router.apply([tcp(port, { service: 'two' })], { two: [two] })
  assert.equal(await talk(port, 'hi'), 'two:hi')
  await router.apply([tcp(port)], { web: [] })
  assert.equal(await talk(port, 'hi'), '')
  await router.apply([tcp(port)], { web: [`127.0.0.1:${await freePort()}`] })
  assert.equal(await talk(port, 'hi'), '')
  await router.apply([tcp(port)], { web: [`127.0.0.1:${await freePort()}`, one] })
  for (let n = 0; n < 4; n++) assert.equal(await talk(port, 'hi'), 'one:hi')
  await router.apply([], {})
  assert.equal(await talk(port, 'hi'), '')
})

test('a TCP leader route follows the leader', async () => {
  const [one, two] = [await echoServer('one'), await echoServer('two')]
  const routes = [tcp(port, { leader: true })]
  await router.apply(routes, { web: [one, two] }, one)
  for (let n = 0; n < 4; n++) assert.equal(await talk(port, 'a'), 'one:a')
  await router.apply(routes, { web: [one, two] }, two)
  for (let n = 0; n < 4; n++) assert.equal(await talk(port, 'a'), 'two:a')
})

async function listens(at: number): Promise<boolean> {
  const socket = connect(at, '127.0.0.1')
  const open = await new Promise<boolean>(resolve => {
    socket.once('connect', () => resolve(true))
    socket.once('error', () => resolve(false))
  })
  socket.destroy()
  return open
}

test('a port outside the range is opened for its route and closed after it', async () => {
  const one = await echoServer('one')
  const outside = await freePort()
  await router.apply([tcp(outside)], { web: [one] })
  assert.equal(await talk(outside, 'hi'), 'one:hi')
  await router.apply([], {})
  await poll(async () => !(await listens(outside)), { timeoutMs: deadlineMs, what: 'the port to be closed' })
})

test('a port that another program has holds up no other route', async () => {
  const one = await echoServer('one')
  const taken = Number(one.split(':')[1])
  await router.apply([tcp(taken), tcp(port)], { web: [one] })
  assert.equal(await talk(port, 'hi'), 'one:hi')
})

test('a TCP connection is told with its port and bytes', async () => {
  const one = await echoServer('one')
  await router.apply([tcp(port)], { web: [one] })
  router.accesses.length = 0
  await talk(port, 'x'.repeat(1000))
  const access = await accessed(router, a => a.kind === 'tcp')
  assert.equal(access.key, String(port))
  assert.equal(access.bytesIn, 1000)
  assert.equal(access.bytesOut, 1004)
})

test('a route can have its connections begin with a PROXY line', async () => {
  const one = await echoServer('one')
  await router.apply([tcp(port, { proxy_protocol: true })], { web: [] })
  await router.apply([tcp(port, { proxy_protocol: true })], { web: [one] })
  assert.match(await talk(port, 'hi'), new RegExp(`^one:PROXY TCP4 127.0.0.1 127.0.0.1 \\d+ ${port}\r\nhi$`))
})

for (const secure of [false, true]) {
  test(`PROXY lines of a balancer name the client over ${secure ? 'https' : 'http'}`, async () => {
    const proxied = await startRouter({ proxyProtocol: true })
    const web = await startBackend('web')
    await proxied.apply([http('p.test')], { web: [web.addr] })
    const { httpPort = 0, httpsPort } = proxied.settings
    for (const [line, client] of [
      ['PROXY TCP4 1.2.3.4 5.6.7.8 1111 80', '1.2.3.4'],
      ['PROXY TCP6 2001:db8::1 2001:db8::2 1111 80', '2001:db8::1'],
    ] as const) {
      const raw = connect(secure ? httpsPort : httpPort, '127.0.0.1')
      raw.write(`${line}\r\n`)
      const socket = secure
        ? connectTls({ socket: raw, servername: 'p.test', rejectUnauthorized: false })
        : raw
      socket.write('GET / HTTP/1.1\r\nHost: p.test\r\nConnection: close\r\n\r\n')
      let text = ''
      for await (const chunk of socket) text += chunk
      assert.match(text, /200 OK/)
      assert.equal(web.seen.at(-1)?.headers['x-forwarded-for'], client)
    }
    const before = web.seen.length
    assert.equal(await exchange(httpPort, 'PROXY NONSENSE\r\nGET / HTTP/1.1\r\nHost: p.test\r\n\r\n'), '')
    assert.equal(web.seen.length, before)
    web.stop()
    await proxied.stop()
  })
}

test('those who are exempt from PROXY lines connect without one', async () => {
  const proxied = await startRouter({ proxyProtocol: true, proxyExempt: ['127.0.0.0/8'] })
  const web = await startBackend('web')
  await proxied.apply([http('p.test')], { web: [web.addr] })
  assert.equal((await proxied.get('p.test')).seen.headers['x-forwarded-for'], '127.0.0.1')
  web.stop()
  await proxied.stop()
})
