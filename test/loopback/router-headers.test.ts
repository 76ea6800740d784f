// What reaches a backend of a request, and a client of an answer, byte for byte (contract router.md 4.3, 4.4, 8.13-18,
// 8.27-29, 8.31-33, 8.36).
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import {
  type Backend,
  exchange,
  http,
  startBackend,
  startRouter,
  type TestRouter,
} from '../fixtures/router.ts'

let router: TestRouter
let web: Backend
let port: number

before(async () => {
  router = await startRouter()
  port = router.settings.httpPort ?? 0
  web = await startBackend('web')
  await router.apply([http('a.test')], { web: [web.addr] })
})
after(async () => {
  web.stop()
  await router.stop()
})

/** What the backend saw of a request given as text. */
async function seenOf(head: string, body = '') {
  web.seen.length = 0
  await exchange(port, `${head}\r\n\r\n${body}`, /\r\n\r\n/)
  const seen = web.seen.at(-1)
  assert.ok(seen, 'the request reached the backend')
  return seen
}

test('the forwarding headers are exact, and nothing else is added', async () => {
  const { headers } = await seenOf('GET / HTTP/1.1\r\nHost: a.test\r\nUser-Agent: mine')
  assert.equal(headers['x-forwarded-for'], '127.0.0.1')
  assert.equal(headers['x-forwarded-proto'], 'http')
  assert.equal(headers['x-forwarded-port'], String(port))
  assert.match(headers['x-request-start'] ?? '', /^\d{13}$/)
  assert.match(
    headers['x-request-id'] ?? '',
    /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}$/,
  )
  assert.deepEqual(Object.keys(headers).sort(), [
    'host',
    'user-agent',
    'x-forwarded-for',
    'x-forwarded-port',
    'x-forwarded-proto',
    'x-request-id',
    'x-request-start',
  ])
})

test('existing forwarding headers are appended to', async () => {
  const { headers } = await seenOf(
    'GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 9.9.9.9, 8.8.8.8\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 443\r\nX-Request-Start: 1',
  )
  assert.equal(headers['x-forwarded-for'], '9.9.9.9, 8.8.8.8, 127.0.0.1')
  assert.equal(headers['x-forwarded-proto'], 'https, http')
  assert.equal(headers['x-forwarded-port'], `443, ${port}`)
  assert.match(headers['x-request-start'] ?? '', /^\d{13}$/)
})

test('X-Forwarded-For over several lines becomes one list', async () => {
  const { raw } = await seenOf(
    'GET / HTTP/1.1\r\nHost: a.test\r\nX-Forwarded-For: 9.9.9.9\r\nX-Forwarded-For: 8.8.8.8, 7.7.7.7',
  )
  const values = raw.filter((_, i) => raw[i - 1]?.toLowerCase() === 'x-forwarded-for')
  assert.deepEqual(values, ['9.9.9.9, 8.8.8.8, 7.7.7.7, 127.0.0.1'])
})

test('a request id is kept when it is well formed and replaced otherwise', async () => {
  const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=-'
  for (const kept of ['a'.repeat(20), 'a'.repeat(200), alphabet]) {
    const { headers } = await seenOf(`GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: ${kept}`)
    assert.equal(headers['x-request-id'], kept)
  }
  for (const replaced of ['', 'a', 'a'.repeat(19), 'a'.repeat(201), `${'a'.repeat(20)}*`]) {
    const { headers } = await seenOf(`GET / HTTP/1.1\r\nHost: a.test\r\nX-Request-Id: ${replaced}`)
    assert.match(headers['x-request-id'] ?? '', /^[0-9a-f-]{36}$/, `"${replaced}"`)
  }
})

test('Proxy-Authenticate, Proxy-Authorization and Keep-Alive pass; Te and Trailers do not', async () => {
  const { headers } = await seenOf(
    'GET / HTTP/1.1\r\nHost: a.test\r\nProxy-Authenticate: x\r\nProxy-Authorization: y\r\nKeep-Alive: 300\r\nTE: trailers\r\nTrailers: z',
  )
  assert.equal(headers['proxy-authenticate'], 'x')
  assert.equal(headers['proxy-authorization'], 'y')
  assert.equal(headers['keep-alive'], '300')
  assert.equal(headers['te'], undefined)
  assert.equal(headers['trailers'], undefined)
})

const connectionCases: readonly (readonly [string, readonly string[]])[] = [
  ['', ['x-one', 'x-two']],
  ['keep-alive', ['x-one', 'x-two']],
  ['X-One', ['x-two']],
  ['keep-alive, X-One', ['x-two']],
  ['X-One ,  x-TWO', []],
]
for (const [connection, left] of connectionCases) {
  test(`Connection "${connection}" of a request takes the headers it names`, async () => {
    const line = connection === '' ? '' : `\r\nConnection: ${connection}`
    const { headers } = await seenOf(
      `GET / HTTP/1.1\r\nHost: a.test${line}\r\nX-One: 1\r\nX-Two: 2\r\nUpgrade: h3`,
    )
    assert.deepEqual(
      ['x-one', 'x-two'].filter(name => name in headers),
      left,
    )
    assert.equal(headers['upgrade'], undefined)
  })
}

for (const word of ['upgrade', 'UpGrade', 'keep-alive, Upgrade']) {
  test(`Connection "${word}" of a request lets everything through`, async () => {
    const { headers } = await seenOf(
      `GET / HTTP/1.1\r\nHost: a.test\r\nConnection: ${word}\r\nUpgrade: Odd/1.0\r\nX-One: 1\r\nProxy-Authorization: y`,
    )
    assert.equal(headers['upgrade'], 'Odd/1.0')
    assert.match(headers['connection'] ?? '', /upgrade/i)
    assert.equal(headers['x-one'], '1')
    assert.equal(headers['proxy-authorization'], 'y')
  })
}

