// The router's data plane on a real HAProxy: routes, live changes, drain, and both sides being killed.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { createServer, type Server as HttpServer, request } from 'node:http'
import { request as tlsRequest } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { Route } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { createClusterCertificate } from '../../pkg/tls/certificate.ts'
import { DataPlane, type Drained } from '../../router/data-plane.ts'
import type { RouterSettings } from '../../router/frontend.core.ts'
import { changeTable, desiredOf, emptyTable, type Table } from '../../router/table.core.ts'
import { type KeptHaproxy, keepHaproxy } from '../fixtures/haproxy.ts'
import { freePort } from '../fixtures/ports.ts'

type Answer = {
  readonly status: number
  readonly body: string
  readonly headers: NodeJS.Dict<string | string[]>
}

let dir: string
let settings: RouterSettings
let haproxy: KeptHaproxy
let plane: DataPlane
let ports: { http: number; https: number; tcp: number }
const drained: Drained[] = []
const servers: HttpServer[] = []
const deadlineMs = 40_000

/** A backend that answers with its name and the headers it got; `/slow` waits until released. */
async function backend(name: string): Promise<{ readonly addr: string; release(): void; stop(): void }> {
  const held: (() => void)[] = []
  const server = createServer((req, res) => {
    const answer = () => res.end(JSON.stringify({ name, headers: req.headers, url: req.url }))
    if (req.url?.startsWith('/slow')) held.push(answer)
    else answer()
  })
  server.on('upgrade', (_req, socket) => {
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  servers.push(server)
  const address = server.address()
  if (typeof address !== 'object' || address === null) throw new Error('no address')
  return {
    addr: `127.0.0.1:${address.port}`,
    release: () => {
      for (const answer of held.splice(0)) answer()
    },
    stop: () => {
      server.closeAllConnections()
      server.close()
    },
  }
}

function get(host: string, path = '/', headers: Record<string, string> = {}): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const req = request(
      { host: '127.0.0.1', port: ports.http, path, agent: false, headers: { host, ...headers } },
      res => {
        let body = ''
        res.on('data', chunk => {
          body += chunk
        })
        res.on('end', () => resolve({ status: res.statusCode ?? 0, body, headers: res.headers }))
      },
    )
    req.on('error', reject)
    req.end()
  })
}

const nameOf = (answer: Answer) => (JSON.parse(answer.body) as { name: string }).name

