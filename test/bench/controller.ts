// One web process of the controller on a real PostgreSQL: reads and writes beside the bare statements, a cluster of
// 1,000 apps with 10 releases each, and memory over 100,000 events. `node test/bench/controller.ts`; SECONDS, APPS and
// EVENTS make it shorter.
import { readFile } from 'node:fs/promises'
import { loadavg } from 'node:os'
import pg from 'pg'
import { Pool } from 'undici'
import type { ControllerClient } from '../../controller/client.ts'
import { table } from '../../pkg/table/table.ts'
import { startController, type TestController } from '../fixtures/controller.ts'
import { clusterAt, startSession } from '../loopback/cli-session.ts'
import { closedLoop, type Rate } from './closed-loop.ts'
import { median } from './stats.core.ts'

const callers = 16
const durationMs = Number(process.env['SECONDS'] ?? 10) * 1_000
const appsCount = Number(process.env['APPS'] ?? 1_000)
const releasesEach = 10
const eventsCount = Number(process.env['EVENTS'] ?? 100_000)
const streams = 20
const resumed = 500
const cliRuns = 5
/** Memory is flat when the last tenth needs no more than this of what the second tenth did. */
const growthMax = 1.25

type Api = { readonly send: (method: 'GET' | 'POST', path: string, body?: unknown) => Promise<unknown> }

function apiOf(controller: TestController): Api & AsyncDisposable {
  const pool = new Pool(controller.url, { connections: callers })
  const headers = {
    accept: 'application/json',
    'content-type': 'application/json',
    authorization: `Basic ${Buffer.from(`:${controller.key}`).toString('base64')}`,
  }
  return {
    async send(method, path, body) {
      const text = body === undefined ? null : JSON.stringify(body)
      const answer = await pool.request({ method, path, headers, body: text })
      const said = await answer.body.text()
      if (answer.statusCode !== 200) throw new Error(`${method} ${path}: ${answer.statusCode} ${said}`)
      return said === '' ? undefined : JSON.parse(said)
    },
    [Symbol.asyncDispose]: () => pool.destroy(),
  }
}

const row = (label: string, r: Rate, cpuMs = '') => [
  label,
  String(r.perSecond),
  r.p50Ms.toFixed(1),
  r.p99Ms.toFixed(1),
  cpuMs,
]

/** Ticks of the kernel's process accounts (getconf CLK_TCK). */
const tickMs = 10

/** Processor time that a process has used. */
async function cpuMsOf(pid: number): Promise<number> {
  const fields = (await readFile(`/proc/${pid}/stat`, 'utf8')).replace(/^.*\) /s, '').split(' ')
  return (Number(fields[11]) + Number(fields[12])) * tickMs
}

type Loaded = { readonly rate: Rate; readonly cpuMs: string }

/** The rate of calls to the API, and the processor time of the web process for each, which no other load changes much. */
async function loaded(controller: TestController, call: (n: number) => Promise<unknown>): Promise<Loaded> {
  let calls = 0
  const before = await cpuMsOf(controller.pid)
  const rate = await closedLoop(callers, durationMs, n => {
    calls++
    return call(n)
  })
  return { rate, cpuMs: (((await cpuMsOf(controller.pid)) - before) / calls).toFixed(2) }
}

/** The statements of a read and a write alone, as the controller sends them but without anything around them. */
async function bare(controller: TestController, name: string): Promise<readonly Rate[]> {
  const env = controller.databaseEnv
  const pool = new pg.Pool({
    host: env['PGHOST'],
    port: Number(env['PGPORT']),
    user: env['PGUSER'],
    password: env['PGPASSWORD'],
    database: env['PGDATABASE'],
    max: callers,
  })
  const read = await closedLoop(callers, durationMs, () =>
    pool.query('SELECT * FROM apps WHERE name = $1 AND deleted_at IS NULL', [name]),
  )
  const write = await closedLoop(callers, durationMs, async n => {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      const update = 'UPDATE apps SET meta = $2, updated_at = now() WHERE name = $1 RETURNING *'
      const { rows } = await client.query(update, [`w-${n % callers}`, { n: String(n) }])
      const insert =
        'INSERT INTO events (app_id, object_type, object_id, data, op) VALUES ($1, $2, $3, $4, $5)'
      await client.query(insert, [rows[0].app_id, 'app', rows[0].app_id, rows[0], 'update'])
      await client.query('COMMIT')
    } finally {
      client.release()
    }
  })
  await pool.end()
  return [read, write]
}

