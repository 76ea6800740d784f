// What the controller's API has for the cluster as a whole, on a real PostgreSQL: sinks, audit log, figures, the OpenAPI
// document, identities, the end of deployments, limits (contract controller.md 1.3, 2.14, 7).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { AuditEntry, Deployment, Sink } from '../../controller/types.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import {
  type Answer,
  assertCode,
  assertEmpty404,
  assertField,
  call as send,
  startController,
  type TestController,
} from '../fixtures/controller.ts'
import { createRelease } from '../fixtures/platform.ts'

let controller: TestController
before(async () => {
  controller = await startController({ env: { AUTH_KEY_IDS: 'laptop,ci', DEFAULT_ROUTE_DOMAIN: 'old.test' } })
})
after(() => controller?.stop())

const call = (method: string, path: string, body?: unknown, key?: string): Promise<Answer> =>
  send(controller, method, path, { body, ...(key === undefined ? {} : { key }) })

const config = { url: 'syslog+tls://logs.example.test:6514', template: '{{.ID}}', format: 'newline' as const }

test('a sink is created, listed, read and deleted', async () => {
  const sink = await controller.client.createSink({ kind: 'syslog', config })
  assert.deepEqual(sink.config, config)
  assert.deepEqual((await call('GET', `/sinks/${sink.id}`)).json, sink)
  assert.ok((await controller.client.sinks()).some(s => s.id === sink.id))
  assert.equal((await controller.client.deleteSink(sink.id)).id, sink.id)
  assertEmpty404(await call('GET', `/sinks/${sink.id}`))
  assertEmpty404(await call('DELETE', `/sinks/${sink.id}`))
  const events = await controller.client.events({ objectId: sink.id })
  assert.deepEqual(events.map(e => e.object_type).reverse(), ['sink', 'sink_deletion'])
})

test('a sink of another kind, without an address or under a taken id is refused', async () => {
  assertField(await call('POST', '/sinks', { kind: 'logaggregator', config }), 'kind')
  assertField(await call('POST', '/sinks', { kind: 'syslog' }), 'config')
  assertField(await call('POST', '/sinks', { kind: 'syslog', config: { url: 'http://x' } }), 'config.url')
  assertField(await call('POST', '/sinks', { kind: 'syslog', config, id: 'x' }), 'id')
  const { id } = await controller.client.createSink({ id: uuid(), kind: 'syslog', config })
  assertCode(await call('POST', '/sinks', { kind: 'syslog', config, id }), 409, 'object_exists')
})

test('the stream of sinks tells what is stored, a border, then changes; a deletion comes without config', async () => {
  const stored = await controller.client.createSink({ kind: 'syslog', config })
  const stop = new AbortController()
  const told: (readonly [string, string])[] = []
  const stream = controller.client.streamSinks({ signal: stop.signal })
  for await (const change of stream) {
    if (change.kind === 'current') {
      told.push(['current', ''])
      await controller.client.deleteSink(stored.id)
      continue
    }
    // Around the border a change may be told twice (controller/README.md).
    const again = change.kind === 'sink' && told.length > 0
    if (change.sink.id === stored.id && !again) told.push([change.kind, change.sink.id])
    if (change.kind === 'removed') break
  }
  stop.abort()
  assert.deepEqual(told, [
    ['sink', stored.id],
    ['current', ''],
    ['removed', stored.id],
  ])
})

test('each mutating call is in the audit log with who, what, from where and its result', async () => {
  const app = await controller.client.createApp({ name: 'audited' })
  await call('POST', '/releases', { app_id: app.id, env: { SECRET: 'hunter2' } }, 'key-two')
  await call('PUT', '/apps/audited/release', { id: uuid() }, 'key-two')
  const entries = await controller.client.auditLog({ app: 'audited' })
  const [failed] = entries
  assert.equal(failed?.actor, 'ci')
  assert.equal(failed?.status, 400)
  assert.match(failed?.error ?? '', /could not find release/)
  assert.equal(failed?.address, '127.0.0.1')
  const all = await controller.client.auditLog({ actor: 'ci', result: 'ok' })
  const release = all.find(e => e.path === '/releases')
  assert.deepEqual((release?.body as { env: unknown } | undefined)?.env, { SECRET: '[redacted]' })
  assert.ok(!JSON.stringify(all).includes('hunter2'))
  const created = (await controller.client.auditLog({ actor: 'laptop' })).find(e => e.path === '/apps')
  assert.equal((created?.body as { name: string } | undefined)?.name, 'audited')
})

test('reading is not recorded, strangers are not, and reports of the scheduler are set apart', async () => {
  await call('GET', '/apps/audited')
  assert.equal((await call('POST', '/apps', { name: 'stranger' }, 'wrong')).status, 401)
  const id = uuid()
  await controller.client.putVolume({ id, host_id: 'h', type: 'data', state: 'created' })
  const path = `/volumes/${id}`
  const plain = await controller.client.auditLog({ count: 1000 })
  assert.ok(plain.every(e => e.method !== 'GET' && e.path !== path))
  assert.ok(!JSON.stringify(plain).includes('stranger'))
  const reports = await controller.client.auditLog({ reports: true, count: 1000 })
  assert.equal(reports.find(e => e.path === path)?.report, true)
})

