// The router's control process: it serves from its snapshot while the control plane is away, takes over after its own
// death, counts, and sends access lines to the log aggregator. Real HAProxy, real log aggregator.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { createAggregator } from '../../logaggregator/aggregator.ts'
import { listenSyslog } from '../../logaggregator/ingest.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { AppLog, lineBurstMax } from '../../router/app-log.ts'
import { RouterClient } from '../../router/client.ts'
import { renderSnapshot } from '../../router/snapshot.ts'
import { type KeptHaproxy, keepHaproxy } from '../fixtures/haproxy.ts'
import { freePort } from '../fixtures/ports.ts'
import { type Backend, deadlineMs, exchange, http, startBackend, tableOf } from '../fixtures/router.ts'

const main = fileURLToPath(new URL('../../router/main.ts', import.meta.url))
const app = 'aaaaaaaa-0000-4000-8000-000000000001'

let dir: string
let haproxy: KeptHaproxy
let web: Backend
let control: ChildProcess
let api: RouterClient
let ports: { readonly http: number; readonly https: number; readonly api: number; readonly tcp: number }

/** With a discoverd that does not answer. */
async function startControl(): Promise<ChildProcess> {
  const flags = {
    'http-port': ports.http,
    'https-port': ports.https,
    'api-port': ports.api,
    'tcp-range-start': ports.tcp,
    'tcp-range-end': ports.tcp,
  }
  return spawn(
    process.execPath,
    [main, ...Object.entries(flags).flatMap(([k, v]) => [`--${k}`, String(v)])],
    {
      env: {
        PATH: process.env['PATH'],
        DISCOVERD: `http://127.0.0.1:${await freePort()}`,
        EXTERNAL_IP: '127.0.0.1',
        LISTEN_IP: '127.0.0.1',
        ROUTER_DIR: dir,
        ROUTER_STATE_DIR: dir,
        COOKIE_KEY: Buffer.alloc(32, 1).toString('base64'),
        LOG_LEVEL: 'fatal',
      },
      stdio: ['ignore', 'inherit', 'inherit'],
    },
  )
}

async function stopControl(signal: NodeJS.Signals): Promise<void> {
  const ended = new Promise(resolve => control.once('exit', resolve))
  control.kill(signal)
  await ended
}

const ask = (path = '/') => exchange(ports.http, `GET ${path} HTTP/1.1\r\nHost: s.test\r\n\r\n`, /\r\n\r\n/)
const served = () =>
  poll(async () => /200 OK/.test(await ask().catch(() => '')), { timeoutMs: deadlineMs, what: 'the route' })
const apiServes = () =>
  poll(
    () =>
      api.routeStats().then(
        () => true,
        () => false,
      ),
    { timeoutMs: deadlineMs, what: 'the API' },
  )

before(async () => {
  dir = await mkdtemp('/var/tmp/flynn-router-')
  ports = { http: await freePort(), https: await freePort(), api: await freePort(), tcp: await freePort() }
  api = new RouterClient(`http://127.0.0.1:${ports.api}`)
  web = await startBackend('web')
  const route = http('s.test', { id: 'route-s', parent_ref: `controller/apps/${app}` })
  await writeFile(join(dir, 'table.json'), renderSnapshot(tableOf([route], { web: [web.addr] })))
  haproxy = keepHaproxy(dir)
  control = await startControl()
})
after(async () => {
  await stopControl('SIGTERM')
  await haproxy.stop()
  web.stop()
  await rm(dir, { recursive: true, force: true })
})

test('a router that starts while the control plane is away serves its last table', async () => {
  await served()
})

test('requests are counted by route for people and for Prometheus', async () => {
  await apiServes()
  for (let n = 0; n < 10; n++) await ask(`/${n}`)
  const stats = await poll(
    async () => {
      const [one] = await api.routeStats()
      return one && one.requests >= 10 ? one : undefined
    },
    { timeoutMs: deadlineMs, what: 'the counts' },
  )
  assert.equal(stats.id, 'route-s')
  assert.equal(stats.address, 's.test/')
  assert.equal(stats.error_rate, 0)
  assert.ok(stats.requests_per_second > 0)
  const text = await (await fetch(`http://127.0.0.1:${ports.api}/metrics`)).text()
  assert.match(
    text,
    /flynn_router_requests_total\{route="route-s",service="web",address="s.test\/",class="2xx"\} \d\d/,
  )
  assert.match(
    text,
    new RegExp(`flynn_router_backend_requests_total\\{service="web",addr="${web.addr}"\\} \\d\\d`),
  )
})

test('requests are served while the control process is killed and started again', async () => {
  await stopControl('SIGKILL')
  for (let n = 0; n < 20; n++) assert.match(await ask(), /200 OK/)
  control = await startControl()
  await sleep(500)
  await apiServes()
  for (let n = 0; n < 20; n++) assert.match(await ask(), /200 OK/)
})

test('an app finds its requests in its log, and a flood is told in a number', async () => {
  const aggregator = createAggregator()
  const server = await listenSyslog({ host: '127.0.0.1', port: 0, aggregator, log: silentLogger() })
  const stop = new AbortController()
  const appLog = new AppLog({
    aggregator: async () => `127.0.0.1:${server.port}`,
    log: silentLogger(),
    signal: stop.signal,
    hostname: 'router-1',
    job: 'host-1',
  })
  const running = appLog.run()
  const at = Date.now()
  await poll(() => appLog.admits(app, at), { timeoutMs: deadlineMs, what: 'the connection' })
  appLog.send(app, at, 'the first line')
  let sent = 1
  while (appLog.admits(app, at)) {
    appLog.send(app, at, `line ${sent}`)
    sent++
  }
  assert.ok(sent <= lineBurstMax)
  for (let n = 0; n < 99; n++) assert.equal(appLog.admits(app, at), false)
  assert.ok(appLog.admits(app, at + 1_000))
  appLog.send(app, at + 1_000, 'after the flood')
  const texts = await poll(
    () => {
      const lines = aggregator.read(app).map(e => e.text)
      return lines.some(l => l.endsWith('after the flood')) ? lines : undefined
    },
    { timeoutMs: deadlineMs, what: 'the lines' },
  )
  assert.match(
    texts[0] ?? '',
    / router-1 aaaaaaaa-0000-4000-8000-000000000001 router\.host-1 ID1 .*(first line|more requests)/,
  )
  assert.ok(texts.some(l => /\d+ more requests, not shown/.test(l)))
  stop.abort()
  await running
  await server.close()
})
