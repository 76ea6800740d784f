// Event, formation, volume and route streams of the controller, byte by byte and through restarts (contract
// controller.md 1.12, 2.6, 2.12, 6.2; router.md 2).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { RouteChange } from '../../controller/client.ts'
import type { App, ControllerEvent, Release } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { startController, type TestController } from '../fixtures/controller.ts'

const waitMs = 30_000
let controller: TestController

before(async () => {
  controller = await startController()
})
after(() => controller?.stop())

let unique = 0

async function appWithRelease(): Promise<{ app: App; release: Release }> {
  const { client } = controller
  const app = await client.createApp({ name: `stream-${++unique}` })
  const artifact = await client.createArtifact({ type: 'flynn', uri: `http://x/${unique}`, manifest: {} })
  const processes = { web: {}, worker: {} }
  return { app, release: await client.createRelease({ app_id: app.id, artifacts: [artifact.id], processes }) }
}

type Raw = { readonly text: () => string; readonly response: Response; close(): void }

/** The bytes of a stream as they arrive. */
async function openRaw(path: string, headers: Record<string, string> = {}): Promise<Raw> {
  const abort = new AbortController()
  const response = await fetch(`${controller.url}${path}`, {
    signal: abort.signal,
    headers: {
      accept: 'text/event-stream',
      authorization: `Basic ${Buffer.from(`:${controller.key}`).toString('base64')}`,
      ...headers,
    },
  })
  let text = ''
  const reading = (async () => {
    const decoder = new TextDecoder()
    for await (const chunk of response.body ?? [])
      text += decoder.decode(chunk as Uint8Array, { stream: true })
  })()
  reading.catch(() => undefined)
  return { text: () => text, response, close: () => abort.abort() }
}

async function waitFor(raw: Raw, pattern: RegExp): Promise<string> {
  return poll(() => (pattern.test(raw.text()) ? raw.text() : undefined), {
    timeoutMs: waitMs,
    what: `${pattern}`,
  })
}

function eventsOf(text: string): ControllerEvent[] {
  return text
    .split('\n\n')
    .filter(part => part.startsWith('data: '))
    .map(part => JSON.parse(part.slice('data: '.length)) as ControllerEvent)
}

