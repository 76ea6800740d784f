// Routes, certificates, providers, resources, volumes and logs of the controller's HTTP API, from outside, on a real
// PostgreSQL (contract controller.md 2.10, 2.11, 2.13, 2.15).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { App, Route } from '../../controller/types.ts'
import { createClusterCertificate } from '../../pkg/tls/certificate.ts'
import {
  type Answer,
  assertCode,
  assertEmpty404,
  assertField,
  call as send,
  startController,
  type TestController,
} from '../fixtures/controller.ts'
import { type StandIn, startStandIn } from '../fixtures/stand-in-host.ts'

let controller: TestController
let standIn: StandIn

before(async () => {
  standIn = await startStandIn()
  controller = await startController({
    env: {
      DISCOVERD: standIn.addr,
      EXTERNAL_IP: '127.0.0.1',
      FLYNN_JOB_ID: 'hosta-1',
      LOGAGGREGATOR_URL: `http://${standIn.addr}`,
      DEFAULT_ROUTE_DOMAIN: 'example.test',
    },
  })
})
after(async () => {
  await controller?.stop()
  await standIn?.close()
})

const call = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
): Promise<Answer> => send(controller, method, path, { body, ...(headers ? { headers } : {}) })

let unique = 0
const newName = (prefix = 'app') => `${prefix}-${++unique}`

async function newApp(): Promise<App> {
  return controller.client.createApp({ name: newName() })
}

const tls = async (name: string) => {
  const { cert, private_key } = await createClusterCertificate([name], new Date())
  return { cert, key: private_key }
}

test('an http route is created, read, updated, deleted, and its path is tidied', async () => {
  const app = await newApp()
  const domain = `${newName('www')}.test`
  const path = `/apps/${app.name}/routes`
  const root = (await call('POST', path, { type: 'http', service: 's', domain, path: '' })).json as Route
  assert.equal(root.path, '/')
  assert.equal(root.parent_ref, `controller/apps/${app.id}`)
  assert.equal(root.drain_backends, undefined)
  const sub = (await call('POST', path, { type: 'http', service: 's', domain, path: '/sub' })).json as Route
  assert.equal(sub.path, '/sub/')
  assertCode(await call('DELETE', `${path}/http/${root.id}`), 400, 'validation_error')
  const { parent_ref: _, ...rest } = root
  const updated = (await call('PUT', `${path}/http/${root.id}`, { ...rest, sticky: true })).json as Route
  assert.equal(updated.sticky, true)
  assert.equal(updated.parent_ref, root.parent_ref)
  for (const route of [sub, root])
    assert.equal((await call('DELETE', `${path}/http/${route.id}`)).status, 200)
  assertEmpty404(await call('GET', `${path}/http/${root.id}`))
})

test('a route of another app is not there', async () => {
  const [mine, other] = [await newApp(), await newApp()]
  const route = await controller.client.createRoute(mine.id, {
    type: 'http',
    service: 's',
    domain: `${newName()}.test`,
  })
  const path = `/apps/${other.name}/routes/http/${route.id}`
  assertEmpty404(await call('GET', path))
  assertEmpty404(await call('PUT', path, route))
  assertEmpty404(await call('DELETE', path))
})

test('routes that break a rule are refused by the names that clients match', async () => {
  const app = await newApp()
  const path = `/apps/${app.name}/routes`
  const domain = `${newName()}.test`
  const http = { type: 'http', service: 'one', domain }
  await call('POST', path, http)
  const duplicate = await call('POST', path, http)
  assertCode(duplicate, 409, 'conflict')
  assert.equal((duplicate.json as { message: string }).message, 'Duplicate route')
  assert.deepEqual((duplicate.json as { detail: unknown }).detail, http)
  const invalid = [
    { ...http, port: 8080, domain: `x-${domain}` },
    { ...http, path: 'sub' },
    { ...http, domain: `y-${domain}`, path: '/without-root' },
    { ...http, domain: `z-${domain}`, drain_backends: true },
    { service: 'one', domain },
  ]
  for (const route of invalid) {
    const answer = await call('POST', path, route)
    assertCode(answer, 400, 'validation_error')
    assert.equal((answer.json as { message: string }).message, 'Invalid route')
  }
  assertField(await call('POST', path, { ...http, type: 'udp' }), 'type')
  assertField(await call('POST', path, { type: 'http', domain }), 'service')
})

test('what a route asks of the routers stays until it is taken away', async () => {
  const app = await newApp()
  const path = `/apps/${app.id}/routes`
  const http = { type: 'http', service: 's', domain: `${newName()}.test` }
  const created = (await call('POST', path, { ...http, redirect_https: true, rate_limit: 5 })).json as Route
  assert.equal(created.redirect_https, true)
  assert.equal(created.rate_limit, 5)
  const put = (body: object) => call('PUT', `${path}/http/${created.id}`, body)
  const changed = (await put({ ...http, maintenance: true, rate_limit: 0 })).json as Route
  assert.deepEqual([changed.redirect_https, changed.maintenance], [true, true])
  assert.ok(!('rate_limit' in changed))
  assertField(await put({ ...http, max_body_bytes: -1 }), 'max_body_bytes')
  assertField(await call('POST', path, { type: 'tcp', service: 's', maintenance: true }), 'maintenance')
  const tcp = (await call('POST', path, { type: 'tcp', port: 4100, service: 's', proxy_protocol: true }))
    .json as Route
  assert.equal(tcp.proxy_protocol, true)
})

