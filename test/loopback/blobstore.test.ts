// The blobstore on a real PostgreSQL, over real connections (contract blobstore.md 6).
import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import { setTimeout as delay } from 'node:timers/promises'
import pg from 'pg'
import { blobstoreApi } from '../../blobstore/api.ts'
import { BlobstoreClient } from '../../blobstore/client.ts'
import { type FileStore, fileStore } from '../../blobstore/files.ts'
import { migrate } from '../../blobstore/schema.ts'
import { poll } from '../../pkg/clock/clock.ts'
import type { Server } from '../../pkg/httpd/httpd.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import { startPostgres, type TestPostgres } from '../fixtures/postgres.ts'

let postgres: TestPostgres
let store: FileStore
let server: Server
let url: string

before(async () => {
  postgres = await startPostgres()
  const env = await postgres.createDatabase('blobs')
  store = fileStore(pgOptionsFromEnv({ ...env }, 'test'), silentLogger())
  await migrate(store.pool)
  server = blobstoreApi({ store, log: silentLogger() })
  url = await server.listen({ host: '127.0.0.1', port: 0 })
})

after(async () => {
  await server?.close()
  await store?.close()
  await postgres?.stop()
})

function put(name: string, body: string | Uint8Array<ArrayBuffer>, headers: Record<string, string> = {}) {
  return fetch(`${url}${name}`, { method: 'PUT', body, headers })
}
const get = (name: string, headers: Record<string, string> = {}) => fetch(`${url}${name}`, { headers })
const text = async (name: string) => (await get(name)).text()
const del = (name: string) => fetch(`${url}${name}`, { method: 'DELETE' })
const list = async (dir?: string) => {
  const res = await get(dir === undefined ? '/' : `/?dir=${encodeURIComponent(dir)}`)
  return (await res.json()) as string[]
}
const etagOf = (content: string | Uint8Array) => `"${createHash('sha512').update(content).digest('base64')}"`
const count = async (sql: string) =>
  Number((await store.pool.query(`SELECT count(*) AS n FROM ${sql}`)).rows[0].n)

test('an absent object is a plain 404', async () => {
  for (const method of ['GET', 'HEAD']) {
    const res = await fetch(`${url}/absent`, { method })
    assert.equal(res.status, 404)
    if (method === 'GET') assert.equal(await res.text(), 'NotFound\n')
  }
})

test('what was stored comes back, with its type, size and hash', async () => {
  const content = randomBytes(10_500_000)
  const stored = await put('/big', content, { 'content-type': 'application/x-big' })
  assert.equal(stored.status, 200)
  assert.equal(await stored.text(), '')
  const res = await get('/big')
  assert.deepEqual(Buffer.from(await res.arrayBuffer()), content)
  const head = await fetch(`${url}/big`, { method: 'HEAD' })
  for (const r of [res, head]) {
    assert.equal(r.headers.get('content-length'), '10500000')
    assert.equal(r.headers.get('content-type'), 'application/x-big')
    assert.equal(r.headers.get('etag'), etagOf(content))
    assert.equal(r.headers.get('accept-ranges'), 'bytes')
  }
})

test('an object may be empty, and its type too', async () => {
  assert.equal((await put('/empty', new Uint8Array())).status, 200)
  const res = await get('/empty')
  assert.equal(res.status, 200)
  assert.equal(await res.text(), '')
  assert.equal(res.headers.get('content-type'), '')
})

test('a client that has the content gets 304, ranges get parts', async () => {
  await put('/cond', 'abcdefghij', { 'content-type': 'x/y' })
  const fresh = await get('/cond', { 'if-none-match': etagOf('abcdefghij') })
  assert.equal(fresh.status, 304)
  const part = await get('/cond', { range: 'bytes=2-4' })
  assert.equal(part.status, 206)
  assert.equal(part.headers.get('content-range'), 'bytes 2-4/10')
  assert.equal(await part.text(), 'cde')
  const none = await get('/cond', { range: 'bytes=10-' })
  assert.equal(none.status, 416)
  assert.equal(none.headers.get('content-range'), 'bytes */10')
  const many = await get('/cond', { range: 'bytes=0-1,-2' })
  assert.match(many.headers.get('content-type') ?? '', /^multipart\/byteranges; boundary=/)
  const body = await many.text()
  assert.equal(Number(many.headers.get('content-length')), body.length)
  assert.match(body, /Content-Range: bytes 0-1\/10\r\n\r\nab\r\n--/)
  assert.match(body, /Content-Range: bytes 8-9\/10\r\n\r\nij\r\n--/)
})

test('replacing an object leaves neither the old row live nor its content stored', async () => {
  await put('/replaced', 'old content')
  const before = await count('pg_largeobject_metadata')
  await put('/replaced', 'new', { 'content-type': 'text/new' })
  assert.equal(await text('/replaced'), 'new')
  assert.equal(await count('pg_largeobject_metadata'), before)
  assert.equal(await count(`files WHERE name = '/replaced' AND deleted_at IS NULL`), 1)
})

