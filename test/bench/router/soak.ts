// A long run without a failed request: a router under load while its backends come and go, HAProxy reads its files anew
// and the control process is ended and started. A backend is closed as soon as the router says that it is drained, so a
// request that came later would fail. `node test/bench/router/soak.ts [--cycles 1000] [--reloads 10] [--restarts 10]`.
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { poll, sleep } from '../../../pkg/clock/clock.ts'
import { HttpClient } from '../../../pkg/http/client.ts'
import { run } from '../../../pkg/proc/run.ts'
import type { RouterEvent } from '../../../router/types.ts'
import { type Platform, startPlatform } from '../../fixtures/platform.ts'
import { freePort } from '../../fixtures/ports.ts'
import { type RouterProcess, startRouterProcess } from '../../fixtures/router-process.ts'

const waitMs = 60_000
const backendsAtOnce = 3
const talkers = 20
const talkPauseMs = 100
const domain = 'soak.test'
const talkDomain = 'talk.test'

type Backend = { readonly addr: string; readonly server: Server; leave(): Promise<void> }

const load = { stop: false, requests: 0, failed: 0, talks: 0, broken: 0, lines: [] as string[] }

async function startBackend(platform: Platform, service: string): Promise<Backend> {
  const body = 'x'.repeat(1024)
  const server = createServer((_req, res) => res.end(body))
  server.keepAliveTimeout = 600_000
  server.on('upgrade', (_req, socket) => {
    socket.on('error', () => undefined)
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const addr = `127.0.0.1:${(server.address() as AddressInfo).port}`
  const meta = { FLYNN_JOB_ID: `hosta-${addr}`, FLYNN_APP_NAME: service }
  const registration = await platform.discoverd.client.register({ service, addr, create: true, meta })
  return { addr, server, leave: () => registration.close() }
}

/** Says when the router has a backend up and when it is drained; begins anew when the control process does. */
function followEvents(router: RouterProcess, signal: AbortSignal) {
  const up = new Set<string>()
  const drained = new Set<string>()
  const http = new HttpClient({ url: `http://${router.ip}:${router.ports.api}` })
  const loop = async () => {
    while (!signal.aborted) {
      try {
        const query = { types: 'backend-up,backend-drained' }
        for await (const { value } of http.events<RouterEvent>('/events', { query, signal, retryMs: 0 })) {
          const addr = value.backend?.addr ?? ''
          if (value.event === 'backend-up') up.add(addr)
          else drained.add(addr)
        }
      } catch {
        // The control process is away; what it told before counts no more.
      }
      await sleep(50, signal).catch(() => undefined)
    }
  }
  return { up, drained, done: loop() }
}

/** wrk in pieces, so that each piece's failures have a time. */
async function pieces(router: RouterProcess, fresh: boolean): Promise<void> {
  const headers = ['-H', `Host: ${domain}`, ...(fresh ? ['-H', 'Connection: close'] : [])]
  const connections = fresh ? '8' : '32'
  while (!load.stop) {
    const url = `http://${router.ip}:${router.ports.http}/`
    const { stdout } = await run(
      ['wrk', '-t1', `-c${connections}`, '-d10s', '--timeout', '30s', ...headers, url],
      {
        timeoutMs: 90_000,
      },
    )
    const bad = /Non-2xx or 3xx responses: (\d+)/.exec(stdout)?.[1] ?? '0'
    const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(stdout)
    const failed = Number(bad) + [1, 2, 3, 4].reduce((sum, i) => sum + Number(errors?.[i] ?? 0), 0)
    load.requests += Number(/(\d+) requests in/.exec(stdout)?.[1] ?? 0)
    load.failed += failed
    if (failed > 0)
      load.lines.push(
        `${fresh ? 'new connections' : 'keep-alive'}: ${bad} bad, ${errors?.[0] ?? 'no socket errors'}`,
      )
  }
}

/** An upgraded connection that stays through reloads and restarts. */
async function talk(router: RouterProcess): Promise<void> {
  const socket: Socket = connect(router.ports.http, router.ip)
  let heard = ''
  socket.setEncoding('latin1')
  socket.on('error', () => undefined)
  socket.on('data', chunk => {
    heard += String(chunk)
  })
  socket.write(`GET / HTTP/1.1\r\nHost: ${talkDomain}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`)
  for (let n = 0; !load.stop; n++) {
    const word = n === 0 ? '101' : `word ${n};`
    if (n > 0) socket.write(word)
    const answered = () => (socket.destroyed ? undefined : heard.includes(word))
    const ok = await poll(answered, { timeoutMs: waitMs, intervalMs: 20, what: word }).catch(() => false)
    load.talks++
    if (!ok) {
      load.broken++
      load.lines.push(`upgraded connection broken after ${n} words`)
      return
    }
    heard = ''
    await sleep(talkPauseMs)
  }
  socket.destroy()
}

type Options = { readonly cycles: number; readonly reloads: number; readonly restarts: number }

async function churn(platform: Platform, router: RouterProcess, options: Options): Promise<void> {
  const stop = new AbortController()
  const events = followEvents(router, stop.signal)
  const told = (set: ReadonlySet<string>, addr: string, what: string) =>
    poll(() => set.has(addr), { timeoutMs: waitMs, intervalMs: 5, what: `${addr} to be ${what}` })
  const backends: Backend[] = []
  const add = async () => {
    const one = await startBackend(platform, 'soak')
    backends.push(one)
    await told(events.up, one.addr, 'up')
  }
  const every = (times: number) => (times === 0 ? 0 : Math.max(1, Math.floor(options.cycles / times)))
  const [reloadAt, restartAt] = [every(options.reloads), every(options.restarts)]
  while (backends.length < backendsAtOnce) await add()
  const clients = [
    pieces(router, false),
    pieces(router, true),
    ...Array.from({ length: talkers }, () => talk(router)),
  ]
  const began = performance.now()
  for (let cycle = 1; cycle <= options.cycles; cycle++) {
    await add()
    const old = backends.shift()
    if (!old) throw new Error('no backend')
    const disturb = cycle % restartAt === 0
    await old.leave()
    await told(events.drained, old.addr, 'drained')
    old.server.closeAllConnections()
    old.server.close()
    if (reloadAt && cycle % reloadAt === 0) process.kill(router.haproxy.pid() ?? 0, 'SIGUSR2')
    if (restartAt && disturb) await router.restart(cycle % (2 * restartAt) === 0 ? 'SIGKILL' : 'SIGTERM')
    if (cycle % 100 === 0) {
      const s = ((performance.now() - began) / 1000).toFixed(0)
      process.stdout.write(
        `${s} s: ${cycle} backends replaced, ${load.requests} requests, ${load.failed} failed\n`,
      )
    }
  }
  load.stop = true
  await Promise.all(clients)
  stop.abort()
  await events.done
  for (const { server, leave } of backends) {
    await leave()
    server.closeAllConnections()
    server.close()
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cycles: { type: 'string', default: '1000' },
      reloads: { type: 'string', default: '10' },
      restarts: { type: 'string', default: '10' },
    },
  })
  const options = {
    cycles: Number(values.cycles),
    reloads: Number(values.reloads),
    restarts: Number(values.restarts),
  }
  const platform = await startPlatform(87)
  let router: RouterProcess | undefined
  let talking: Backend | undefined
  try {
    const ports = {
      http: await freePort(),
      https: await freePort(),
      api: await freePort(),
      tcp: await freePort(),
    }
    router = await startRouterProcess({ ip: `${platform.net}.11`, ports, discoverd: platform.discoverd.url })
    const app = await platform.client.createApp({ name: 'soak' })
    talking = await startBackend(platform, 'talk')
    for (const [name, service] of [
      [domain, 'soak'],
      [talkDomain, 'talk'],
    ] as const)
      await platform.client.createRoute(app.id, { type: 'http', domain: name, service, drain_backends: true })
    await churn(platform, router, options)
    for (const line of load.lines) process.stdout.write(`${line}\n`)
    process.stdout.write(
      `${options.cycles} backends replaced, ${options.reloads} reloads, ${options.restarts} restarts of the control process (each reloads once more):\n${load.failed} of ${load.requests} requests failed; ${load.broken} of ${talkers} upgraded connections broke, ${load.talks} words echoed\n`,
    )
    process.exitCode = load.failed + load.broken > 0 ? 1 : 0
  } finally {
    await talking?.leave()
    talking?.server.closeAllConnections()
    talking?.server.close()
    await router?.stop()
    await platform.remove()
  }
}

await main()