test('the audit log is paged and filtered, and wrong filters are refused', async () => {
  for (const name of ['page-1', 'page-2', 'page-3']) await controller.client.createApp({ name })
  const [newest] = await controller.client.auditLog({ count: 1 })
  const [older] = await controller.client.auditLog({ count: 1, beforeId: newest?.id ?? 0 })
  assert.ok((older?.id ?? 0) < (newest?.id ?? 0))
  const since = newest?.created_at ?? ''
  assert.deepEqual(await controller.client.auditLog({ until: since, since }), [])
  const posts = (await call('GET', '/audit-log?method=post&result=ok')).json as AuditEntry[]
  assert.ok(posts.length > 0 && posts.every(e => e.method === 'POST' && e.status < 400))
  assertField(await call('GET', '/audit-log?count=0'), 'count')
  assertField(await call('GET', '/audit-log?result=maybe'), 'result')
  assertField(await call('GET', '/audit-log?until=yesterday'), 'until')
})

test('figures are text that Prometheus reads', async () => {
  const answer = await call('GET', '/metrics')
  assert.equal(answer.type, 'text/plain; version=0.0.4; charset=utf-8')
  assert.match(
    answer.text,
    /^flynn_controller_http_requests_total\{method="POST",route="\/apps",status="200"\} \d+$/m,
  )
  assert.match(answer.text, /^flynn_controller_database_connections \d+$/m)
  for (const line of answer.text.trim().split('\n'))
    assert.match(line, /^(# (HELP|TYPE) \w+ .+|\w+(\{.*\})? [-+.\deInfNa]+)$/)
})

test('the OpenAPI document names every body by the schema that it is checked against', async () => {
  const document = (await controller.client.openapi()) as {
    openapi: string
    paths: Record<string, Record<string, { requestBody?: { content: Record<string, { schema: unknown }> } }>>
  }
  assert.equal(document.openapi, '3.1.0')
  const body = document.paths['/sinks']?.['post']?.requestBody?.content['application/json']?.schema
  assert.deepEqual((body as { required: string[] }).required, ['kind', 'config'])
  assert.ok(document.paths['/apps/{app}/routes/{type}/{id}']?.['put'])
})

test('status answers under both names', async () => {
  for (const path of ['/status', '/.well-known/status'])
    assert.equal(((await call('GET', path)).json as { data: { status: string } }).data.status, 'healthy')
})

test('a waiting deployment takes a request for its end, a finished one does not', async () => {
  const { client } = controller
  const app = await client.createApp({ name: 'cancels' })
  const [old, next] = [
    await createRelease(client, app, { web: {} }),
    await createRelease(client, app, { web: {} }),
  ]
  const done = await client.createDeployment(app.id, old.id)
  assertCode(await call('POST', `/deployments/${done.id}/cancel`), 400, 'validation_error')
  await client.putFormation(app.id, old.id, { processes: { web: 1 } })
  const waiting = await client.createDeployment(app.id, next.id)
  const cancelled = (await call('POST', `/deployments/${waiting.id}/cancel`)).json as Deployment
  assert.ok(cancelled.cancelled_at)
  const again = await client.cancelDeployment(waiting.id)
  assert.equal(again.cancelled_at, cancelled.cancelled_at)
  assertEmpty404(await call('POST', `/deployments/${uuid()}/cancel`))
})

test('the domain is moved from where it is, once at a time, and no private key is shown', async () => {
  const wrong = await call('PUT', '/domain', { old_domain: 'other.test', domain: 'new.test' })
  assertCode(wrong, 400, 'validation_error')
  assertField(await call('PUT', '/domain', { old_domain: 'old.test', domain: 'old.test' }), 'domain')
  assertField(await call('PUT', '/domain', { old_domain: 'old.test', domain: 'a b' }), 'domain')
  const half = { old_domain: 'old.test', domain: 'new.test', tls_cert: { cert: 'x', key: 'y' } }
  assertCode(await call('PUT', '/domain', half), 400, 'validation_error')
  const answer = await call('PUT', '/domain', { old_domain: 'old.test', domain: 'new.test' })
  assert.equal(answer.status, 200, answer.text)
  assert.equal((answer.json as { domain: string }).domain, 'new.test')
  const second = await call('PUT', '/domain', { old_domain: 'old.test', domain: 'third.test' })
  assertCode(second, 409, 'conflict')
})

test('a body over the limit is refused', async () => {
  const answer = await call('POST', '/apps', { name: 'big', meta: { x: 'y'.repeat(5 * 1024 * 1024) } })
  assertCode(answer, 400, 'request_body_too_big')
})

test('sinks are listed newest change first', async () => {
  const made: Sink[] = []
  for (let i = 0; i < 3; i++) made.push(await controller.client.createSink({ kind: 'syslog', config }))
  const ids = (await controller.client.sinks()).map(s => s.id).slice(0, 3)
  assert.deepEqual(ids, made.map(s => s.id).reverse())
})
