// Automatic certificates from a real authority (Pebble) through two real routers: HTTP-01 is asked of HAProxy. Real
// controller, worker, PostgreSQL and discoverd (contract router.md 7).
import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { after, before, test } from 'node:test'
import { connect } from 'node:tls'
import pg from 'pg'
import type { App, ManagedCertificate, Route, RouteInput } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { clientConfig, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import { createClusterCertificate } from '../../pkg/tls/certificate.ts'
import { assertField, call } from '../fixtures/controller.ts'
import { type Pebble, startPebble } from '../fixtures/pebble.ts'
import { type Platform, startPlatform, type TestProcess } from '../fixtures/platform.ts'
import { freePort } from '../fixtures/ports.ts'
import { exchange } from '../fixtures/router.ts'
import { type RouterProcess, startRouterProcess } from '../fixtures/router-process.ts'

const deadlineMs = 40_000

let platform: Platform
let worker: TestProcess
let trial: Pebble
let authority: Pebble
let routers: readonly [RouterProcess, RouterProcess]
let app: App

const startWorker = () => platform.startWorker({ NODE_EXTRA_CA_CERTS: authority.caFile })
const put = (path: string, body: unknown) => call(platform.controller, 'PUT', path, { body })
const addRoute = (input: RouteInput) =>
  call(platform.controller, 'POST', `/apps/${app.id}/routes`, {
    body: { type: 'http', service: 'web', ...input },
  })
const auto = (domain: string, over: RouteInput = {}) =>
  addRoute({ domain, managed_certificate_domain: domain, ...over })

async function managed(domain: string): Promise<ManagedCertificate | undefined> {
  const { json } = await call(platform.controller, 'GET', '/managed-certificates')
  return (json as readonly ManagedCertificate[]).find(m => m.domain === domain)
}

function settled(domain: string, status: ManagedCertificate['status']): Promise<ManagedCertificate> {
  return poll(
    async () => {
      const one = await managed(domain)
      return one?.status === status ? one : undefined
    },
    {
      timeoutMs: deadlineMs,
      what: `${domain} to be ${status}; the worker says ${worker.log().slice(-2_000)}`,
    },
  )
}

/** The certificate that a router gives to a name. */
function served(router: RouterProcess, domain: string): Promise<X509Certificate> {
  return new Promise((resolve, reject) => {
    const socket = connect(
      { host: router.ip, port: router.ports.https, servername: domain, rejectUnauthorized: false },
      () => {
        const found = socket.getPeerX509Certificate()
        socket.destroy()
        if (found) resolve(found)
        else reject(new Error('no certificate'))
      },
    )
    socket.once('error', reject)
  })
}

const isFor = (domain: string) => (certificate: X509Certificate) =>
  certificate.checkHost(domain) !== undefined

/** Waits until every router gives the name a certificate that is right, and answers that of the first. */
async function servedByAll(domain: string, right = isFor(domain)): Promise<X509Certificate> {
  const all = async () => {
    const found = await Promise.all(routers.map(r => served(r, domain)))
    return found.every(right) ? found[0] : undefined
  }
  return await poll(all, { timeoutMs: deadlineMs, what: `${domain} to be served with its certificate` })
}

before(async () => {
  platform = await startPlatform(86)
  const ports = {
    http: await freePort(),
    https: await freePort(),
    api: await freePort(),
    tcp: await freePort(),
  }
  authority = await startPebble(`${platform.net}.5`, ports.http)
  trial = await startPebble(`${platform.net}.6`, ports.http)
  const router = (ip: string) => startRouterProcess({ ip, ports, discoverd: platform.discoverd.url })
  routers = [await router(`${platform.net}.11`), await router(`${platform.net}.12`)]
  app = await platform.client.createApp({ name: 'shop' })
  worker = await startWorker()
})
after(async () => {
  await worker?.kill()
  for (const router of routers ?? []) await router.stop()
  await trial?.stop()
  await authority?.stop()
  await platform?.remove()
})

test('nothing is automatic before an operator has said where to, and agreed to the terms', async () => {
  const refused = await auto('early.example.com')
  assert.equal(refused.status, 400)
  assert.match(refused.text, /flynn-host acme configure/)
  assertField(await put('/acme/config', { enabled: true }), 'contact_email')
  assertField(await put('/acme/config', { contact_email: 'no address' }), 'contact_email')
  assertField(await put('/acme/config', { directory_url: 'http://127.0.0.1/' }), 'directory_url')
  const email = 'ops@example.com'
  assertField(await put('/acme/config', { enabled: true, contact_email: email }), 'terms_of_service_agreed')
  const config = await put('/acme/config', {
    enabled: true,
    contact_email: email,
    terms_of_service_agreed: true,
    directory_url: authority.directoryUrl,
  })
  assert.equal(config.status, 200, config.text)
  assert.doesNotMatch(config.text, /PRIVATE/)
  assert.equal((config.json as { has_account_key: boolean }).has_account_key, true)
})

test('a domain that can have no automatic certificate is refused', async () => {
  for (const domain of ['*.example.com', '*', 'localhost', '10.0.0.1'])
    assertField(await auto(domain), 'managed_certificate_domain')
  assertField(
    await addRoute({ domain: 'a.example.com', managed_certificate_domain: 'b.example.com' }),
    'managed_certificate_domain',
  )
})

test('a route gets its certificate, whichever router the authority asks', async () => {
  for (const [n, router] of routers.entries()) {
    const domain = `router${n}.example.com`
    await authority.point(domain, router.ip)
    const made = await auto(domain)
    assert.equal(made.status, 200, made.text)
    const certificate = await servedByAll(domain)
    assert.match(certificate.issuer, /Pebble/)
    const told = await settled(domain, 'issued')
    assert.equal(told.route_id, (made.json as Route).id)
    assert.equal(Date.parse(told.expires_at ?? ''), certificate.validToDate.getTime())
    const life = certificate.validToDate.getTime() - certificate.validFromDate.getTime()
    const renewal = (Date.parse(told.next_attempt_at ?? '') - certificate.validFromDate.getTime()) / life
    assert.ok(renewal > 0.58 && renewal < 0.67, `renewed after ${renewal} of its life`)
  }
})

test('a second route of a domain shares the certificate, and keeps it when the first is gone', async () => {
  const domain = 'shared.example.com'
  await authority.point(domain, routers[0].ip)
  const first = (await auto(domain)).json as Route
  const { serialNumber } = await servedByAll(domain)
  const second = (await auto(domain, { path: '/api', service: 'api' })).json as Route
  assert.equal(new X509Certificate(second.certificate?.cert ?? '').serialNumber, serialNumber)
  await platform.client.deleteRoute(app.id, `http/${second.id}`)
  assert.equal((await managed(domain))?.route_id, first.id)
  await platform.client.deleteRoute(app.id, `http/${first.id}`)
  assert.equal(await managed(domain), undefined)
})

test('what all routers counted of a route is one figure', async () => {
  const route = (await addRoute({ domain: 'counted.example.com', service: 'none' })).json as Route
  const ask = (router: RouterProcess) =>
    exchange(router.ports.http, 'GET / HTTP/1.1\r\nHost: counted.example.com\r\n\r\n', /\r\n\r\n/, router.ip)
  for (const router of routers) {
    const served = async () => /^HTTP\/1.1 503/.test(await ask(router))
    await poll(served, { timeoutMs: deadlineMs, what: `the route on ${router.ip}` })
    for (let n = 0; n < 3; n++) await ask(router)
  }
  const counted = async () => {
    const all = await platform.client.routeTraffic(app.id)
    const one = all.find(t => t.route_id === route.id)
    return one && one.requests >= 8 ? one : undefined
  }
  const traffic = await poll(counted, { timeoutMs: deadlineMs, what: 'the figures' })
  assert.equal(traffic.routers, routers.length)
  assert.equal(traffic.error_rate, 1)
  assert.ok(traffic.requests_per_second > 0 && traffic.p99_ms >= 0)
})

test('a name that leads elsewhere fails alone, tells why, and is tried again when somebody asks', async () => {
  const domain = 'lost.example.com'
  // Nobody listens there.
  await authority.point(domain, `${platform.net}.99`)
  const route = (await auto(domain)).json as Route
  const failed = await settled(domain, 'failed')
  assert.match(failed.last_error ?? '', new RegExp(`${platform.net}.99`.replaceAll('.', '\\.')))
  const waits = Date.parse(failed.next_attempt_at ?? '') - Date.parse(failed.last_error_at ?? '')
  assert.ok(waits >= 299_000 && waits < 400_000, `tried again after ${waits} ms`)
  const other = 'fine.example.com'
  await authority.point(other, routers[1].ip)
  await auto(other)
  await servedByAll(other)

  await authority.point(domain, routers[0].ip)
  await platform.client.updateRoute(app.id, `http/${route.id}`, {
    ...route,
    managed_certificate_domain: domain,
  })
  await servedByAll(domain)
  assert.equal((await settled(domain, 'issued')).last_error, undefined)
})

test('a certificate is renewed when its time has come, by a worker that starts then', async () => {
  const domain = 'router0.example.com'
  const { serialNumber } = await servedByAll(domain)
  await worker.kill('SIGKILL')
  const database = new pg.Client(clientConfig(pgOptionsFromEnv(platform.controller.databaseEnv, 'test')))
  await database.connect()
  await database.query('UPDATE managed_certificates SET next_attempt_at = now() WHERE domain = $1', [domain])
  await database.end()
  worker = await startWorker()
  await servedByAll(domain, c => isFor(domain)(c) && c.serialNumber !== serialNumber)
  await settled(domain, 'issued')
})

test('another authority issues everything anew: from trial to real', async () => {
  const domain = 'router1.example.com'
  for (const n of [0, 1]) await trial.point(`router${n}.example.com`, routers[n as 0 | 1].ip)
  await trial.point('fine.example.com', routers[0].ip)
  await trial.point('lost.example.com', routers[0].ip)
  await worker.kill()
  const { caFile } = trial
  worker = await platform.startWorker({ NODE_EXTRA_CA_CERTS: caFile })
  const root = new X509Certificate(await trial.root())
  const before = await servedByAll(domain)
  await put('/acme/config', { directory_url: trial.directoryUrl })
  const now = await servedByAll(domain, c => c.serialNumber !== before.serialNumber)
  assert.notEqual(now.issuer, before.issuer)
  assert.match(root.subject, /Pebble Root/)
})

test('a certificate of one’s own takes the place of the automatic one, and an empty domain turns it off', async () => {
  const own = await createClusterCertificate(['router1.example.com'], new Date())
  const [replaced, domain] = ['router1.example.com', 'router0.example.com']
  const routes = await platform.client.appRoutes(app.id)
  const [route, other] = [domain, replaced].map(name => routes.find(r => r.domain === name))
  assert.ok(route && other)
  const pair = { tls_cert: own.cert, tls_key: own.private_key }
  const both = { ...other, ...pair, managed_certificate_domain: replaced }
  assertField(await put(`/apps/${app.id}/routes/http/${other.id}`, both), 'managed_certificate_domain')
  const { managed_certificate_domain: _domain, ...unnamed } = other
  await platform.client.updateRoute(app.id, `http/${other.id}`, { ...unnamed, ...pair })
  await servedByAll(replaced, c => c.raw.equals(new X509Certificate(own.cert).raw))
  assert.equal(await managed(replaced), undefined)
  const { certificate: _certificate, ...rest } = route
  const cleared = await platform.client.updateRoute(app.id, `http/${route.id}`, {
    ...rest,
    managed_certificate_domain: '',
  })
  assert.equal(cleared.managed_certificate_domain, undefined)
  assert.equal(cleared.certificate, undefined)
  assert.equal(await managed(domain), undefined)
  await servedByAll(domain, c => !isFor(domain)(c))
})
