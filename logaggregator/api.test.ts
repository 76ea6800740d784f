import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { type TestContext, test } from 'node:test'
import { poll } from '../pkg/clock/clock.ts'
import { silentLogger } from '../pkg/log/log.ts'
import {
  encodeFrame,
  formatMessage,
  type LogStream,
  sequenceData,
  streams,
} from '../pkg/syslog/syslog.core.ts'
import { createAggregator } from './aggregator.ts'
import { logAggregatorApi } from './api.ts'
import { LogAggregatorClient } from './client.ts'
import { listenSyslog } from './ingest.ts'
import { loadSnapshot } from './snapshot.ts'
import type { LogMessage, LogOptions } from './types.ts'

async function start(t: TestContext) {
  const log = silentLogger()
  const aggregator = createAggregator()
  const api = logAggregatorApi({ aggregator, log })
  const url = await api.listen({ host: '127.0.0.1', port: 0 })
  const syslog = await listenSyslog({ host: '127.0.0.1', port: 0, aggregator, log })
  const host = connect(syslog.port, '127.0.0.1')
  await once(host, 'connect')
  t.after(async () => {
    host.destroy()
    await syslog.close()
    await api.close()
  })
  return { aggregator, url, host, client: new LogAggregatorClient(url), port: syslog.port }
}

type Line = { seq: number; msg?: string; app?: string; procId?: string; stream?: LogStream; host?: string }

function line({
  seq,
  msg = `line ${seq}`,
  app = 'app1',
  procId = 'web.host-1',
  stream = 'stdout',
  host = 'host',
}: Line) {
  return formatMessage({
    timestampUs: 1_700_000_000_000_000 + seq,
    hostname: host,
    appName: app,
    procId,
    msgId: streams[stream],
    structuredData: sequenceData(seq),
    msg,
  })
}

async function send(to: Awaited<ReturnType<typeof start>>, ...lines: readonly Line[]): Promise<void> {
  to.host.write(Buffer.concat(lines.map(l => encodeFrame(line(l)))))
  const last = lines.at(-1)
  await poll(() => to.aggregator.cursors().get(last?.host ?? 'host')?.seq === last?.seq, {
    timeoutMs: 5_000,
    what: 'the lines to arrive',
  })
}

async function messages(
  client: LogAggregatorClient,
  options: LogOptions = {},
  app = 'app1',
): Promise<(string | undefined)[]> {
  const out: (string | undefined)[] = []
  for await (const m of client.log(app, options)) out.push(m.msg)
  return out
}

test('lines come out as JSON with the members clients know, in their order', async t => {
  const s = await start(t)
  await send(
    s,
    { seq: 1, msg: 'hello "you"', procId: 'web.host-1', stream: 'stderr' },
    { seq: 2, msg: '', procId: 'host-2' },
  )
  const text = await (await fetch(`${s.url}/log/app1`)).text()
  assert.equal(
    text,
    '{"host_id":"host","job_id":"host-1","msg":"hello \\"you\\"","process_type":"web","source":"app","stream":"stderr","timestamp":"2023-11-14T22:13:20.000001Z"}\n' +
      '{"host_id":"host","job_id":"host-2","source":"app","stream":"stdout","timestamp":"2023-11-14T22:13:20.000002Z"}\n',
  )
})

test('lines are limited after they are filtered', async t => {
  const s = await start(t)
  await send(
    s,
    { seq: 1, procId: 'web.j1' },
    { seq: 2, procId: 'web.j2', stream: 'stderr' },
    { seq: 3, procId: 'worker.j3', stream: 'init' },
    { seq: 4, procId: 'j4' },
    { seq: 5, procId: 'web.j1' },
  )
  assert.equal((await messages(s.client)).length, 5)
  assert.deepEqual(await messages(s.client, { lines: 2 }), ['line 4', 'line 5'])
  assert.deepEqual(await messages(s.client, { jobId: 'j1' }), ['line 1', 'line 5'])
  assert.deepEqual(await messages(s.client, { processType: 'web', lines: 2 }), ['line 2', 'line 5'])
  assert.deepEqual(await messages(s.client, { processType: '' }), ['line 4'])
  assert.deepEqual(await messages(s.client, { streamTypes: ['stderr', 'init'] }), ['line 2', 'line 3'])
})