const times = { created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z' }
const http = (domain: string, over: Partial<Route> = {}): Route => ({
  type: 'http',
  id: `${domain}${over.path ?? ''}`,
  service: 'web',
  leader: false,
  domain,
  ...times,
  ...over,
})

function tableOf(routes: readonly Route[], services: Readonly<Record<string, readonly string[]>>): Table {
  let table = changeTable(emptyTable, { kind: 'sync', routes })
  for (const [service, addrs] of Object.entries(services)) {
    const instances = new Map(addrs.map(addr => [addr, { id: addr, addr, proto: 'tcp' }]))
    table = changeTable(table, { kind: 'service', service, state: { instances, leaderId: undefined } })
  }
  return table
}

const apply = (routes: readonly Route[], services: Readonly<Record<string, readonly string[]>>) =>
  plane.apply(desiredOf(tableOf(routes, services)))

before(async () => {
  dir = await mkdtemp('/var/tmp/flynn-router-')
  ports = { http: await freePort(), https: await freePort(), tcp: await freePort() }
  const cert = await createClusterCertificate(['default.test'], new Date())
  settings = {
    dir,
    listenIp: '127.0.0.1',
    httpPort: ports.http,
    httpsPort: ports.https,
    additionalHttpPorts: [],
    additionalHttpsPorts: [],
    tcpRange: { first: ports.tcp, last: ports.tcp },
    proxyProtocol: false,
    legacyTls: false,
    cookieKey: Buffer.alloc(32, 7).toString('base64'),
    defaultPem: `${cert.cert}${cert.private_key}`,
    haproxyUser: undefined,
    proxyExempt: [],
    accessLog: true,
  }
  plane = new DataPlane({ settings, log: silentLogger(), onDrained: d => drained.push(d) })
  haproxy = keepHaproxy(dir)
})

after(async () => {
  await plane.close()
  await haproxy.stop()
  for (const server of servers) {
    server.closeAllConnections()
    server.close()
  }
  await rm(dir, { recursive: true, force: true })
})

test('hosts, paths and wildcards choose the backend; an unknown host is 404, an empty service 503', async () => {
  const [web, api] = [await backend('web'), await backend('api')]
  await apply(
    [
      http('a.test'),
      http('a.test', { path: '/api/', service: 'api' }),
      http('*.wild.test'),
      http('empty.test', { service: 'none' }),
    ],
    { web: [web.addr], api: [api.addr], none: [] },
  )
  assert.equal(nameOf(await get('a.test')), 'web')
  assert.equal(nameOf(await get('A.test:80', '/api/users?x=1')), 'api')
  assert.equal(nameOf(await get('a.test', '/api')), 'api')
  assert.equal(nameOf(await get('a.test', '//api//x')), 'api')
  assert.equal(nameOf(await get('a.test', '/apix')), 'web')
  assert.equal(nameOf(await get('deep.er.wild.test')), 'web')
  const unknown = await get('nobody.test')
  assert.deepEqual([unknown.status, unknown.body], [404, 'Not Found\n'])
  const empty = await get('empty.test')
  assert.deepEqual([empty.status, empty.body], [503, 'Service Unavailable\n'])
})

test('the backend learns of the client, the protocol, the port and a request id', async () => {
  const web = await backend('headers')
  await apply([http('h.test')], { web: [web.addr] })
  const plain = JSON.parse((await get('h.test', '/', { 'x-forwarded-for': '9.9.9.9' })).body) as {
    headers: Record<string, string>
  }
  assert.equal(plain.headers['x-forwarded-for'], '9.9.9.9, 127.0.0.1')
  assert.equal(plain.headers['x-forwarded-proto'], 'http')
  assert.equal(plain.headers['x-forwarded-port'], String(ports.http))
  assert.match(plain.headers['x-request-start'] ?? '', /^\d{13}$/)
  assert.match(plain.headers['x-request-id'] ?? '', /^[0-9a-f-]{36}$/)
  const kept = JSON.parse(
    (await get('h.test', '/', { 'x-request-id': 'abcdefghijklmnopqrstuvwx' })).body,
  ) as { headers: Record<string, string> }
  assert.equal(kept.headers['x-request-id'], 'abcdefghijklmnopqrstuvwx')
})

test('instances come and go without a reload and a slow request ends before its backend is reported drained', async () => {
  const [first, second] = [await backend('first'), await backend('second')]
  await apply([http('roll.test')], { web: [first.addr] })
  const pid = haproxy.pid()
  const workers = await readFile(join(dir, 'haproxy.cfg'), 'utf8')
  assert.ok(workers.includes(first.addr), 'what runs is also on disk')
  const slow = get('roll.test', '/slow')
  await poll(
    async () => (await new Promise<number>(r => servers.at(-2)?.getConnections((_e, n) => r(n)))) > 0,
    { timeoutMs: deadlineMs, what: 'the slow request to arrive' },
  )
  drained.length = 0
  await apply([http('roll.test')], { web: [second.addr] })
  for (let n = 0; n < 20; n++) assert.equal(nameOf(await get('roll.test')), 'second')
  assert.equal(drained.length, 0, 'not drained while a request is under way')
  first.release()
  assert.equal(nameOf(await slow), 'first')
  await poll(() => drained.some(d => d.server.addr === first.addr), {
    timeoutMs: deadlineMs,
    what: 'the drained report',
  })
  assert.equal(haproxy.pid(), pid)
})

test('an instance that comes back while it drains serves again', async () => {
  const web = await backend('back')
  await apply([http('b.test')], { web: [web.addr] })
  const slow = get('b.test', '/slow')
  await poll(
    async () => (await new Promise<number>(r => servers.at(-1)?.getConnections((_e, n) => r(n)))) > 0,
    { timeoutMs: deadlineMs, what: 'the slow request to arrive' },
  )
  await apply([http('b.test')], { web: [] })
  assert.equal((await get('b.test')).status, 503)
  await apply([http('b.test')], { web: [web.addr] })
  assert.equal(nameOf(await get('b.test')), 'back')
  web.release()
  await slow
})

test('a sticky route keeps a client on its backend', async () => {
  const all = [await backend('s1'), await backend('s2'), await backend('s3')]
  await apply([http('sticky.test', { sticky: true })], { web: all.map(b => b.addr) })
  const first = await get('sticky.test')
  const cookie = String(first.headers['set-cookie']).split(';')[0] ?? ''
  assert.match(cookie, /^_backend=\S+/)
  for (let n = 0; n < 20; n++) assert.equal(nameOf(await get('sticky.test', '/', { cookie })), nameOf(first))
})

test('a name with a certificate of its own gets it by SNI, others get the default one', async () => {
  const web = await backend('tls')
  const own = await createClusterCertificate(['own.test'], new Date())
  const certificate = { id: 'c1', cert: own.cert, key: own.private_key, ...times }
  await apply([http('own.test', { certificate }), http('other.test')], { web: [web.addr] })
  const peerName = (servername: string) =>
    new Promise<string>((resolve, reject) => {
      const req = tlsRequest(
        {
          host: '127.0.0.1',
          port: ports.https,
          servername,
          headers: { host: servername },
          rejectUnauthorized: false,
        },
        res => {
          const socket = res.socket as import('node:tls').TLSSocket
          const name = String(socket.getPeerCertificate().subject.CN)
          res.resume()
          res.on('end', () => resolve(`${res.statusCode} ${name}`))
        },
      )
      req.on('error', reject)
      req.end()
    })
  assert.equal(await peerName('own.test'), '200 own.test')
  assert.equal(await peerName('other.test'), '200 default.test')
})

test('websockets pass through, and TCP routes lead to their service', async () => {
  const web = await backend('socket')
  const tcpRoute: Route = { type: 'tcp', id: 't', service: 'web', leader: false, port: ports.tcp, ...times }
  await apply([http('ws.test'), tcpRoute], { web: [web.addr] })
  const exchange = (port: number, send: string, until: RegExp) =>
    new Promise<string>((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(send))
      let text = ''
      socket.on('data', chunk => {
        text += chunk
        if (until.test(text)) {
          socket.destroy()
          resolve(text)
        }
      })
      socket.on('error', reject)
      socket.on('close', () => reject(new Error(`closed after "${text}"`)))
    })
  const upgraded = await exchange(
    ports.http,
    'GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nping',
    /ping/,
  )
  assert.match(upgraded, /^HTTP\/1.1 101/)
  const raw = await exchange(ports.tcp, 'GET / HTTP/1.1\r\nHost: x\r\n\r\n', /"name":"socket"/)
  assert.match(raw, /200 OK/)
})