async function rates(controller: TestController, api: Api): Promise<void> {
  for (let i = 0; i < callers; i++) await controller.client.createApp({ name: `w-${i}` })
  const read = await loaded(controller, () => api.send('GET', '/apps/w-0'))
  const write = await loaded(controller, n =>
    api.send('POST', `/apps/w-${n % callers}/meta`, { meta: { n: String(n) } }),
  )
  const [bareRead, bareWrite] = (await bare(controller, 'w-0')) as [Rate, Rate]
  const rows = [
    row('GET /apps/:app', read.rate, read.cpuMs),
    row('  its statement alone', bareRead),
    row('POST /apps/:app/meta', write.rate, write.cpuMs),
    row('  its update and event alone', bareWrite),
  ]
  print(`${callers} callers, ${durationMs / 1_000} s each`, [
    ['', 'per second', 'p50 ms', 'p99 ms', 'processor ms each'],
    ...rows,
  ])
}

function print(title: string, rows: string[][]): void {
  process.stdout.write(`${title}, load ${loadavg()[0]?.toFixed(1)}\n\n${table(rows)}\n`)
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}

/** Reads so many events after an id from the stream. */
async function resume(client: ControllerClient, lastId: number, wanted: number): Promise<void> {
  const stop = new AbortController()
  let seen = 0
  const stream = client.streamEvents({ lastId, signal: stop.signal })
  for await (const _event of stream) if (++seen >= wanted) break
  stop.abort()
}

async function large(controller: TestController, api: Api): Promise<void> {
  let next = 0
  const make = async () => {
    for (let n = next++; n < appsCount; n = next++) {
      const app = (await api.send('POST', '/apps', { name: `app-${n}` })) as { id: string }
      for (let r = 0; r < releasesEach; r++)
        await api.send('POST', '/releases', { app_id: app.id, env: { N: String(r), TEXT: 'x'.repeat(200) } })
    }
  }
  const madeMs = await timed(() => Promise.all(Array.from({ length: callers }, make)))
  const session = await startSession(clusterAt(controller.url, controller.key))
  const medianOf = async (work: () => Promise<unknown>) => {
    const samples: number[] = []
    for (let i = 0; i < cliRuns; i++) samples.push(await timed(work))
    return median(samples)
  }
  const newest = (await controller.client.events({ count: 1 }))[0]?.id ?? 0
  const many = Math.min(10_000, newest - 1)
  const rows: [string, number][] = [
    ['flynn version, for comparison', await medianOf(() => session.ok(['version']))],
    ['flynn apps', await medianOf(() => session.ok(['apps']))],
    ['flynn release of one', await medianOf(() => session.ok(['-a', 'app-7', 'release']))],
    ['GET /apps', await medianOf(() => api.send('GET', '/apps'))],
    [
      `resume, the last ${resumed} events`,
      await medianOf(() => resume(controller.client, newest - resumed, resumed)),
    ],
    [`resume, ${many} events`, await timed(() => resume(controller.client, newest - many, many))],
  ]
  await session.remove()
  const made = `${appsCount} apps with ${releasesEach} releases each, made in ${(madeMs / 1_000).toFixed(0)} s`
  print(made, [['', 'ms'], ...rows.map(([what, ms]) => [what, ms.toFixed(0)])])
}

/** Megabytes that a process has in memory. */
async function residentMb(pid: number): Promise<number> {
  const [, kb = '0'] = /^VmRSS:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8')) ?? []
  return Number(kb) / 1024
}

async function memory(controller: TestController, api: Api): Promise<boolean> {
  const stop = new AbortController()
  let told = 0
  const listen = async () => {
    for await (const _event of controller.client.streamEvents({ signal: stop.signal })) told++
  }
  const listening = Array.from({ length: streams }, () => listen().catch(() => undefined))
  const part = eventsCount / 10
  const series: number[] = []
  let n = 0
  for (let tenth = 1; tenth <= 10; tenth++) {
    const writer = async () => {
      while (n < part * tenth)
        await api.send('POST', `/apps/w-${n++ % callers}/meta`, { meta: { n: String(n) } })
    }
    await Promise.all(Array.from({ length: callers }, writer))
    series.push(await residentMb(controller.pid))
  }
  stop.abort()
  await Promise.all(listening)
  const growth = (series.at(-1) ?? 0) / (series[1] ?? 1)
  print(`memory over ${eventsCount} events with ${streams} streams, which were told ${told}`, [
    ['events', ...series.map((_mb, i) => String(part * (i + 1)))],
    ['MB', ...series.map(mb => mb.toFixed(0))],
  ])
  process.stdout.write(`last to second: ${growth.toFixed(2)}\n`)
  return growth <= growthMax
}

const controller = await startController({ env: { LOG_LEVEL: 'error' } })
try {
  await using api = apiOf(controller)
  await rates(controller, api)
  await large(controller, api)
  if (!(await memory(controller, api))) process.exitCode = 1
} finally {
  await controller.stop()
}
