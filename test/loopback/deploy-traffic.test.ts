// No request fails because of a deploy or a scale: clients through two real routers all the while, with slow answers under
// way when old jobs are told to stop; upgraded and TCP connections count as well (contract controller.md 4.6, 4.7).
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { request } from 'node:http'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import type { App, ProcessType, Release } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import {
  createRelease,
  httpProcess,
  type Platform,
  patienceMs,
  scaleTo,
  startPlatform,
  uniqueName,
  upJobs,
} from '../fixtures/platform.ts'
import { freePort } from '../fixtures/ports.ts'
import { type RouterProcess, startRouterProcess } from '../fixtures/router-process.ts'

const clients = 8
const answerMs = 80

let platform: Platform
let routers: readonly [RouterProcess, RouterProcess]
let tcpPort: number

before(async () => {
  platform = await startPlatform(79)
  tcpPort = await freePort()
  const ports = { http: await freePort(), https: await freePort(), api: await freePort(), tcp: tcpPort }
  const router = (ip: string) => startRouterProcess({ ip, ports, discoverd: platform.discoverd.url })
  routers = [await router(`${platform.net}.11`), await router(`${platform.net}.12`)]
  await platform.startScheduler()
  await platform.startWorker()
  const known = async () =>
    (await platform.discoverd.client.instances('router-api')).length === routers.length
  await poll(known, { timeoutMs: patienceMs, what: 'the routers' })
})
after(async () => {
  for (const router of routers ?? []) await router.stop()
  await platform?.remove()
})

/** A web server that takes its time to answer, and ends in the middle of answers when it is told to stop. */
function slowProcess(service: string, text: string): ProcessType {
  const code = `require('http').createServer((q, r) => setTimeout(() => r.end(${JSON.stringify(text)}), ${answerMs}))
    .listen(process.env.PORT, process.env.EXTERNAL_IP); process.on('SIGTERM', () => process.exit(0))`
  return { ...httpProcess(service, text), args: [process.execPath, '-e', code] }
}

let asked = 0

/** Of each router in turn. */
function get(domain: string): Promise<string> {
  const { ip, ports } = routers[asked++ % 2 === 0 ? 0 : 1]
  return new Promise((resolve, reject) => {
    const req = request({ host: ip, port: ports.http, agent: false, headers: { host: domain } }, res => {
      let body = ''
      res.on('data', chunk => {
        body += String(chunk)
      })
      res.on('end', () =>
        res.statusCode === 200 ? resolve(body) : reject(new Error(`HTTP ${res.statusCode}`)),
      )
    })
    req.on('error', reject)
    req.end()
  })
}

/** Asks without a pause from several clients until ended. */
function load(domain: string): {
  readonly end: () => Promise<{ count: number; failures: string[]; texts: Set<string> }>
} {
  const seen = { count: 0, failures: [] as string[], texts: new Set<string>() }
  let going = true
  const client = async (): Promise<void> => {
    while (going)
      try {
        seen.texts.add(await get(domain))
        seen.count++
      } catch (e) {
        seen.failures.push(String(e))
      }
  }
  const all = Promise.all(Array.from({ length: clients }, client))
  return {
    async end() {
      going = false
      await all
      return seen
    },
  }
}

async function routedApp(strategy: 'one-by-one' | 'all-at-once', count: number) {
  const { client } = platform
  const service = uniqueName('slow')
  const domain = `${service}.example.com`
  const app = await client.createApp({ name: uniqueName('slow'), strategy, deploy_timeout: 60 })
  const release = await createRelease(client, app, { web: slowProcess(service, 'old') })
  await client.setAppRelease(app.id, release.id)
  await client.createRoute(app.id, { type: 'http', domain, service, drain_backends: true })
  await scaleTo(client, app, release, { web: count })
  for (const { ip } of routers)
    await poll(() => get(domain), { timeoutMs: patienceMs, what: `the app behind both routers, also ${ip}` })
  return { app, release, service, domain }
}

async function finished(app: App, release: Release): Promise<void> {
  const { client } = platform
  const deployment = await client.createDeployment(app.id, release.id)
  const stop = AbortSignal.timeout(patienceMs)
  for await (const event of client.streamDeployment(deployment, { signal: stop })) {
    if (event.data.status === 'failed') throw new Error(event.data.error)
    if (event.data.status === 'complete') return
  }
}