test('a reader that has begun gets the whole old object while it is replaced', async () => {
  const old = randomBytes(8_000_000)
  await put('/while', old)
  const file = await store.open('/while')
  assert.ok(file)
  const chunks: Buffer[] = []
  for await (const chunk of file.read({ start: 0, length: file.info.size })) {
    if (chunks.length === 0) await put('/while', 'new')
    chunks.push(chunk)
  }
  await file.close()
  assert.deepEqual(Buffer.concat(chunks), old)
  assert.equal(await text('/while'), 'new')
})

test('writers of one name take turns, and one of them wins whole', async () => {
  const bodies = Array.from({ length: 8 }, (_, i) => String(i).repeat(600_000))
  const answers = await Promise.all(bodies.map(body => put('/raced', body)))
  for (const res of answers) assert.equal(res.status, 200)
  assert.ok(bodies.includes(await text('/raced')))
  assert.equal(await count(`files WHERE name = '/raced' AND deleted_at IS NULL`), 1)
})

test('appending continues at the offset and keeps the hash right', async () => {
  await put('/app', 'foo', { 'content-type': 'x/first' })
  assert.equal(
    (await put('/app', 'bar', { 'blobstore-offset': '3', 'content-type': 'x/second' })).status,
    200,
  )
  assert.equal((await put('/app', 'baz', { 'blobstore-offset': '6' })).status, 200)
  const res = await get('/app')
  assert.equal(await res.text(), 'foobarbaz')
  assert.equal(res.headers.get('etag'), etagOf('foobarbaz'))
  assert.equal(res.headers.get('content-type'), 'x/first')
})

test('appending at a wrong offset changes nothing', async () => {
  await put('/app2', 'foo')
  for (const offset of ['2', '4', 'x', '-1']) {
    const res = await put('/app2', 'bar', { 'blobstore-offset': offset })
    assert.equal(res.status, 500, offset)
    assert.equal(await res.text(), 'Internal Server Error\n')
    assert.match(res.headers.get('blobstore-error') ?? '', /offset/)
  }
  assert.equal(await text('/app2'), 'foo')
})

test('an offset without an object makes one', async () => {
  assert.equal((await put('/app3', 'x', { 'blobstore-offset': '7' })).status, 200)
  assert.equal(await text('/app3'), 'x')
})

test('a copy has content, type and hash of its source, and never replaces', async () => {
  const content = randomBytes(700_000)
  await put('/src', content, { 'content-type': 'x/src' })
  assert.equal((await put('/dst', '', { 'blobstore-copy-from': '/src' })).status, 200)
  const res = await get('/dst')
  assert.deepEqual(Buffer.from(await res.arrayBuffer()), content)
  assert.equal(res.headers.get('content-type'), 'x/src')
  assert.equal(res.headers.get('etag'), etagOf(content))
  assert.equal((await put('/dst', '', { 'blobstore-copy-from': '/src' })).status, 500)
  assert.equal((await put('/dst2', '', { 'blobstore-copy-from': '/nowhere' })).status, 404)
})

test('deleting removes an object and all below it, and nothing beside it', async () => {
  for (const name of ['/d/foo', '/d/foo/a', '/d/foo/b/c', '/d/foo.txt', '/d/foobar']) await put(name, 'x')
  assert.equal((await del('/d/foo')).status, 200)
  assert.deepEqual(await list('/d'), ['/d/foo.txt', '/d/foobar'])
  assert.equal((await del('/d')).status, 200)
  assert.deepEqual(await list('/d'), [])
  assert.equal((await del('/d')).status, 200, 'nothing there is no error')
})

test('a listing shows one level in byte order, and takes no character for a pattern', async () => {
  for (const name of ['/l/b.txt', '/l/B', '/l/dir/x', '/l/dir/y/z', '/l/a_c/1', '/l/axc/2', '/l/p%25/3'])
    await put(name, 'x')
  assert.deepEqual(await list('/l'), ['/l/B', '/l/a_c/', '/l/axc/', '/l/b.txt', '/l/dir/', '/l/p%/'])
  assert.deepEqual(await list('/l/dir/'), ['/l/dir/x', '/l/dir/y/'])
  assert.deepEqual(await list('/l/a_c'), ['/l/a_c/1'])
  assert.deepEqual(await list('/l/b.txt'), [])
  const res = await get('/?dir=/l/dir')
  assert.equal(await res.text(), '["/l/dir/x","/l/dir/y/"]\n')
  assert.ok((await list()).includes('/l/'))
})

test('an upload that breaks off leaves the old object and no content', async () => {
  await put('/broken', 'old')
  const contents = await count('pg_largeobject_metadata')
  const { hostname, port } = new URL(url)
  const socket = connect(Number(port), hostname)
  socket.write(`PUT /broken HTTP/1.1\r\nHost: x\r\nContent-Length: 2000000\r\n\r\n${'n'.repeat(900_000)}`)
  await delay(200)
  socket.destroy()
  await poll(
    async () => (await count(`pg_stat_activity WHERE application_name = 'test' AND state <> 'idle'`)) <= 1,
    {
      timeoutMs: 10_000,
      what: 'the transaction to end',
    },
  )
  assert.equal(await text('/broken'), 'old')
  assert.equal(await count('pg_largeobject_metadata'), contents)
})

