// Hostile input: malformed, ambiguous, oversized and slow requests change nothing for other clients and never become a
// second request at a backend (RFC 9112 6.3, 11.2; contract router.md 4.8), on a real HAProxy.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { readFile } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import {
  type Backend,
  exchange,
  http,
  startBackend,
  startRouter,
  type TestRouter,
} from '../fixtures/router.ts'

const idleConnections = 2_000
const workerBytesMax = 400 * 1024 * 1024

let router: TestRouter
let web: Backend
let port: number

before(async () => {
  router = await startRouter()
  port = router.settings.httpPort ?? 0
  web = await startBackend('web')
  await router.apply([http('a.test'), http('b.test')], { web: [web.addr] })
})
after(async () => {
  web.stop()
  await router.stop()
})

const smuggled = 'GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n'
const post = (headers: string, body: string) =>
  `POST /outer HTTP/1.1\r\nHost: a.test\r\n${headers}\r\n\r\n${body}`

const refused: Readonly<Record<string, string>> = {
  'a request line without a target': 'GET\r\n\r\n',
  'no HTTP at all': 'hello there, this is no HTTP\r\n\r\n',
  'bytes of a TLS handshake': '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n',
  'a space before the colon of a header': post('Content-Length : 5', 'hello'),
  'a header without a name': post(': value', ''),
  'a NUL in a header': post('X-Bad: a\0b', ''),
  'two lengths that differ': post('Content-Length: 3\r\nContent-Length: 5', 'hello'),
  'a length list that differs': post('Content-Length: 3, 5', 'hello'),
  'a negative length': post('Content-Length: -1', 'hello'),
  'a length with a sign': post('Content-Length: +5', 'hello'),
  'a length in hexadecimal': post('Content-Length: 0x5', 'hello'),
  'a length too big for a number': post('Content-Length: 99999999999999999999', 'hello'),
  'a chunk size that is none': post('Transfer-Encoding: chunked', 'zz\r\nhello\r\n0\r\n\r\n'),
  'a head over 32 KB': `GET / HTTP/1.1\r\nHost: a.test\r\nX-Big: ${'x'.repeat(40_000)}\r\n\r\n`,
  'a target over 32 KB': `GET /${'x'.repeat(40_000)} HTTP/1.1\r\nHost: a.test\r\n\r\n`,
  'two hosts that differ': 'GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n',
}
for (const [what, text] of Object.entries(refused)) {
  test(`${what} is refused and reaches no backend`, async () => {
    web.seen.length = 0
    const answer = await exchange(port, text, /\r\n\r\n|^$/).catch(() => '')
    if (answer !== '') assert.match(answer, /^HTTP\/1\.[01] 4\d\d /)
    assert.deepEqual(
      web.seen.filter(s => s.body !== '' || s.url === '/smuggled').map(s => s.url),
      [],
    )
    assert.equal((await router.get('b.test')).status, 200)
  })
}

/** Whatever the answers are: the backend must not see as a request what was a body to the router. */
const ambiguous: Readonly<Record<string, string>> = {
  'a length beside chunks': post(`Content-Length: 4\r\nTransfer-Encoding: chunked`, `0\r\n\r\n`),
  'a body that looks like a request': post(`Content-Length: ${smuggled.length}`, smuggled),
  'chunks that look like a request': post(
    'Transfer-Encoding: chunked',
    `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`,
  ),
  'an unknown coding before chunked': post(
    `Transfer-Encoding: gzip, chunked`,
    `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`,
  ),
  'chunked hidden by a tab': post(`Transfer-Encoding:\tchunked`, `5\r\nhello\r\n0\r\n\r\n`),
  'chunked twice': post(
    `Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked`,
    `${smuggled.length.toString(16)}\r\n${smuggled}\r\n0\r\n\r\n`,
  ),
  'a coding that only looks like chunked': post(
    `Content-Length: ${smuggled.length}\r\nTransfer-Encoding: xchunked`,
    smuggled,
  ),
  'a chunk extension': post('Transfer-Encoding: chunked', `5;a="\\"\r\nhello\r\n0\r\n\r\n`),
  'a folded header': post(`X-Fold: a\r\n Content-Length: 5\r\nContent-Length: ${smuggled.length}`, smuggled),
}
for (const [what, text] of Object.entries(ambiguous)) {
  test(`${what} is never two requests`, async () => {
    web.seen.length = 0
    const client = exchange(port, text, /\r\n\r\n/).catch(() => '')
    await client
    assert.equal((await router.get('b.test')).status, 200)
    assert.deepEqual(
      web.seen.map(s => s.url).filter(url => url === '/smuggled'),
      [],
    )
    assert.ok(web.seen.filter(s => s.url === '/outer').length <= 1)
  })
}

async function open(count: number, send: string): Promise<Socket[]> {
  const sockets: Socket[] = []
  for (let n = 0; n < count; n++) {
    const socket = connect(port, '127.0.0.1')
    socket.on('error', () => undefined)
    await once(socket, 'connect')
    if (send) socket.write(send)
    sockets.push(socket)
  }
  return sockets
}

async function workerBytes(): Promise<number> {
  const status = await readFile(`/proc/${await router.plane.haproxy.pid()}/status`, 'utf8')
  return Number(/^VmRSS:\s+(\d+) kB$/m.exec(status)?.[1]) * 1024
}

test(`${idleConnections} silent and half-sent connections leave others served and memory bounded`, async () => {
  const silent = await open(idleConnections / 2, '')
  const halfSent = await open(idleConnections / 2, 'GET / HTTP/1.1\r\nHost: a.test\r\nX-Slow: ')
  web.seen.length = 0
  for (let n = 0; n < 20; n++) assert.equal((await router.get('b.test')).status, 200)
  assert.equal(web.seen.length, 20, 'nothing half-sent reached the backend')
  assert.ok((await workerBytes()) < workerBytesMax)
  for (const socket of [...silent, ...halfSent]) socket.destroy()
})

test('a backend that answers nonsense is 503 and the next request is served', async () => {
  const nonsense = await startBackend('nonsense', (_req, res) => {
    res.socket?.end('this is no HTTP answer\r\n\r\n')
  })
  await router.apply([http('bad.test', { service: 'bad' }), http('b.test')], {
    web: [web.addr],
    bad: [nonsense.addr],
  })
  assert.equal((await router.get('bad.test', '/', { method: 'POST', body: 'x' })).status, 503)
  assert.equal((await router.get('b.test')).status, 200)
  nonsense.stop()
})
