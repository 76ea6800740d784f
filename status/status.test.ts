import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type TestContext, test } from 'node:test'
import { DiscoverdClient } from '../discoverd/client.ts'
import { silentLogger } from '../pkg/log/log.ts'
import { clientAddress, isTrusted } from './access.core.ts'
import { statusApi } from './api.ts'
import { checks, summarize, toComponentStatus } from './checks.core.ts'
import { clusterProbe } from './probe.ts'
import type { ClusterStatus, ComponentStatus } from './types.ts'

const healthy: ComponentStatus = { status: 'healthy' }
const unhealthy: ComponentStatus = { status: 'unhealthy' }

function cluster(sick: readonly string[]): ClusterStatus {
  return summarize(
    checks.map(check => [check, sick.includes(check.name) ? unhealthy : healthy] as const),
    'v1',
  )
}

function api(t: TestContext, status: ClusterStatus, authKey?: string) {
  const server = statusApi({ log: silentLogger(), authKey, status: async () => status })
  t.after(() => server.close())
  return server
}

test('the cluster is as well as the worst component that every cluster has', () => {
  assert.equal(cluster([]).data.status, 'healthy')
  assert.equal(cluster(['mongodb', 'mariadb', 'tarreceive']).data.status, 'healthy')
  assert.equal(cluster(['mongodb']).data.detail['mongodb']?.status, 'unhealthy')
  for (const name of ['postgres', 'router', 'blobstore'])
    assert.equal(cluster([name]).data.status, 'unhealthy')
})

test('a component is healthy only when it says so with a 200', () => {
  const answer = (status: number, body: unknown) => toComponentStatus({ ok: true, status, body })
  assert.deepEqual(answer(200, { data: { status: 'healthy', version: 'v2', detail: { a: 1 } } }), {
    status: 'healthy',
    version: 'v2',
    detail: { a: 1 },
  })
  assert.equal(answer(200, { data: { status: 'unhealthy' } }).status, 'unhealthy')
  assert.equal(answer(500, { data: { status: 'healthy' } }).status, 'unhealthy')
  assert.equal(answer(200, { role: 'master' }).status, 'healthy', 'Patroni answers in its own words')
  assert.equal(answer(503, undefined).status, 'unhealthy')
  assert.deepEqual(toComponentStatus({ ok: false, reason: 'no leader' }), {
    status: 'unhealthy',
    detail: 'no leader',
  })
})