test('naming the headers of the router in Connection does not take them away', async () => {
  const { headers } = await seenOf(
    'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: X-Forwarded-For, X-Request-Id, Host, close\r\nX-Forwarded-For: 1.2.3.4',
  )
  assert.equal(headers['host'], 'a.test')
  assert.equal(headers['x-forwarded-for'], '127.0.0.1')
  assert.ok(headers['x-request-id'])
})

test('Connection of an answer takes the headers it names', async () => {
  const answering = await startBackend('answering', (_req, res) => {
    res.writeHead(200, { Connection: 'X-One, keep-alive', 'X-One': '1', 'X-Two': '2', TE: 'x' })
    res.end('done')
  })
  await router.apply([http('a.test'), http('res.test', { service: 'res' })], {
    web: [web.addr],
    res: [answering.addr],
  })
  const { headers, body } = await router.get('res.test')
  assert.equal(body, 'done')
  assert.equal(headers['x-one'], undefined)
  assert.equal(headers['x-two'], '2')
  assert.equal(headers['te'], undefined)
  answering.stop()
})

test('a client that wants its connection closed closes only that', async () => {
  const accepted = () => web.accepted()
  await router.get('a.test', '/', { headers: { connection: 'keep-alive' } })
  const before = accepted()
  const clients = 12
  for (let n = 0; n < clients; n++)
    await exchange(port, 'GET / HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n')
  // One may come before the connection of the one before it is free again; were those closed, each would need its own.
  const opened = accepted() - before
  assert.ok(opened < clients / 2, `${opened} connections to the backend for ${clients} clients`)
})

const targets = [
  '/plain?a=1&b=%20&c=[x]',
  '//foo/bar',
  '/a//b/../c/./d',
  '/%2e%2e/%2F/%zz?',
  "/odd;p=1,2:3@4!$&'()*+=~_-.",
  '/?%3D=%26&&==',
]
for (const target of targets) {
  test(`the target ${target} reaches the backend as it is`, async () => {
    assert.equal((await seenOf(`GET ${target} HTTP/1.1\r\nHost: a.test`)).url, target)
  })
}

test('a target in absolute form reaches the backend as it is', async () => {
  const target = 'http://a.test/some/path?x=1'
  assert.equal((await seenOf(`GET ${target} HTTP/1.1\r\nHost: a.test`)).url, target)
})

test('the host is matched in any case and with a port, and passed on as it came', async () => {
  assert.equal((await seenOf('GET / HTTP/1.1\r\nHost: A.TeSt')).headers['host'], 'A.TeSt')
  assert.equal((await seenOf('GET / HTTP/1.1\r\nHost: a.test:12345')).headers['host'], 'a.test:12345')
})

test('one connection carries requests for two hosts to two backends', async () => {
  const other = await startBackend('other')
  await router.apply([http('a.test'), http('b.test', { service: 'b' })], { web: [web.addr], b: [other.addr] })
  const text = await exchange(
    port,
    'GET / HTTP/1.1\r\nHost: a.test\r\n\r\nGET / HTTP/1.1\r\nHost: b.test\r\n\r\n',
    /"name":"web"[\s\S]*"name":"other"/,
  )
  assert.match(text, /200 OK/)
  other.stop()
})

test('head and first byte of an answer come at once, and the end when it comes', async () => {
  let finish: () => void = () => undefined
  const slow = await startBackend('slow', (_req, res) => {
    res.write('first')
    finish = () => res.end('last')
  })
  await router.apply([http('slow.test')], { web: [slow.addr] })
  const text = await exchange(port, 'GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n', /first/)
  assert.doesNotMatch(text, /last/)
  finish()
  slow.stop()
})

test('the beginning of a request body reaches the backend while the rest is still to come', async () => {
  const pieces: string[] = []
  let arrived: () => void = () => undefined
  const first = new Promise<void>(resolve => {
    arrived = resolve
  })
  const taking = await startBackend('taking', (req, res) => {
    req.on('data', chunk => {
      pieces.push(String(chunk))
      arrived()
    })
    req.on('end', () => res.end(pieces.join('')))
  })
  await router.apply([http('upload.test')], { web: [taking.addr] })
  const socket = connect(port, '127.0.0.1')
  socket.write('POST / HTTP/1.1\r\nHost: upload.test\r\nContent-Length: 8\r\nConnection: close\r\n\r\nhalf')
  await first
  assert.deepEqual(pieces, ['half'])
  socket.write('rest')
  let text = ''
  for await (const chunk of socket) text += String(chunk)
  assert.match(text, /halfrest/)
  taking.stop()
})

test('a client that goes away takes its request to the backend with it', async () => {
  let gone: () => void = () => undefined
  const left = new Promise<void>(resolve => {
    gone = resolve
  })
  const slow = await startBackend('slow', (_req, res) => {
    res.write('x')
    res.on('close', () => gone())
  })
  await router.apply([http('gone.test')], { web: [slow.addr] })
  await exchange(port, 'GET / HTTP/1.1\r\nHost: gone.test\r\n\r\n', /x/)
  await left
  slow.stop()
})

test('an empty answer is an empty 200', async () => {
  const empty = await startBackend('empty', (_req, res) => res.end())
  await router.apply([http('empty.test')], { web: [empty.addr] })
  const { status, body } = await router.get('empty.test')
  assert.deepEqual([status, body], [200, ''])
  empty.stop()
})