test('the domain of a route never changes', async () => {
  const app = await newApp()
  const domain = `${newName()}.test`
  const route = await controller.client.createRoute(app.id, { type: 'http', service: 's', domain })
  assertEmpty404(
    await call('PUT', `/apps/${app.id}/routes/http/${route.id}`, { ...route, domain: `x${domain}` }),
  )
})

test('a tcp route gets the lowest free port, and a deleted one is used again', async () => {
  const app = await newApp()
  const make = async () =>
    (await call('POST', `/apps/${app.id}/routes`, { type: 'tcp', service: 's' })).json as Route
  const [first, second] = [await make(), await make()]
  assert.equal(first.port, 3000)
  assert.equal(second.port, 3001)
  await controller.client.deleteRoute(app.id, `tcp/${first.id}`)
  assert.equal((await make()).port, 3000)
})

test('ports that are reserved, taken or out of range are refused', async () => {
  const app = await newApp()
  const post = (port: number) => call('POST', `/apps/${app.id}/routes`, { type: 'tcp', service: 's', port })
  for (const port of [80, 443]) {
    const answer = await post(port)
    assertCode(answer, 409, 'conflict')
    assert.equal((answer.json as { message: string }).message, 'Port reserved for HTTP/HTTPS traffic')
  }
  assert.equal((await post(4000)).status, 200)
  assertCode(await post(4000), 409, 'conflict')
  for (const port of [-1, 65_535, 1113]) assertField(await post(port), 'port')
})

test('ten tcp routes asked for at once get ten ports', async () => {
  const app = await newApp()
  const routes = await Promise.all(
    Array.from({ length: 10 }, () => controller.client.createRoute(app.id, { type: 'tcp', service: 's' })),
  )
  assert.equal(new Set(routes.map(r => r.port)).size, 10)
})

test('a certificate is kept through an update without one, and told in the event', async () => {
  const app = await newApp()
  const domain = `${newName()}.test`
  const pair = await tls(domain)
  const route = await controller.client.createRoute(app.id, {
    type: 'http',
    service: 's',
    domain,
    tls_cert: `\n${pair.cert}\n`,
    tls_key: pair.key,
  })
  assert.equal(route.certificate?.cert, pair.cert.trim())
  const { certificate: _c, tls_cert: _t, tls_key: _k, ...rest } = route
  const updated = await controller.client.updateRoute(app.id, `http/${route.id}`, { ...rest, sticky: true })
  assert.equal(updated.certificate?.id, route.certificate?.id)
  const [event] = await controller.client.events({ objectId: route.id, types: ['route'], count: 1 })
  const told = event?.data as Route | undefined
  assert.equal(told?.certificate?.id, route.certificate?.id)
})

test('a certificate that does not match its key is refused without showing the key', async () => {
  const app = await newApp()
  const domain = `${newName()}.test`
  const [one, two] = [await tls(domain), await tls(domain)]
  const body = { type: 'http', service: 's', domain, certificate: { cert: one.cert, key: two.key } }
  const answer = await call('POST', `/apps/${app.id}/routes`, body)
  assertCode(answer, 400, 'validation_error')
  assert.match(answer.text, /Certificate invalid: the private key does not match the certificate/)
  assert.doesNotMatch(answer.text, /PRIVATE KEY/)
  const duplicate = { type: 'http', service: 's', domain, tls_cert: one.cert, tls_key: one.key }
  await call('POST', `/apps/${app.id}/routes`, duplicate)
  assert.doesNotMatch((await call('POST', `/apps/${app.id}/routes`, duplicate)).text, /PRIVATE KEY/)
})

test('a provider is found by name and id, and its name is unique', async () => {
  const name = newName('provider')
  const provider = await controller.client.createProvider({ name, url: `http://${name}.discoverd/databases` })
  assert.equal((await controller.client.provider(name)).id, provider.id)
  assert.equal((await controller.client.provider(provider.id)).name, name)
  assertCode(await call('POST', '/providers', { name, url: 'http://other' }), 409, 'object_exists')
  assertCode(await call('POST', '/providers', { name: `${name}2`, url: provider.url }), 409, 'object_exists')
  assertField(await call('POST', '/providers', { name: '', url: 'http://x' }), 'name')
})

async function standInProvider(): Promise<string> {
  const name = newName('provider')
  await controller.client.createProvider({ name, url: `http://${standIn.addr}/databases?p=${name}` })
  return name
}

