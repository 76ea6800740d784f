import assert from 'node:assert/strict'
import { appendFileSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import { type HostDatabase, openDatabase } from '../database.ts'
import { type LogJob, LogMux } from './mux.ts'
import type { LogCursor } from './record.core.ts'

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (data: Uint8Array) => new TextDecoder().decode(data)
const job = (id: string, app = 'app1'): LogJob => ({ jobId: id, app, processType: 'web' })
let dir: string
let database: HostDatabase

beforeEach(() => {
  dir = mkdtempSync('/var/tmp/host-log-')
  database = openDatabase(join(dir, 'host.sqlite'))
})
afterEach(() => {
  database.close()
  rmSync(dir, { recursive: true })
})

function newMux(options: { rotateBytesMax?: number; trustDatabase?: boolean } = {}): LogMux {
  return new LogMux({ dir: join(dir, 'log'), hostId: 'h1', database, trustDatabase: true, ...options })
}

async function history(mux: LogMux, of: LogJob): Promise<string[]> {
  const lines: string[] = []
  const { signal } = new AbortController()
  for await (const r of mux.stream(of, { history: true, follow: false, signal })) lines.push(text(r.line))
  return lines
}

async function take(mux: LogMux, count: number, cursor?: LogCursor) {
  const stop = new AbortController()
  const seen: { line: string; cursor: LogCursor }[] = []
  for await (const r of mux.all(cursor, stop.signal)) {
    seen.push({ line: text(r.line), cursor: { micros: r.micros, seq: r.seq } })
    if (seen.length === count) stop.abort()
  }
  return seen
}

test('the history of a job is its own lines in order, whatever else its app wrote', async () => {
  const mux = newMux()
  mux.write(job('h1-a'), 'stdout', [bytes('a1')])
  mux.write(job('h1-b'), 'stdout', [bytes('b1')])
  mux.write(job('h1-a'), 'stderr', [bytes('a2'), bytes('')])
  mux.write(job('h1-a', 'app2'), 'stdout', [bytes('elsewhere')])
  assert.deepEqual(await history(mux, job('h1-a')), ['a1', 'a2', ''])
})

test('a follower gets history, then what comes, and ends when the job is closed', async () => {
  const mux = newMux()
  const a = job('h1-a')
  mux.opened(a)
  mux.write(a, 'stdout', [bytes('before')])
  const opened = Promise.withResolvers<void>()
  const lines: string[] = []
  const reading = (async () => {
    const { signal } = new AbortController()
    const onOpen = () => opened.resolve()
    for await (const r of mux.stream(a, { history: true, follow: true, signal, onOpen }))
      lines.push(text(r.line))
  })()
  await opened.promise
  mux.write(a, 'stdout', [bytes('after')])
  mux.closed(a)
  await reading
  assert.deepEqual(lines, ['before', 'after'])
})

test('a log rotates once, and readers pass from the old file to the new one', async () => {
  const mux = newMux({ rotateBytesMax: 2_000 })
  const a = job('h1-a')
  mux.opened(a)
  const lines: string[] = []
  const stop = new AbortController()
  const opened = Promise.withResolvers<void>()
  const reading = (async () => {
    const options = { history: true, follow: true, signal: stop.signal, onOpen: () => opened.resolve() }
    for await (const r of mux.stream(a, options)) lines.push(text(r.line))
  })()
  await opened.promise
  for (let n = 0; n < 60; n++) {
    mux.write(a, 'stdout', [bytes(`line ${n}`)])
    // One old file is kept: a reader that falls two files behind has lost lines, and is not what is asked here.
    await poll(() => lines.length > n, { timeoutMs: 10_000, intervalMs: 1, what: `line ${n}` })
  }
  mux.closed(a)
  await reading
  assert.deepEqual(
    lines,
    Array.from({ length: 60 }, (_, n) => `line ${n}`),
  )
  const files = readdirSync(join(dir, 'log')).sort()
  assert.equal(files.length, 2)
  assert.match(files[0] ?? '', /^app1-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log$/)
  assert.equal(files[1], 'app1.log')
})

test('what a killed daemon wrote and did not commit is cut off, so that its rereading repeats nothing', async () => {
  newMux().write(job('h1-a'), 'stdout', [bytes('committed')], 10)
  const file = join(dir, 'log', 'app1.log')
  const size = readFileSync(file).length
  appendFileSync(file, readFileSync(file))
  const mux = newMux()
  assert.equal(mux.position('h1-a', 'stdout'), 10)
  mux.write(job('h1-a'), 'stdout', [bytes('again')], 16)
  assert.deepEqual(await history(mux, job('h1-a')), ['committed', 'again'])
  assert.ok(readFileSync(file).length < size * 2)
})

test('after a power cut the file counts, not the database', async () => {
  newMux().write(job('h1-a'), 'stdout', [bytes('one')], 4)
  const file = join(dir, 'log', 'app1.log')
  appendFileSync(file, readFileSync(file))
  const mux = newMux({ trustDatabase: false })
  assert.deepEqual(await history(mux, job('h1-a')), ['one', 'one'])
})

test('everything is handed out in the order of the host, from a cursor on', async () => {
  const mux = newMux()
  for (let n = 0; n < 9; n++) mux.write(job(`h1-${n}`, `app${n % 3}`), 'stdout', [bytes(`line ${n}`)])
  const all = await take(mux, 9)
  assert.deepEqual(
    all.map(s => s.line),
    Array.from({ length: 9 }, (_, n) => `line ${n}`),
  )
  const rest = await take(mux, 3, all[5]?.cursor)
  assert.deepEqual(
    rest.map(s => s.line),
    ['line 6', 'line 7', 'line 8'],
  )
})

test('whoever wants everything gets apps that appear later too', async () => {
  const mux = newMux()
  mux.write(job('h1-a', 'app1'), 'stdout', [bytes('first')])
  const reading = take(mux, 2)
  await new Promise(resolve => setTimeout(resolve, 20))
  mux.write(job('h1-b', 'app2'), 'stdout', [bytes('second')])
  assert.deepEqual(
    (await reading).map(s => s.line),
    ['first', 'second'],
  )
})

test('an app id that is no file name does not become one', async () => {
  const mux = newMux()
  const odd = job('h1-a', '../../etc/passwd')
  mux.write(odd, 'stdout', [bytes('x')])
  assert.deepEqual(readdirSync(join(dir, 'log')), ['no-app.log'])
  assert.deepEqual(await history(mux, odd), ['x'])
})
