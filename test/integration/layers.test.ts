import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { test } from 'node:test'
import type { LayerRequest } from '../../host/container/types.ts'
import { SquashfsLayerStore } from '../../host/image/store.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { listMounts } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { enginePaths, inOwnNamespaces } from './engine-host.ts'

inOwnNamespaces(import.meta.filename)

const paths = enginePaths()
const source = join(paths.stateDir, 'source')
const soon = () => AbortSignal.timeout(10_000)
let counter = 0

/** A squashfs file with one file of this content, and its honest description. */
async function makeLayer(content: string) {
  counter += 1
  const id = `layer${counter}`
  const tree = join(source, id)
  const file = join(source, `${id}.squashfs`)
  await mkdir(tree, { recursive: true })
  await writeFile(join(tree, 'content'), content)
  await run(['mksquashfs', tree, file, '-comp', 'zstd', '-Xcompression-level', '1', '-quiet', '-no-progress'])
  const bytes = await readFile(file)
  const hash = (algorithm: string) => createHash(algorithm).update(bytes).digest('hex')
  const layer = {
    id,
    url: `file://${file}`,
    sizeBytes: bytes.length,
    hashes: { sha512_256: hash('sha512-256'), sha256: hash('sha256') },
  }
  return { layer, file, bytes }
}

function newStore(resolve: (host: string) => Promise<string> = async host => host) {
  return new SquashfsLayerStore({ paths, resolve, log: silentLogger(), retryMs: 300 })
}

async function openStore(resolve?: (host: string) => Promise<string>) {
  const store = newStore(resolve)
  await store.open()
  return store
}

async function mounts(id: string) {
  return (await listMounts()).filter(m => m.target === join(paths.layersDir, id)).length
}

async function cached(id: string) {
  return (await readdir(paths.layerCacheDir)).filter(name => name.includes(id))
}

