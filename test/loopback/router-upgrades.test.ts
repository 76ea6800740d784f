// Upgraded connections through a router: they pass, they stick, they count in a drain, also across a reload (contract
// router.md 4.7, 8.19, 8.20, 8.22, 8.24, 8.25, 8.34), on a real HAProxy.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { freePort } from '../fixtures/ports.ts'
import {
  type Backend,
  deadlineMs,
  exchange,
  http,
  startBackend,
  startRouter,
  type TestRouter,
  tcp,
} from '../fixtures/router.ts'

let router: TestRouter
let one: Backend
let two: Backend
let port: number

before(async () => {
  router = await startRouter()
  port = router.settings.httpPort ?? 0
  one = await startBackend('one')
  two = await startBackend('two')
})
after(async () => {
  one.stop()
  two.stop()
  await router.stop()
})

const websocketKey = Buffer.alloc(16, 1).toString('base64')
const upgradeOf = (host: string, more = '') =>
  `GET /chat HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: ${websocketKey}\r\n${more}\r\n`

/** An open upgraded or TCP connection that has echoed once. */
async function open(
  send: string,
  to = port,
): Promise<{ readonly socket: Socket; echo(text: string): Promise<void> }> {
  const socket = connect(to, '127.0.0.1')
  let seen = ''
  socket.setEncoding('latin1')
  socket.on('data', chunk => {
    seen += String(chunk)
  })
  socket.on('error', () => undefined)
  await once(socket, 'connect')
  socket.write(send)
  await poll(() => seen.includes('101 Switching'), { timeoutMs: deadlineMs, what: 'the upgrade' })
  const echo = async (text: string) => {
    socket.write(text)
    await poll(() => seen.includes(text), { timeoutMs: deadlineMs, what: 'the echo' })
  }
  await echo('first')
  return { socket, echo }
}

test('an upgraded connection echoes, also after a request on the same connection', async () => {
  await router.apply([http('ws.test')], { web: [one.addr] })
  const { socket } = await open(`GET / HTTP/1.1\r\nHost: ws.test\r\n\r\n${upgradeOf('ws.test')}`)
  socket.destroy()
})

test('another protocol than websocket is upgraded to as well', async () => {
  const text = await exchange(
    port,
    'GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: uPgRaDe\r\nUpgrade: custom/3\r\n\r\nhello',
    /hello/,
  )
  assert.match(text, /upgrade: custom\/3/i)
})

test('an upgrade goes to the backend of the sticky cookie, and to a live one when that is dead', async () => {
  await router.apply([http('sticky.test', { sticky: true })], { web: [one.addr, two.addr] })
  const first = await router.get('sticky.test')
  const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
  const backend = first.seen.name === 'one' ? one : two
  for (let n = 0; n < 5; n++) {
    const before = backend.seen.length
    const { socket } = await open(upgradeOf('sticky.test', `Cookie: ${cookie}\r\n`))
    assert.equal(backend.seen.length, before + 1)
    socket.destroy()
  }
  const dead = `127.0.0.1:${await freePort()}`
  await router.apply([http('sticky.test', { sticky: true })], { web: [dead, backend.addr] })
  for (let n = 0; n < 4; n++) (await open(upgradeOf('sticky.test', `Cookie: ${cookie}\r\n`))).socket.destroy()
})

const drainedOf = (backend: Backend) => router.drained.some(d => d.server.addr === backend.addr)

test('a backend is not drained while an upgraded connection to it is open', async () => {
  await router.apply([http('ws.test')], { web: [one.addr] })
  const { socket, echo } = await open(upgradeOf('ws.test'))
  router.drained.length = 0
  await router.apply([http('ws.test')], { web: [two.addr] })
  await sleep(500)
  await echo('still here')
  assert.equal(drainedOf(one), false)
  socket.destroy()
  await poll(() => drainedOf(one), { timeoutMs: deadlineMs, what: 'the drain' })
})

test('a backend is not drained while a TCP connection to it is open', async () => {
  const tcpPort = router.settings.tcpRange?.first ?? 0
  await router.apply([tcp(tcpPort)], { web: [one.addr] })
  const { socket, echo } = await open(upgradeOf('x'), tcpPort)
  router.drained.length = 0
  await router.apply([tcp(tcpPort)], { web: [two.addr] })
  await sleep(500)
  await echo('still here')
  assert.equal(drainedOf(one), false)
  socket.destroy()
  await poll(() => drainedOf(one), { timeoutMs: deadlineMs, what: 'the drain' })
})

test('an upgraded connection outlives a reload and counts in the drain after it', async () => {
  await router.apply([http('ws.test')], { web: [one.addr] })
  const worker = await router.plane.haproxy.pid()
  const { socket, echo } = await open(upgradeOf('ws.test'))
  router.drained.length = 0
  const many = Array.from({ length: 200 }, (_, n) => http(`s${n}.test`, { service: `s${n}` }))
  await router.apply([http('ws.test'), ...many], { web: [one.addr] })
  assert.notEqual(await router.plane.haproxy.pid(), worker, 'the pool grew by a reload')
  await router.apply([http('ws.test'), ...many], { web: [two.addr] })
  await sleep(500)
  await echo('still here')
  assert.equal(drainedOf(one), false)
  socket.destroy()
  await poll(() => drainedOf(one), { timeoutMs: deadlineMs, what: 'the drain' })
})

test('a backend that goes in the same change as a reload is drained as well', async () => {
  await router.apply([http('ws.test')], { web: [one.addr] })
  const { socket } = await open(upgradeOf('ws.test'))
  router.drained.length = 0
  const more = Array.from({ length: 600 }, (_, n) => http(`t${n}.test`, { service: `t${n}` }))
  await router.apply([http('ws.test'), ...more], { web: [two.addr] })
  await sleep(300)
  assert.equal(drainedOf(one), false)
  socket.destroy()
  await poll(() => drainedOf(one), { timeoutMs: deadlineMs, what: 'the drain' })
})