test('an event is framed as one data line and one empty line', async () => {
  const raw = await openRaw('/events?object_types=app')
  assert.equal(raw.response.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  const { app } = await appWithRelease()
  const text = await waitFor(raw, /\n\n$/)
  raw.close()
  assert.match(text, /^data: \{[^\n]*\}\n\n$/)
  assert.equal(eventsOf(text)[0]?.object_id, app.id)
})

test('what happens right after the 200 is in the stream', async () => {
  const { app, release } = await appWithRelease()
  for (let round = 0; round < 10; round++) {
    const raw = await openRaw(`/events?app_id=${app.name}&object_types=scale_request`)
    const request = await controller.client.createScale(app.id, release.id, { new_processes: { web: round } })
    await waitFor(raw, new RegExp(request.id))
    raw.close()
  }
})

test('a filter by app, type and object lets nothing else through', async () => {
  const [one, two] = [await appWithRelease(), await appWithRelease()]
  const raw = await openRaw(`/events?app_id=${one.app.id}&object_types=app&object_id=${one.app.id}`)
  await controller.client.updateApp(two.app.id, { deploy_timeout: 5 })
  await controller.client.setAppRelease(one.app.id, one.release.id)
  await controller.client.updateApp(one.app.id, { deploy_timeout: 7 })
  const text = await waitFor(raw, /"deploy_timeout":7/)
  raw.close()
  assert.equal(eventsOf(text).length, 1)
})

test('past events come first, in ascending order, then live ones', async () => {
  const { app, release } = await appWithRelease()
  await controller.client.updateApp(app.id, { deploy_timeout: 11 })
  const raw = await openRaw(`/events?app_id=${app.id}&past=true`)
  await waitFor(raw, /"deploy_timeout":11/)
  await controller.client.setAppRelease(app.id, release.id)
  const events = eventsOf(await waitFor(raw, /app_release/))
  raw.close()
  assert.deepEqual(
    events.map(e => e.object_type),
    ['app', 'release', 'app', 'app_release'],
  )
  const ids = events.map(e => e.id)
  assert.deepEqual(
    ids,
    [...ids].sort((a, b) => a - b),
  )
})

test('a count limits what is replayed to the newest', async () => {
  const { app } = await appWithRelease()
  await controller.client.updateApp(app.id, { deploy_timeout: 11 })
  await controller.client.updateApp(app.id, { deploy_timeout: 12 })
  const raw = await openRaw(`/events?app_id=${app.id}&past=true&count=2`)
  const events = eventsOf(await waitFor(raw, /"deploy_timeout":12/))
  raw.close()
  assert.equal(events.length, 2)
})

test('a stream resumes after the event id that the reader saw last', async () => {
  const { app } = await appWithRelease()
  const [first] = await controller.client.events({ app: app.id })
  await controller.client.updateApp(app.id, { deploy_timeout: 21 })
  await controller.client.updateApp(app.id, { deploy_timeout: 22 })
  const raw = await openRaw(`/events?app_id=${app.id}`, { 'last-event-id': String(first?.id) })
  const events = eventsOf(await waitFor(raw, /"deploy_timeout":22/))
  raw.close()
  assert.equal(events.length, 2)
})

test('a bad Last-Event-Id or app is a JSON error before any stream', async () => {
  const bad = await openRaw('/events', { 'last-event-id': 'x' })
  assert.equal(bad.response.status, 400)
  assert.equal(bad.response.headers.get('content-type'), 'application/json')
  assert.equal((await openRaw('/events?app_id=nope')).response.status, 404)
})

test('a list of events needs exactly the JSON type and is newest first', async () => {
  const { app } = await appWithRelease()
  await controller.client.updateApp(app.id, { deploy_timeout: 5 })
  const all = await controller.client.events({ app: app.id })
  assert.deepEqual(
    all.map(e => e.object_type),
    ['app', 'release', 'app'],
  )
  const middle = all[1]?.id ?? 0
  assert.equal((await controller.client.events({ app: app.id, sinceId: middle })).length, 1)
  assert.equal((await controller.client.events({ app: app.id, beforeId: middle })).length, 1)
  assert.equal((await controller.client.events({ app: app.id, count: 2 })).length, 2)
})

test('a deployment that ended before the stream was opened is still told', async () => {
  const { app, release } = await appWithRelease()
  const deployment = await controller.client.createDeployment(app.id, release.id)
  for await (const event of controller.client.streamDeployment(deployment)) {
    assert.equal(event.data.status, 'complete')
    break
  }
})

test('concurrent writers leave no event out of a resumed stream', async () => {
  const { app } = await appWithRelease()
  const raw = await openRaw(`/events?app_id=${app.id}&object_types=artifact,app`)
  await Promise.all(
    Array.from({ length: 40 }, (_, n) => controller.client.updateApp(app.id, { deploy_timeout: n + 1 })),
  )
  const live = await poll(
    () => {
      const events = eventsOf(raw.text())
      return events.length === 40 ? events : undefined
    },
    { timeoutMs: waitMs, what: '40 events' },
  )
  raw.close()
  const ids = live.map(e => e.id)
  assert.deepEqual(
    ids,
    [...ids].sort((a, b) => a - b),
  )
})

test('an event written through one process reaches the readers of another', async () => {
  const other = await controller.another()
  try {
    const { app } = await appWithRelease()
    const stop = new AbortController()
    const seen = other.client.streamEvents({ app: app.id, types: ['app'], signal: stop.signal, past: true })
    const ids: string[] = []
    for await (const event of seen) {
      ids.push((event.data as App).id)
      if (ids.length === 1) await controller.client.updateApp(app.id, { deploy_timeout: 3 })
      else break
    }
    stop.abort()
    assert.deepEqual(ids, [app.id, app.id])
  } finally {
    await other.stop()
  }
})

test('the formation stream sends what is stored, a sentinel without an app, then changes', async () => {
  const { app, release } = await appWithRelease()
  await controller.client.putFormation(app.id, release.id, { processes: { web: 1 } })
  const raw = await openRaw('/formations?since=0001-01-01T00:00:00Z')
  const stored = await waitFor(raw, /data: \{"updated_at":"0001-01-01T00:00:00Z"\}\n\n/)
  assert.match(stored, new RegExp(release.id))
  await controller.client.putFormation(app.id, release.id, { processes: { web: 5 } })
  await waitFor(raw, /"processes":\{"web":5\}/)
  await controller.client.deleteFormation(app.id, release.id)
  await waitFor(raw, /"deleted":true/)
  raw.close()
  const last = raw.text().trimEnd().split('\n\n').at(-1) ?? ''
  const value = JSON.parse(last.slice('data: '.length)) as Record<string, unknown>
  assert.equal(value['processes'], undefined)
  assert.equal((value['app'] as App).id, app.id)
})

test('the formation stream begins where it is told to', async () => {
  const [one, two] = [await appWithRelease(), await appWithRelease()]
  await controller.client.putFormation(one.app.id, one.release.id, { processes: { web: 1 } })
  await controller.client.putFormation(two.app.id, two.release.id, { processes: { web: 1 } })
  const { updated_at } = await controller.client.formation(two.app.id, two.release.id)
  const seen: string[] = []
  for await (const change of controller.client.streamFormations({ since: updated_at })) {
    if (change.kind === 'current') break
    seen.push(change.formation.app.id)
  }
  assert.deepEqual(seen, [two.app.id])
})

test('the formation stream refuses a bad time, and the list wants one of its two forms', async () => {
  assert.equal((await openRaw('/formations?since=yesterday')).response.status, 400)
  assert.equal((await openRaw('/formations')).response.status, 400)
})

test('the volume stream sends volumes, a sentinel without an id, then changes', async () => {
  const id = '55555555-5555-4555-8555-555555555555'
  const volume = { id, host_id: 'h', type: 'data', state: 'pending' } as const
  const raw = await openRaw('/volumes?since=0001-01-01T00:00:00Z')
  await waitFor(raw, /data: \{"id":"","host_id":"","type":"","state":""\}\n\n/)
  await controller.client.putVolume(volume)
  await waitFor(raw, new RegExp(id))
  raw.close()
})

test('routes are told in full, then as they change, and in full again after a restart of the database', async t => {
  const { app } = await appWithRelease()
  const stop = new AbortController()
  t.after(() => stop.abort())
  const changes: RouteChange[] = []
  const reading = (async () => {
    for await (const change of controller.client.streamRoutes({ signal: stop.signal })) changes.push(change)
  })()
  const until = (what: string, probe: () => boolean) => poll(probe, { timeoutMs: 30_000, what })
  await until('the first sync', () => changes[0]?.kind === 'sync')
  const route = await controller.client.createRoute(app.id, { type: 'http', service: 's', domain: 'a.test' })
  await until('the new route', () => changes.some(c => c.kind === 'set' && c.route.id === route.id))
  await controller.postgres.kill()
  await controller.postgres.start()
  const second = await poll(
    () => controller.client.createRoute(app.id, { type: 'http', service: 's', domain: 'b.test' }),
    { timeoutMs: 30_000, what: 'a write after the restart' },
  )
  await until('the route made after the restart', () =>
    changes.some(c => c.kind === 'set' && c.route.id === second.id),
  )
  await controller.client.deleteRoute(app.id, `http/${second.id}`)
  await until('its removal', () => changes.some(c => c.kind === 'remove' && c.route.id === second.id))
  stop.abort()
  await reading
})

test('while the database is away, calls may be repeated and the process is unhealthy', async () => {
  await controller.postgres.kill()
  const authorization = `Basic ${Buffer.from(`:${controller.key}`).toString('base64')}`
  const response = await fetch(`${controller.url}/apps`, { headers: { authorization } })
  const status = await fetch(`${controller.url}/.well-known/status`, { headers: { authorization } })
  await controller.postgres.start()
  assert.equal(response.status, 500)
  assert.equal(((await response.json()) as { retry: boolean }).retry, true)
  assert.equal(status.status, 500)
  assert.ok(Array.isArray(await controller.client.apps()))
})

test('a process that is told to stop ends its streams and exits with 0', async () => {
  const other = await controller.another()
  const response = await fetch(`${other.url}/events`, {
    headers: { authorization: `Basic ${Buffer.from(`:${other.key}`).toString('base64')}` },
  })
  const ended = response.text()
  assert.equal(await other.stopProcess(), 0)
  assert.equal(await ended, '')
})
