// Certificates of routes, changed while HAProxy runs, and what TLS a router speaks (contract router.md 4.2, 8.3-8.5,
// 8.30, 8.38), on a real HAProxy.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readdir } from 'node:fs/promises'
import { connect as connectHttp2 } from 'node:http2'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { connect, type TLSSocket } from 'node:tls'
import type { Certificate } from '../../controller/types.ts'
import { createClusterCertificate } from '../../pkg/tls/certificate.ts'
import {
  type Backend,
  deadlineMs,
  http,
  startBackend,
  startRouter,
  type TestRouter,
  times,
} from '../fixtures/router.ts'

let router: TestRouter
let web: Backend
let pid: string

before(async () => {
  router = await startRouter()
  web = await startBackend('web')
  await router.apply([http('plain.test')], services())
  pid = await router.plane.haproxy.pid()
})
after(async () => {
  web.stop()
  await router.stop()
})

const services = () => ({ web: [web.addr] })

async function certificate(id: string, names: readonly [string, ...string[]]): Promise<Certificate> {
  const { cert, private_key: key } = await createClusterCertificate([...names], new Date())
  return { id, cert, key, ...times }
}

type Hello = {
  readonly servername?: string
  readonly session?: Buffer
  readonly maxVersion?: 'TLSv1' | 'TLSv1.2'
}

/** A finished handshake; rejects with the alert. */
async function handshake(hello: Hello, port = router.settings.httpsPort): Promise<TLSSocket> {
  const socket = connect({
    host: '127.0.0.1',
    port,
    rejectUnauthorized: false,
    ALPNProtocols: ['http/1.1'],
    ...hello,
    ...(hello.maxVersion === 'TLSv1' ? { minVersion: 'TLSv1' as const, ciphers: 'DEFAULT@SECLEVEL=0' } : {}),
  })
  await once(socket, 'secureConnect', { signal: AbortSignal.timeout(deadlineMs) })
  return socket
}

async function nameFor(servername: string): Promise<string> {
  const socket = await handshake({ servername })
  const name = String(socket.getPeerCertificate().subject.CN)
  socket.destroy()
  return name
}

const sameWorker = async () => assert.equal(await router.plane.haproxy.pid(), pid, 'without a reload')

test('a certificate is added, replaced, shared and removed while HAProxy runs', async () => {
  const [first, second] = [await certificate('c1', ['own.test']), await certificate('c2', ['new.test'])]
  await router.apply([http('own.test', { certificate: first })], services())
  assert.equal(await nameFor('own.test'), 'own.test')
  assert.equal(await nameFor('else.test'), 'default.test')
  await router.apply([http('own.test', { certificate: second })], services())
  assert.equal(await nameFor('own.test'), 'new.test')
  await router.apply(
    [http('own.test', { certificate: second }), http('also.test', { certificate: second })],
    services(),
  )
  assert.equal(await nameFor('own.test'), 'new.test')
  assert.equal(await nameFor('also.test'), 'new.test')
  await router.apply([http('own.test'), http('also.test', { certificate: second })], services())
  assert.equal(await nameFor('own.test'), 'default.test')
  assert.equal(await nameFor('also.test'), 'new.test')
  await router.apply([], services())
  assert.equal(await nameFor('also.test'), 'default.test')
  assert.deepEqual(await readdir(join(router.dir, 'certificates')), ['default.pem'])
  await sameWorker()
})

test('a wildcard route gives its certificate to the names below it', async () => {
  const wild = await certificate('wild', ['*.w.test'])
  await router.apply([http('*.w.test', { certificate: wild })], services())
  assert.equal(await nameFor('a.w.test'), '*.w.test')
  assert.equal(await nameFor('b.test'), 'default.test')
})

test('a certificate that cannot be used leaves its route on the default one and holds nothing up', async () => {
  const [good, other] = [await certificate('good', ['good.test']), await certificate('other', ['x.test'])]
  const mismatched = { ...good, id: 'mismatched', key: other.key ?? '' }
  const garbage = {
    ...good,
    id: 'garbage',
    cert: '-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----',
  }
  const routes = [
    http('mismatched.test', { certificate: mismatched }),
    http('garbage.test', { certificate: garbage }),
    http('good.test', { certificate: good }),
  ]
  await router.apply(routes, services())
  assert.equal(await nameFor('good.test'), 'good.test')
  assert.equal(await nameFor('mismatched.test'), 'default.test')
  assert.equal(await nameFor('garbage.test'), 'default.test')
  assert.equal((await router.get('garbage.test')).status, 200)
  await sameWorker()
  const started = await startRouter()
  await started.apply(routes, services())
  const socket = await handshake({ servername: 'good.test' }, started.settings.httpsPort)
  assert.equal(socket.getPeerCertificate().subject.CN, 'good.test')
  socket.destroy()
  await started.stop()
})

