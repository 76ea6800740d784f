// The rules that hold for every endpoint of the controller: keys, redirects, bodies, codes, CORS, registration (contract
// controller.md 1.1-1.11), from outside, on a real PostgreSQL.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import {
  type Answer,
  assertCode,
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

test('a request without a key is a 401 with an empty body', async () => {
  const response = await fetch(`${controller.url}/apps`)
  assert.equal(response.status, 401)
  assert.equal(await response.text(), '')
  assert.equal(response.headers.get('content-type'), null)
})

test('the root path asks for a key, then is unknown', async () => {
  assert.equal((await fetch(`${controller.url}/`)).status, 401)
  const answer = await call('GET', '/')
  assert.equal(answer.status, 404)
  assert.equal(answer.text, '404 page not found\n')
})

test('every key of the list is accepted and the user name does not matter', async () => {
  assert.equal((await send(controller, 'GET', '/apps', { key: 'key-two' })).status, 200)
  const authorization = `Basic ${Buffer.from('somebody:key-one').toString('base64')}`
  assert.equal((await call('GET', '/apps', undefined, { authorization })).status, 200)
  assert.equal((await send(controller, 'GET', '/apps', { key: 'key-one,key-two' })).status, 401)
})

test('ping and the authority need no key, but a wrong key is refused', async () => {
  assert.equal((await fetch(`${controller.url}/ping`)).status, 200)
  const ca = await fetch(`${controller.url}/ca-cert`)
  assert.equal(ca.headers.get('content-type'), 'application/x-x509-ca-cert')
  assert.equal(await ca.text(), 'the authority')
  assert.equal((await send(controller, 'GET', '/ca-cert', { key: 'wrong' })).status, 401)
})

test('the process registers itself with its keys and the names of its job', async () => {
  const own = standIn.registered.find(r => r.service === 'controller')
  assert.equal(own?.instance.meta?.['AUTH_KEY'], 'key-one,key-two')
  assert.equal(own?.instance.meta?.['FLYNN_JOB_ID'], 'hosta-1')
})

test('status needs a key and reports health and a version', async () => {
  assert.equal((await fetch(`${controller.url}/.well-known/status`)).status, 401)
  const { data } = (await call('GET', '/.well-known/status')).json as { data: Record<string, string> }
  assert.equal(data['status'], 'healthy')
  assert.ok(data['version'])
})

test('JSON answers name their type without a charset', async () => {
  assert.equal((await call('GET', '/apps')).type, 'application/json')
  assert.equal((await call('POST', '/apps', { name: '?' })).type, 'application/json')
})

test('untidy paths are redirected', async () => {
  const get = await call('GET', '/apps/?x=1')
  assert.equal(get.status, 301)
  assert.equal(get.headers.get('location'), '/apps?x=1')
  assert.equal((await call('POST', '//apps', {})).status, 307)
})

test('a browser on another origin may ask first, without a key', async () => {
  const response = await fetch(`${controller.url}/apps`, {
    method: 'OPTIONS',
    headers: { origin: 'https://dashboard.test' },
  })
  assert.equal(response.status, 200)
  assert.equal(response.headers.get('access-control-allow-origin'), 'https://dashboard.test')
  const refused = await fetch(`${controller.url}/apps`, { headers: { origin: 'https://dashboard.test' } })
  assert.equal(refused.headers.get('access-control-allow-origin'), 'https://dashboard.test')
})

test('a body of another type is refused by naming the header', async () => {
  const answer = await call('POST', '/apps', '{}', { 'content-type': 'text/plain' })
  assertCode(answer, 400, 'validation_error')
  assert.equal((answer.json as { message: string }).message, 'Content-Type must be application/json')
})

test('broken, truncated and absent JSON are syntax errors', async () => {
  for (const body of ['{"name":', 'nope', ''])
    assertCode(await call('POST', '/apps', body), 400, 'syntax_error')
})

test('what cannot be stored is a 400, not a failure to repeat', async () => {
  assertCode(await call('POST', '/apps', { meta: { a: 'x\u0000y' } }), 400, 'validation_error')
})

test('a body that is too large is refused', async () => {
  // The length alone is enough; the answer comes before the body, so the body is not sent.
  const socket = connect({ host: '127.0.0.1', port: Number(new URL(controller.url).port) })
  const authorization = `Basic ${Buffer.from(`:${controller.key}`).toString('base64')}`
  socket.write(
    [
      'POST /apps HTTP/1.1',
      'Host: x',
      `Authorization: ${authorization}`,
      'Content-Type: application/json',
      `Content-Length: ${5 * 1024 * 1024}`,
      '\r\n',
    ].join('\r\n'),
  )
  let text = ''
  for await (const chunk of socket) {
    text += String(chunk)
    if (text.endsWith('}')) break
  }
  assert.match(text, /^HTTP\/1\.1 400 /)
  assert.match(text, /"code":"request_body_too_big"/)
})