for (const strategy of ['one-by-one', 'all-at-once'] as const)
  test(`no request fails during a deploy ${strategy}`, async () => {
    const { client } = platform
    const { app, release, service, domain } = await routedApp(strategy, 2)
    const requests = load(domain)
    const fresh = await createRelease(client, app, { web: slowProcess(service, 'new') })
    await finished(app, fresh)
    await poll(async () => (await upJobs(client, app, release)).length === 0, {
      timeoutMs: patienceMs,
      what: 'the old jobs to be stopped',
    })
    const { count, failures, texts } = await requests.end()
    assert.deepEqual(failures, [])
    assert.ok(count > 20, `only ${count} requests`)
    assert.deepEqual(texts, new Set(['old', 'new']))
  })

test('no request fails while an app is scaled down and up', async () => {
  const { client } = platform
  const { app, release, domain } = await routedApp('one-by-one', 3)
  const requests = load(domain)
  for (const count of [1, 3, 1]) await scaleTo(client, app, release, { web: count })
  await poll(async () => (await client.activeJobs()).filter(j => j.app === app.id).length === 1, {
    timeoutMs: patienceMs,
    what: 'the surplus jobs to be gone',
  })
  assert.deepEqual((await requests.end()).failures, [])
})

/** Echoes what comes on upgraded connections, and what follows PING on connections without HTTP; tells its pid. */
function echoProcess(service: string): ProcessType {
  const code = `const http = require('http').createServer((q, r) => r.end(String(process.pid)))
    http.on('upgrade', (q, s) => { s.on('error', () => {}); s.write('HTTP/1.1 101 Switching Protocols\\r\\nConnection: Upgrade\\r\\nUpgrade: echo\\r\\n\\r\\n'); s.pipe(s) })
    require('net').createServer(s => s.once('readable', () => {
      s.on('error', () => {}); const first = s.read(); if (first === null) return s.destroy()
      s.unshift(first); if (first[0] === 80) s.pipe(s); else http.emit('connection', s)
    })).listen(process.env.PORT, process.env.EXTERNAL_IP)
    process.on('SIGTERM', () => process.exit(0))`
  return { ...httpProcess(service, ''), args: [process.execPath, '-e', code] }
}

/** A connection that has sent `first` and got an answer with `wanted` in it. */
async function conversation(ip: string, port: number, first: string, wanted: RegExp): Promise<Socket> {
  const socket = connect(port, ip)
  socket.setEncoding('latin1')
  await once(socket, 'connect')
  await say(socket, first, wanted)
  return socket
}

async function say(socket: Socket, text: string, wanted: RegExp): Promise<void> {
  let heard = ''
  const listen = (chunk: string) => {
    heard += chunk
  }
  socket.on('data', listen)
  socket.write(text)
  const answered = () => {
    if (socket.destroyed) throw new Error(`closed after "${heard}"`)
    return wanted.test(heard)
  }
  try {
    await poll(answered, { timeoutMs: 5_000, intervalMs: 10, what: `${wanted} in "${heard}"` })
  } finally {
    socket.off('data', listen)
  }
}

test('a job is told to stop only when every router has none of its connections left, upgraded and TCP ones too', async () => {
  const { client } = platform
  const service = uniqueName('echo')
  const domain = `${service}.example.com`
  const app = await client.createApp({ name: uniqueName('echo'), deploy_timeout: 60 })
  const release = await createRelease(client, app, { web: echoProcess(service) })
  await client.setAppRelease(app.id, release.id)
  await client.createRoute(app.id, { type: 'http', domain, service, drain_backends: true })
  await client.createRoute(app.id, { type: 'tcp', port: tcpPort, service, drain_backends: true })
  await scaleTo(client, app, release, { web: 1 })
  for (const { ip } of routers)
    await poll(() => get(domain), { timeoutMs: patienceMs, what: `the app behind both routers, also ${ip}` })

  // One connection of each kind, each through one router only.
  const [first, second] = routers
  const head = `GET / HTTP/1.1\r\nHost: ${domain}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`
  const tcp = await conversation(first.ip, tcpPort, 'PING one', /PING one/)
  const upgraded = await conversation(second.ip, second.ports.http, head, /101 Switching/)
  await client.createScale(app.id, release.id, { new_processes: { web: 0 } })
  const refused = async () => {
    await get(domain)
    await get(domain)
    return false
  }
  const unserved = () => refused().catch(() => true)
  await poll(unserved, { timeoutMs: patienceMs, what: 'the job to take nothing new' })
  await say(tcp, 'PING two', /PING two/)
  tcp.destroy()
  await say(upgraded, 'still here', /still here/)
  await say(upgraded, 'and still', /and still/)
  upgraded.destroy()
  const gone = async () => (await client.activeJobs()).every(j => j.app !== app.id)
  await poll(gone, { timeoutMs: patienceMs, what: 'the job to be stopped' })
})