test('of a repeated process type the last one counts', async t => {
  const s = await start(t)
  await send(s, { seq: 1, procId: 'web.j' }, { seq: 2, procId: 'worker.j' })
  const text = await (await fetch(`${s.url}/log/app1?process_type=web&process_type=worker`)).text()
  assert.equal((JSON.parse(text) as LogMessage).msg, 'line 2')
})

test('an unknown app has no lines', async t => {
  const { client } = await start(t)
  assert.deepEqual(await messages(client, {}, 'nobody'), [])
})

test('a number of lines that is none is refused', async t => {
  const { url } = await start(t)
  for (const lines of ['x', '-1', '10001', '1.5']) {
    const res = await fetch(`${url}/log/app1?lines=${lines}`)
    assert.equal(res.status, 400, lines)
    const body = (await res.json()) as { code: string; message: string; detail: unknown }
    assert.equal(body.code, 'validation_error')
    assert.deepEqual(body.detail, { field: 'lines' })
  }
})

test('a follower gets the last lines and then each new one, and nothing of other apps', async t => {
  const s = await start(t)
  await send(s, { seq: 1 }, { seq: 2 })
  const abort = new AbortController()
  const got: (string | undefined)[] = []
  const following = (async () => {
    for await (const m of s.client.log('app1', { follow: true, lines: 1 }, abort.signal)) got.push(m.msg)
  })()
  await poll(() => got.length === 1, { timeoutMs: 5_000, what: 'the backlog' })
  await send(s, { seq: 3 }, { seq: 4, app: 'other' }, { seq: 5 })
  await poll(() => got.length === 3, { timeoutMs: 5_000, what: 'the new lines' })
  assert.deepEqual(got, ['line 2', 'line 3', 'line 5'])
  abort.abort()
  await assert.rejects(following)
})

test('a follower that left is forgotten', async t => {
  const s = await start(t)
  for (let i = 0; i < 5; i++) {
    const abort = new AbortController()
    await fetch(`${s.url}/log/app1?follow=true`, { signal: abort.signal })
    assert.equal(s.aggregator.followers, 1)
    abort.abort()
    await poll(() => s.aggregator.followers === 0, { timeoutMs: 5_000, what: 'the follower to go' })
  }
})

test('the cursor of a host is its newest line', async t => {
  const s = await start(t)
  await send(s, { seq: 2 }, { seq: 1 }, { seq: 7, host: 'h2' })
  const cursors = await s.client.cursors()
  assert.deepEqual(cursors, {
    host: { time: '2023-11-14T22:13:20.000002Z', seq: 2 },
    h2: { time: '2023-11-14T22:13:20.000007Z', seq: 7 },
  })
})

test('unusable messages are skipped, a bad frame ends its connection only', async t => {
  const s = await start(t)
  s.host.write(encodeFrame('no syslog at all'))
  s.host.write(encodeFrame('<190>1 2016-01-02T15:04:05.000000Z h app1 p ID1 - without a number'))
  await send(s, { seq: 1 })
  assert.deepEqual(await messages(s.client), ['line 1'])
  const bad: Socket = connect(s.port, '127.0.0.1')
  bad.write('99999 x')
  await once(bad, 'close')
  await send(s, { seq: 2 })
  assert.deepEqual(await messages(s.client), ['line 1', 'line 2'])
})

test('a second aggregator starts with what the first one has, and lets hosts send everything', async t => {
  const s = await start(t)
  await send(s, { seq: 1 }, { seq: 2, app: 'app2', msg: 'zwei\tü' })
  const second = createAggregator()
  assert.equal(await loadSnapshot(second, s.url), 2)
  assert.deepEqual([...second.all()], [...s.aggregator.all()])
  assert.equal(second.cursors().size, 0)
})