test('one hundred certificates are added at once, each for its name', async () => {
  const some = await Promise.all(Array.from({ length: 5 }, (_, n) => certificate(`m${n}`, [`m${n}.test`])))
  const routes = Array.from({ length: 100 }, (_, n) => {
    const base = some[n % 5] as Certificate
    return http(`n${n}.test`, { certificate: { ...base, id: `copy-${n}` } })
  })
  await router.apply(routes, services())
  for (const n of [0, 33, 99]) assert.equal(await nameFor(`n${n}.test`), `m${n % 5}.test`)
  await router.apply([], services())
  await sameWorker()
})

test('HTTP/2 is spoken when the client can', async () => {
  await router.apply([http('h2.test')], services())
  const client = connectHttp2(`https://127.0.0.1:${router.settings.httpsPort}`, {
    rejectUnauthorized: false,
    servername: 'h2.test',
  })
  const stream = client.request({
    ':authority': 'h2.test',
    ':path': '/over?h2',
    'x-request-id': 'a'.repeat(24),
  })
  let body = ''
  stream.on('data', chunk => {
    body += chunk
  })
  const [headers] = await once(stream, 'response')
  await once(stream, 'end')
  client.close()
  assert.equal((headers as Record<string, unknown>)[':status'], 200)
  const seen = JSON.parse(body) as { url: string; headers: Record<string, string> }
  assert.equal(seen.url, '/over?h2')
  assert.equal(seen.headers['host'], 'h2.test')
  assert.equal(seen.headers['x-forwarded-proto'], 'https')
})

test('a body of unknown length over HTTP/2 is refused where bodies are limited', async () => {
  await router.apply([http('z.test', { max_body_bytes: 10 })], services())
  const client = connectHttp2(`https://127.0.0.1:${router.settings.httpsPort}`, {
    rejectUnauthorized: false,
    servername: 'z.test',
  })
  const status = async (method: string, body?: string) => {
    const stream = client.request(
      { ':authority': 'z.test', ':path': '/', ':method': method },
      { endStream: !body },
    )
    stream.on('error', () => undefined)
    if (body) stream.write(body)
    const [headers] = await once(stream, 'response', { signal: AbortSignal.timeout(deadlineMs) })
    stream.close()
    return (headers as Record<string, unknown>)[':status']
  }
  assert.equal(await status('POST', 'x'.repeat(20)), 411)
  assert.equal(await status('DELETE', 'x'), 411)
  assert.equal(await status('GET'), 200)
  client.destroy()
})

test('the host decides where a request goes, not the name of the handshake', async () => {
  const other = await startBackend('other')
  await router.apply([http('one.test'), http('two.test', { service: 'two' })], {
    web: [web.addr],
    two: [other.addr],
  })
  const socket = await handshake({ servername: 'one.test' })
  socket.write('GET / HTTP/1.1\r\nHost: two.test\r\nConnection: close\r\n\r\n')
  let text = ''
  for await (const chunk of socket) text += chunk
  assert.match(text, /"name":"other"/)
  other.stop()
})

test('TLS 1.0 is refused, TLS 1.2 and 1.3 are spoken', async () => {
  await assert.rejects(handshake({ servername: 'a.test', maxVersion: 'TLSv1' }), /protocol version|alert/i)
  for (const [hello, version] of [
    [{ maxVersion: 'TLSv1.2' }, 'TLSv1.2'],
    [{}, 'TLSv1.3'],
  ] as const) {
    const socket = await handshake(hello)
    assert.equal(socket.getProtocol(), version)
    socket.destroy()
  }
})

test('old clients are served where the operator says so', async () => {
  const old = await startRouter({ legacyTls: true })
  try {
    await old.apply([http('plain.test')], services())
    for (const [hello, version] of [
      [{ maxVersion: 'TLSv1' }, 'TLSv1'],
      [{ maxVersion: 'TLSv1.2' }, 'TLSv1.2'],
    ] as const) {
      const socket = await handshake(hello, old.settings.httpsPort)
      assert.equal(socket.getProtocol(), version)
      socket.destroy()
    }
  } finally {
    await old.stop()
  }
})

/** A session ticket of a first connection. */
async function sessionFrom(port: number): Promise<Buffer> {
  const socket = await handshake({ servername: 'plain.test' }, port)
  socket.resume()
  const session = once(socket, 'session', { signal: AbortSignal.timeout(deadlineMs) })
  socket.write('GET / HTTP/1.1\r\nHost: plain.test\r\n\r\n')
  const [ticket] = await session
  socket.destroy()
  return ticket as Buffer
}

test('a session is resumed at the same router, at another one and after a restart', async () => {
  await router.apply([http('plain.test')], services())
  const session = await sessionFrom(router.settings.httpsPort)
  const other = await startRouter()
  await other.apply([http('plain.test')], services())
  for (const port of [router.settings.httpsPort, other.settings.httpsPort]) {
    const socket = await handshake({ servername: 'plain.test', session }, port)
    assert.equal(socket.isSessionReused(), true)
    socket.destroy()
  }
  await other.stop()
})