test('a healthy cluster is a 200 and a sick one a 500, with indented JSON, whatever is asked', async t => {
  const well = await api(t, cluster([])).inject({ method: 'POST', url: '/any/path', payload: 'x' })
  assert.equal(well.statusCode, 200)
  assert.match(well.body, /^\{\n {2}"data": \{\n {4}"status": "healthy",/)
  assert.ok(well.body.endsWith('}\n'))
  const sick = await api(t, cluster(['postgres'])).inject({ method: 'GET', url: '/' })
  assert.equal(sick.statusCode, 500)
  assert.equal(sick.json<ClusterStatus>().data.detail['postgres']?.status, 'unhealthy')
})

test('strangers need the key, neighbours do not', async t => {
  const server = api(t, cluster([]), 'secret')
  const ask = async (url: string, headers: Record<string, string>) =>
    (await server.inject({ url, headers })).statusCode
  const stranger = { 'x-forwarded-for': '10.1.2.3, 8.8.8.8' }
  assert.equal(await ask('/', {}), 200, 'inject comes from 127.0.0.1')
  assert.equal(await ask('/', { 'x-forwarded-for': '8.8.8.8, 10.1.2.3' }), 200)
  assert.equal(await ask('/', stranger), 401)
  assert.equal(await ask('/?key=secret', stranger), 200)
  assert.equal(await ask('/?key=wrong', stranger), 401)
  const basic = (password: string) => `Basic ${Buffer.from(`:${password}`).toString('base64')}`
  assert.equal(await ask('/', { ...stranger, authorization: basic('secret') }), 200)
  assert.equal(await ask('/', { ...stranger, authorization: basic('wrong') }), 401)
})

test('a browser from anywhere may ask', async t => {
  const server = api(t, cluster([]))
  const headers = { origin: 'https://dashboard.example', 'access-control-request-method': 'GET' }
  const preflight = await server.inject({ method: 'OPTIONS', url: '/', headers })
  assert.equal(preflight.headers['access-control-allow-origin'], 'https://dashboard.example')
  assert.equal(preflight.headers['access-control-max-age'], '3600')
  const get = await server.inject({ url: '/', headers: { origin: headers.origin } })
  assert.equal(get.headers['access-control-allow-origin'], headers.origin)
  assert.equal(get.headers['access-control-allow-credentials'], 'true')
})

test('private, loopback, documentation and shared networks are trusted, others are not', () => {
  const inside = [
    '10.0.0.1',
    '172.31.255.1',
    '192.168.1.1',
    '127.9.9.9',
    '100.100.3.4',
    '203.0.113.9',
    '::1',
    'fd12::1',
    '::ffff:10.2.3.4',
  ]
  for (const address of inside) assert.equal(isTrusted(address), true, address)
  const outside = [
    '8.8.8.8',
    '172.32.0.1',
    '100.128.0.1',
    '11.0.0.1',
    '2001:db8::1',
    '::2',
    'fe80::1',
    '',
    'x',
    '10.0.0',
    '10.0.0.256',
    '1:2:3',
  ]
  for (const address of outside) assert.equal(isTrusted(address), false, address)
})

test('of the forwarded addresses only the one our router saw counts', () => {
  assert.equal(clientAddress('10.0.0.1, 8.8.8.8', '127.0.0.1'), '8.8.8.8')
  assert.equal(clientAddress(undefined, '127.0.0.1'), '127.0.0.1')
  assert.equal(clientAddress('', '127.0.0.1'), '127.0.0.1')
})

test('components are found through discoverd and asked, the controller with its key', async t => {
  const asked: string[] = []
  const server = createServer((req, res) => {
    const { port } = server.address() as { port: number }
    const addr = `127.0.0.1:${port}`
    const [, service, kind] = /^\/services\/([^/]+)\/(\w+)$/.exec(req.url ?? '') ?? []
    const instance = { id: 'x', addr, proto: 'tcp', meta: { AUTH_KEY: 'k' } }
    const known = ['blobstore', 'controller', 'controller-scheduler'].includes(service ?? '')
    if (kind === undefined) {
      asked.push(`${req.url} ${req.headers.authorization ?? ''}`.trim())
      res.end(JSON.stringify({ data: { status: 'healthy', version: 'v3' } }))
    } else if (known) res.end(JSON.stringify(kind === 'leader' ? instance : [instance]))
    else {
      const body = { code: 'object_not_found', message: 'none', retry: false }
      res.writeHead(404, { 'content-type': 'application/json' }).end(JSON.stringify(body))
    }
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  const discoverd = new DiscoverdClient({ servers: `http://127.0.0.1:${port}` })
  t.after(async () => {
    await discoverd.close()
    server.closeAllConnections()
    await new Promise(resolve => server.close(resolve))
  })
  const { data } = await clusterProbe(discoverd)()
  assert.equal(data.status, 'unhealthy')
  assert.deepEqual(data.detail['blobstore'], { status: 'healthy', version: 'v3' })
  assert.equal(data.detail['controller-scheduler']?.status, 'healthy')
  assert.deepEqual(data.detail['router'], { status: 'unhealthy', detail: 'no instances' })
  assert.deepEqual(data.detail['postgres'], { status: 'unhealthy', detail: 'no leader' })
  assert.deepEqual(asked.sort(), [
    '/.well-known/status',
    '/.well-known/status',
    `/.well-known/status Basic ${Buffer.from(':k').toString('base64')}`,
  ])
})
