// Every endpoint of the controller with requests made from its own schema: valid, nearly valid and hostile. No 500, no
// call to repeat for ever, no crash, and an app that nobody named stays as it was. FUZZ_SEED replays a run,
// FUZZ_ROUNDS makes it longer.
import assert from 'node:assert/strict'
import { request as httpRequest } from 'node:http'
import { after, before, test } from 'node:test'
import { type Endpoint, endpoints } from '../../controller/web/endpoints.ts'
import { startController, type TestController } from '../fixtures/controller.ts'
import { Dice, type FuzzRequest, type Pool, requestTo } from '../fixtures/fuzz.ts'
import { createRelease } from '../fixtures/platform.ts'
import { type StandIn, startStandIn } from '../fixtures/stand-in-host.ts'

const seed = Number(process.env['FUZZ_SEED'] ?? Math.floor(Math.random() * 2 ** 31))
/** Requests to each endpoint. */
const rounds = Number(process.env['FUZZ_ROUNDS'] ?? 12)
const answerTimeoutMs = 20_000
const allowed = new Set([200, 301, 307, 400, 404, 409])

let controller: TestController
let standIn: StandIn
let pool: Pool
let witness: () => Promise<unknown>

before(async () => {
  standIn = await startStandIn()
  controller = await startController({
    env: {
      DISCOVERD: standIn.addr,
      EXTERNAL_IP: '127.0.0.1',
      LOGAGGREGATOR_URL: `http://${standIn.addr}`,
      DEFAULT_ROUTE_DOMAIN: 'fuzz.test',
    },
  })
  const { client } = controller
  const ids: string[] = []
  const apps: string[] = []
  const make = async (name: string) => {
    const app = await client.createApp({ name, meta: { mine: name } })
    const release = await createRelease(client, app, { web: {}, db: {} })
    await client.setAppRelease(app.id, release.id)
    await client.putFormation(app.id, release.id, { processes: { web: 1 } })
    const route = await client.createRoute(app.id, { type: 'http', service: name, domain: `${name}.example` })
    ids.push(release.id, route.id, ...(release.artifacts ?? []))
    return app
  }
  for (const name of ['one', 'two']) {
    const { id } = await make(name)
    apps.push(id, name)
    ids.push(id)
  }
  const provider = await client.createProvider({ name: 'maker', url: 'http://127.0.0.1:1/databases' })
  apps.push('maker', provider.id)
  const hidden = await make('witness')
  pool = { ids: [...ids, 'hosta-x', '1'], apps }
  witness = async () => ({
    app: await client.app(hidden.id),
    release: await client.appRelease(hidden.id),
    releases: await client.appReleases(hidden.id),
    formations: await client.formations(hidden.id),
    routes: await client.appRoutes(hidden.id),
  })
})
after(async () => {
  await controller?.stop()
  await standIn?.close()
})

type Outcome = { readonly status: number; readonly text: string }

/** Streams end when their headers have come. */
function send(request: FuzzRequest): Promise<Outcome> {
  const authorization = `Basic ${Buffer.from(`:${controller.key}`).toString('base64')}`
  const { method, path, headers, body } = request
  return new Promise((resolve, reject) => {
    const req = httpRequest(`${controller.url}/`, {
      method,
      path,
      headers: { ...headers, authorization, ...(body ? { 'content-length': body.length } : {}) },
      timeout: answerTimeoutMs,
    })
    req.once('timeout', () => req.destroy(new Error(`no answer within ${answerTimeoutMs} ms`)))
    req.once('error', reject)
    req.once('response', res => {
      const status = res.statusCode ?? 0
      if ((res.headers['content-type'] ?? '').includes('event-stream')) {
        resolve({ status, text: '' })
        req.destroy()
        return
      }
      let text = ''
      res.on('data', chunk => {
        text += String(chunk)
      })
      res.once('end', () => resolve({ status, text }))
      res.once('error', reject)
    })
    req.end(body)
  })
}

function problem(outcome: Outcome): string | undefined {
  if (allowed.has(outcome.status)) return undefined
  let error: { message?: string; retry?: boolean; remedy?: string } = {}
  try {
    error = JSON.parse(outcome.text) as typeof error
  } catch {
    return `status ${outcome.status} without JSON`
  }
  // A provider, host or log aggregator that does not answer is named, and the call is not to be repeated.
  const behind = outcome.status === 502 || outcome.status === 503
  return behind && error.remedy !== undefined && error.retry === false
    ? undefined
    : `status ${outcome.status}`
}

const shown = (r: FuzzRequest): string =>
  `${r.method} ${r.path.slice(0, 300)} ${JSON.stringify(r.headers)} ${r.body?.toString().slice(0, 600) ?? ''}`

/** A domain migration is one at a time and changes the cluster: its worker is not here. */
const tried = (endpoint: Endpoint): boolean => endpoint.path !== '/apps/:app/layers/:id'

test(`no request is answered with an error of the controller's own (FUZZ_SEED=${seed} FUZZ_ROUNDS=${rounds})`, async t => {
  const dice = new Dice(seed)
  const before = await witness()
  const seen = new Map<number, number>()
  for (let round = 0; round < rounds; round++)
    for (const endpoint of endpoints.filter(tried)) {
      const request = requestTo(endpoint, dice, pool)
      const outcome = await send(request).catch((e: unknown) =>
        assert.fail(`${String(e)}: ${shown(request)}`),
      )
      const wrong = problem(outcome)
      assert.equal(wrong, undefined, `${wrong}: ${shown(request)} -> ${outcome.text.slice(0, 300)}`)
      seen.set(outcome.status, (seen.get(outcome.status) ?? 0) + 1)
    }
  t.diagnostic([...seen].map(([status, n]) => `${status}: ${n}`).join(', '))
  assert.ok((seen.get(200) ?? 0) > 0 && (seen.get(400) ?? 0) > 0)
  assert.deepEqual(await witness(), before, 'an app that no request named was changed')
  assert.equal((await controller.client.status()).data.status, 'healthy')
})