test('a download that the client leaves frees its connection', async () => {
  await put('/left', randomBytes(30_000_000))
  for (let i = 0; i < 3; i++) {
    const abort = new AbortController()
    const res = await fetch(`${url}/left`, { signal: abort.signal })
    await res.body?.getReader().read()
    abort.abort()
  }
  const open = `pg_stat_activity WHERE application_name = 'test' AND state LIKE 'idle in transaction%'`
  await poll(async () => (await count(open)) === 0, { timeoutMs: 10_000, what: 'transactions to end' })
})

test('untidy paths are redirected, other methods refused, roots answered', async () => {
  const untidy = await fetch(`${url}//a//b/../c?x=1`, { redirect: 'manual' })
  assert.equal(untidy.status, 301)
  assert.equal(untidy.headers.get('location'), '/a/c?x=1')
  await put('/slash', 'x')
  assert.equal(await text('/slash/'), 'x')
  assert.equal((await fetch(`${url}/slash`, { method: 'POST', body: 'x' })).status, 405)
  assert.equal((await fetch(`${url}/`, { method: 'HEAD' })).status, 200)
  assert.equal((await put('/', 'x')).status, 404)
  assert.equal((await get('/.well-known/status')).status, 200)
})

test('names may hold spaces and umlauts; NUL and endless ones are refused', async () => {
  const client = new BlobstoreClient(url)
  await client.put('/ü b/%2f', 'x')
  assert.deepEqual(await client.list('/ü b'), ['/ü b/%2f'])
  assert.equal((await put('/a%00b', 'x')).status, 400)
  assert.equal((await put(`/${'n'.repeat(3000)}`, 'x')).status, 400)
})

test('the client stores, reads, copies and removes', async () => {
  const client = new BlobstoreClient(url)
  await client.put('/c/one', 'hello', { contentType: 'x/y' })
  await client.copy('/c/one', '/c/two')
  const two = await client.get('/c/two')
  assert.ok(two)
  assert.equal(await new Response(two.body as never).text(), 'hello')
  assert.equal(two.info.contentType, 'x/y')
  await client.delete('/c')
  assert.equal(await client.head('/c/two'), undefined)
  assert.equal(await client.get('/c/one'), undefined)
})

test('migration 2 keeps what migration 1 stored', async () => {
  const env = await postgres.createDatabase('old')
  const old = fileStore(pgOptionsFromEnv({ ...env }, 'test'), silentLogger())
  try {
    await migrate(old.pool, 1)
    const digest = createHash('sha512').update('kept').digest('hex')
    await old.pool.query(
      `INSERT INTO files (file_id, name, size, type, digest) VALUES (lo_from_bytea(0, 'kept'), '/k', 4, 'x/k', '${digest}')`,
    )
    await migrate(old.pool)
    await migrate(old.pool)
    const file = await old.open('/k')
    assert.ok(file)
    assert.equal(file.info.etag, etagOf('kept'))
    assert.equal(file.info.contentType, 'x/k')
    for await (const chunk of file.read({ start: 0, length: 4 })) assert.equal(String(chunk), 'kept')
    await file.close()
    await old.remove('/k')
    assert.equal((await old.pool.query('SELECT 1 FROM pg_largeobject_metadata')).rowCount, 0)
  } finally {
    await old.close()
  }
})

test('while the database is away the answer is 503, and afterwards it works again', async () => {
  await put('/again', 'x')
  await postgres.kill()
  // A backend process outlives its killed postmaster for a moment and may still answer.
  const away = async () => (await get('/again')).status === 503
  await poll(away, { timeoutMs: 10_000, what: 'the database to be missed' })
  assert.equal((await get('/.well-known/status')).status, 500)
  await postgres.start()
  await poll(async () => (await text('/again')) === 'x', { timeoutMs: 20_000, what: 'the object' })
})

test('a connection that the server ends in the middle of a download cuts it and harms nothing else', async () => {
  await put('/cut', randomBytes(30_000_000))
  const res = await get('/cut')
  const admin = new pg.Client({ ...postgres, password: '' })
  await admin.connect()
  // The download waits for its reader, between two pieces, within its transaction.
  const ended = async () => {
    const { rowCount } = await admin.query(
      `SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'test' AND state LIKE 'idle in%'`,
    )
    return (rowCount ?? 0) > 0
  }
  await poll(ended, { timeoutMs: 10_000, what: 'the download to wait' })
  await admin.end()
  await assert.rejects(res.arrayBuffer())
  await poll(async () => (await get('/again')).status === 200, {
    timeoutMs: 10_000,
    what: 'the next request',
  })
})