test('a resource is made by its provider, linked to apps by name, and removed again', async () => {
  const app = await newApp()
  const provider = await standInProvider()
  const resource = await controller.client.provisionResource(provider, { apps: [app.name] })
  assert.deepEqual(resource.apps, [app.id])
  assert.equal(resource.env?.['DATABASE_URL'], 'postgres://x')
  assert.equal(resource.external_id, '/databases/u:d')
  assert.equal((await controller.client.appResources(app.name))[0]?.id, resource.id)
  await controller.client.deleteResource(provider, resource.id)
  const last = standIn.requests.at(-1)
  assert.equal(last?.method, 'DELETE')
  assert.match(last?.url ?? '', /id=%2Fdatabases%2Fu%3Ad/)
  assertEmpty404(await call('GET', `/providers/${provider}/resources/${resource.id}`))
})

test('an unknown app is found out before the provider is asked', async () => {
  const provider = await standInProvider()
  const before = standIn.requests.length
  assertField(
    await call('POST', `/providers/${provider}/resources`, { apps: ['nope'], config: null }),
    'apps',
  )
  assert.equal(standIn.requests.length, before)
})

test('a provider that fails is named, and the call is not for repeating', async () => {
  const provider = await standInProvider()
  standIn.providerStatus = 500
  try {
    const answer = await call('POST', `/providers/${provider}/resources`, { config: null })
    assertCode(answer, 502, 'unknown_error')
    assert.match(answer.text, new RegExp(`provider ${provider} could not make a resource.*no room`))
  } finally {
    standIn.providerStatus = 200
  }
})

test('what a provider made is taken back when it cannot be stored', async () => {
  const provider = await standInProvider()
  const answer = standIn.providerAnswer
  standIn.providerAnswer = { id: 'unstorable', env: { TEXT: 'no text of a database: \u0000' } }
  const refused = await call('POST', `/providers/${provider}/resources`, { config: {} })
  standIn.providerAnswer = answer
  assert.notEqual(refused.status, 200)
  assert.deepEqual(
    [standIn.requests.at(-1)?.method, standIn.requests.at(-1)?.url.includes('id=unstorable')],
    ['DELETE', true],
  )
})

test('a resource that a provider gives twice is refused, and stays with whom it belongs to', async () => {
  const provider = await standInProvider()
  const resource = await controller.client.provisionResource(provider, {})
  const again = await call('POST', `/providers/${provider}/resources`, { config: {} })
  assertCode(again, 502, 'unknown_error')
  assert.equal(standIn.requests.at(-1)?.method, 'POST')
  assert.equal((await controller.client.resource(provider, resource.id)).id, resource.id)
})

test('unlinking an app leaves its other resources alone', async () => {
  const app = await newApp()
  const provider = await standInProvider()
  const ids = ['11111111-1111-4111-8111-111111111111', '22222222-2222-4222-8222-222222222222'] as const
  for (const id of ids) await controller.client.putResource(provider, id, { external_id: id, apps: [app.id] })
  const unlinked = await call('DELETE', `/providers/${provider}/resources/${ids[0]}/apps/${app.name}`)
  assert.equal(unlinked.status, 200)
  assert.deepEqual(
    (await controller.client.appResources(app.id)).map(r => r.id),
    [ids[1]],
  )
  const linked = await call('PUT', `/providers/${provider}/resources/${ids[0]}/apps/${app.id}`)
  assert.deepEqual((linked.json as { apps: unknown }).apps, [app.id])
})

test('a volume is recorded, changes state, and is decommissioned as a whole record', async () => {
  const app = await newApp()
  const id = '33333333-3333-4333-8333-333333333333'
  const volume = { id, host_id: 'hosta', type: 'data', state: 'pending', app: app.id, path: '/data' } as const
  await controller.client.putVolume(volume)
  await controller.client.putVolume({ ...volume, state: 'created' })
  assert.equal((await controller.client.appVolume(app.id, id)).state, 'created')
  const gone = await controller.client.decommissionVolume(app.name, volume)
  assert.ok(gone.decommissioned_at)
  assert.equal(gone.path, '/data')
  const unknown = { ...volume, id: '44444444-4444-4444-8444-444444444444' }
  assertEmpty404(await call('PUT', `/apps/${app.name}/volumes/${id}/decommission`, unknown))
})

test('the log of an app is asked for by id and passed on as lines or as events', async () => {
  const app = await newApp()
  const plain = await call(
    'GET',
    `/apps/${app.name}/log?lines=5&process_type=&stream_types=stdout`,
    undefined,
    {
      accept: '*/*',
    },
  )
  assert.equal(plain.type, 'text/plain')
  assert.equal(plain.text.split('\n').length, 3)
  assert.equal(standIn.requests.at(-1)?.url, `/log/${app.id}?lines=5&process_type=&stream_types=stdout`)
  const events = await call('GET', `/apps/${app.name}/log`, undefined, { accept: 'text/event-stream' })
  assert.equal(
    events.text,
    [
      'data: {"event":"message","data":{"msg":"one","timestamp":"2026-01-01T00:00:00Z"}}\n\n',
      'data: {"event":"message","data":{"msg":"two","timestamp":"2026-01-01T00:00:01Z"}}\n\n',
      'data: {"event":"eof"}\n\n',
    ].join(''),
  )
  assertField(await call('GET', `/apps/${app.name}/log?lines=10001`), 'lines')
  assertField(await call('GET', `/apps/${app.name}/log?lines=x`), 'lines')
})