test('an attach request with a body keeps its upgrade and reaches the controller', async () => {
  const web = await backend('controller')
  await apply([http('controller.test', { service: 'controller' })], { controller: [web.addr] })
  const text = await new Promise<string>((resolve, reject) => {
    const head =
      'POST /apps/x/jobs HTTP/1.1\r\nHost: controller.test\r\nConnection: upgrade\r\nUpgrade: flynn-attach/0\r\n'
    const socket = connect(ports.http, '127.0.0.1', () =>
      socket.write(`${head}Content-Length: 4\r\n\r\nbody`),
    )
    let seen = ''
    socket.on('data', chunk => {
      seen += chunk
      if (/^HTTP\/1.1 101[\s\S]*\r\n\r\n$/.test(seen)) socket.write('ping')
      if (/ping/.test(seen)) {
        socket.destroy()
        resolve(seen)
      }
    })
    socket.on('error', reject)
    socket.on('close', () => reject(new Error(`closed after "${seen}"`)))
  })
  assert.match(text, /^HTTP\/1.1 101/)
})

test('a killed HAProxy comes back with everything that was changed while it ran', async () => {
  const [one, two] = [await backend('one'), await backend('two')]
  await apply([http('k.test')], { web: [one.addr] })
  await apply([http('k.test'), http('late.test', { service: 'late' })], { web: [one.addr], late: [two.addr] })
  const starts = haproxy.starts()
  process.kill(haproxy.pid() ?? 0, 'SIGKILL')
  await poll(async () => haproxy.starts() > starts && nameOf(await get('late.test')) === 'two', {
    timeoutMs: deadlineMs,
    what: 'HAProxy to serve again',
  })
  await apply([http('k.test')], { web: [two.addr] })
  assert.equal(nameOf(await get('k.test')), 'two')
})

test('a control process that starts anew takes over a running HAProxy', async () => {
  const web = await backend('again')
  const second = new DataPlane({ settings, log: silentLogger(), onDrained: () => undefined })
  await second.apply(desiredOf(tableOf([http('n.test')], { web: [web.addr] })))
  assert.equal(nameOf(await get('n.test')), 'again')
  await second.close()
})