/** An HTTP server for one test; answers its port and how often it was asked. */
async function serve(handler: (url: string) => { status: number; body: Uint8Array | string }) {
  const seen: string[] = []
  const server = createServer((req, res) => {
    seen.push(`${req.headers.host} ${req.url}`)
    const { status, body } = handler(req.url ?? '')
    res.writeHead(status, status === 302 ? { location: String(body) } : {}).end(body)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  return { port, seen, [Symbol.dispose]: () => void server.close() }
}

test('a layer is fetched, verified and mounted read-only', async () => {
  const store = await openStore()
  const { layer } = await makeLayer('one')
  const path = await store.acquire(layer, 'job1', soon())
  assert.equal(path, join(paths.layersDir, layer.id))
  assert.equal(await readFile(join(path, 'content'), 'utf8'), 'one')
  await assert.rejects(writeFile(join(path, 'more'), ''), { code: 'EROFS' })
  await store.release('job1')
})

test('a layer is mounted once and unmounted with its last user', async () => {
  const store = await openStore()
  const { layer } = await makeLayer('shared')
  const users = ['a', 'b', 'c']
  await Promise.all(users.map(user => store.acquire(layer, user, soon())))
  assert.equal(await mounts(layer.id), 1)
  await store.release('a')
  await store.release('b')
  assert.equal(await mounts(layer.id), 1)
  await store.release('c')
  assert.equal(await mounts(layer.id), 0)
  assert.deepEqual((await cached(layer.id)).sort(), [`${layer.id}.squashfs`, `${layer.id}.verified`])
})

test('concurrent requests share one download', async () => {
  const { layer, bytes } = await makeLayer('download')
  using server = await serve(() => ({ status: 200, body: bytes }))
  const store = await openStore()
  const request = { ...layer, url: `http://127.0.0.1:${server.port}/x` }
  await Promise.all(['a', 'b', 'c'].map(user => store.acquire(request, user, soon())))
  assert.equal(server.seen.length, 1)
  for (const user of ['a', 'b', 'c']) await store.release(user)
})

test('a cached layer needs no source', async () => {
  const store = await openStore()
  const { layer, file } = await makeLayer('kept')
  await store.acquire(layer, 'a', soon())
  await store.release('a')
  await rm(file)
  await store.acquire(layer, 'a', soon())
  await store.release('a')
})

test('hosts under .discoverd are resolved by the resolver, and named in the request', async () => {
  const { layer, bytes } = await makeLayer('blob')
  using server = await serve(() => ({ status: 200, body: bytes }))
  const asked: string[] = []
  const store = await openStore(async host => {
    asked.push(host)
    return `127.0.0.1:${server.port}`
  })
  await store.acquire({ ...layer, url: 'http://blobstore.discoverd/layers/x.squashfs' }, 'a', soon())
  assert.deepEqual(asked, ['blobstore.discoverd'])
  assert.deepEqual(server.seen, ['blobstore.discoverd /layers/x.squashfs'])
  await store.release('a')
})

test('redirects are followed', async () => {
  const { layer, bytes } = await makeLayer('moved')
  using server = await serve(url =>
    url === '/old' ? { status: 302, body: '/new' } : { status: 200, body: bytes },
  )
  const store = await openStore()
  await store.acquire({ ...layer, url: `http://127.0.0.1:${server.port}/old` }, 'a', soon())
  await store.release('a')
})

type Refusal = { name: string; change: (layer: LayerRequest) => LayerRequest; code: string }
const refusals: readonly Refusal[] = [
  {
    name: 'a wrong hash',
    change: l => ({ ...l, hashes: { ...l.hashes, sha256: '0'.repeat(64) } }),
    code: 'layer_hash',
  },
  { name: 'a smaller size', change: l => ({ ...l, sizeBytes: 100 }), code: 'layer_size' },
  { name: 'a larger size', change: l => ({ ...l, sizeBytes: l.sizeBytes + 1 }), code: 'layer_size' },
  { name: 'no hash', change: l => ({ ...l, hashes: {} }), code: 'layer_invalid' },
  { name: 'an id that is a path', change: l => ({ ...l, id: '../x' }), code: 'layer_invalid' },
  {
    name: 'a source that is missing',
    change: l => ({ ...l, url: 'file:///nonexistent/layer' }),
    code: 'layer_fetch',
  },
  {
    name: 'no URL',
    change: l => ({ id: l.id, sizeBytes: l.sizeBytes, hashes: l.hashes }),
    code: 'layer_missing',
  },
  { name: 'a foreign scheme', change: l => ({ ...l, url: 'ftp://host/x' }), code: 'layer_fetch' },
]

for (const { name, change, code } of refusals)
  test(`a layer with ${name} is refused by name and nothing of it is left`, async () => {
    const store = await openStore()
    const { layer } = await makeLayer(name)
    const bad = change(layer)
    await assert.rejects(store.acquire(bad, 'a', soon()), e => {
      assert.ok(e instanceof Error && 'code' in e)
      assert.equal(e.code, code)
      assert.ok(e.message.includes(bad.id), e.message)
      return true
    })
    assert.equal(await mounts(layer.id), 0)
    assert.deepEqual(await cached(layer.id), [])
    assert.equal(existsSync(join(paths.layersDir, layer.id)), false)
  })

test('a server that says 404 is an error without a retry', async () => {
  const { layer } = await makeLayer('gone')
  using server = await serve(() => ({ status: 404, body: '' }))
  const store = await openStore()
  await assert.rejects(store.acquire({ ...layer, url: `http://127.0.0.1:${server.port}/x` }, 'a', soon()), {
    code: 'layer_fetch',
    message: /404/,
  })
  assert.equal(server.seen.length, 1)
})

test('a damaged file in the cache is fetched anew', async () => {
  const store = await openStore()
  const { layer } = await makeLayer('precious')
  await store.acquire(layer, 'a', soon())
  await store.release('a')
  await writeFile(join(paths.layerCacheDir, `${layer.id}.squashfs`), 'short')
  const path = await store.acquire(layer, 'a', soon())
  assert.equal(await readFile(join(path, 'content'), 'utf8'), 'precious')
  await store.release('a')
})

test('a damaged file that is its own source is an error', async () => {
  const store = await openStore()
  const { layer, bytes } = await makeLayer('installed')
  const file = join(paths.layerCacheDir, `${layer.id}.squashfs`)
  await writeFile(file, Buffer.concat([bytes.subarray(0, -1), Buffer.from([1])]))
  await assert.rejects(store.acquire({ ...layer, url: `file://${file}` }, 'a', soon()), {
    code: 'layer_hash',
  })
})

test('a request with other hashes for a mounted layer is refused and disturbs nobody', async () => {
  const store = await openStore()
  const { layer } = await makeLayer('mounted')
  const path = await store.acquire(layer, 'a', soon())
  const other = { ...layer, hashes: { sha256: '1'.repeat(64) } }
  await assert.rejects(store.acquire(other, 'b', soon()), { code: 'layer_hash' })
  assert.equal(await readFile(join(path, 'content'), 'utf8'), 'mounted')
  await store.release('a')
})

test('mounted layers are found again after a restart, and swept when nobody holds them', async () => {
  const first = await openStore()
  const { layer: kept } = await makeLayer('kept')
  const { layer: left } = await makeLayer('left')
  await first.acquire(kept, 'a', soon())
  await first.acquire(left, 'b', soon())
  const second = await openStore()
  await second.adopt('a', [kept.id])
  await second.sweep()
  assert.deepEqual([await mounts(kept.id), await mounts(left.id)], [1, 0])
  await second.acquire(kept, 'c', soon())
  assert.equal(await mounts(kept.id), 1)
  await second.release('a')
  await second.release('c')
  assert.equal(await mounts(kept.id), 0)
})

test('a request that is aborted leaves nothing, and others may still have the layer', async () => {
  const { layer, bytes } = await makeLayer('slow')
  const server = createServer((req, res) => {
    if (req.url === '/slow') res.writeHead(200).write(bytes.subarray(0, 10))
    else res.writeHead(200).end(bytes)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const base = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  const store = await openStore()
  const aborted = store.acquire({ ...layer, url: `${base}/slow` }, 'a', AbortSignal.timeout(200))
  await assert.rejects(aborted, { name: 'TimeoutError' })
  const path = await store.acquire({ ...layer, url: `${base}/fast` }, 'b', soon())
  assert.equal(await readFile(join(path, 'content'), 'utf8'), 'slow')
  await store.release('b')
  assert.deepEqual(
    (await cached(layer.id)).filter(name => name.startsWith('.partial')),
    [],
  )
  server.closeAllConnections()
  server.close()
})
