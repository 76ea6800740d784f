// Jobs through the controller: as the scheduler reports them, one-off ones, and attached ones on a raw connection
// (contract controller.md 2.8 and appendix C, item 9). The host is a stand-in that speaks the host's protocol.
import assert from 'node:assert/strict'
import { connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import type { App, Job, NewJob, Release } from '../../controller/types.ts'
import { encodeFrame, frameDecoder } from '../../host/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import {
  assertCode,
  assertEmpty404,
  assertField,
  call,
  startController,
  type TestController,
} from '../fixtures/controller.ts'
import { type StandIn, startStandIn } from '../fixtures/stand-in-host.ts'

const waitMs = 30_000
let controller: TestController
let host: StandIn
let app: App
let release: Release

before(async () => {
  host = await startStandIn()
  controller = await startController({ env: { DISCOVERD: host.addr, EXTERNAL_IP: '127.0.0.1' } })
  app = await controller.client.createApp({ name: 'jobs' })
  const artifact = await controller.client.createArtifact({
    type: 'flynn',
    uri: 'http://x/image',
    layer_url_template: 'http://x/{id}',
    manifest: {
      _type: 'application/vnd.flynn.image.manifest.v1+json',
      entrypoints: { _default: { args: ['/bin/default'], env: { FROM: 'image', DB: 'image' } } },
      rootfs: [
        { layers: [{ id: 'layer', type: 'application/vnd.flynn.image.squashfs.v1', length: 3, hashes: {} }] },
      ],
    },
  })
  release = await controller.client.createRelease({
    app_id: app.id,
    artifacts: [artifact.id],
    env: { DB: 'release' },
    processes: { web: {} },
  })
})
after(async () => {
  await controller?.stop()
  await host?.close()
})

function aJob(over: Partial<Job> = {}): Job {
  return { uuid: uuid(), app: app.id, release: release.id, type: 'web', state: 'pending', ...over }
}

test('a job is recorded from pending to down, and each state is told once', async () => {
  const job = aJob({ meta: { a: 'b' } })
  await controller.client.putJob(job)
  const placed = { ...job, id: `hosta-${job.uuid}`, host_id: 'hosta' }
  await controller.client.putJob({ ...placed, state: 'up', restarts: 1 })
  await controller.client.putJob({ ...placed, state: 'up', restarts: 2 })
  const { meta: _, ...withoutMeta } = placed
  await controller.client.putJob({ ...withoutMeta, state: 'down', exit_status: 0 })
  const stored = await controller.client.job(app.name, job.uuid)
  assert.equal(stored.exit_status, 0)
  assert.equal(stored.restarts, undefined)
  assert.deepEqual(stored.meta, { a: 'b' })
  assert.equal((await controller.client.job(app.name, placed.id)).uuid, job.uuid)
  const events = await controller.client.events({ objectId: job.uuid, types: ['job'] })
  assert.deepEqual(events.map(e => (e.data as Job).state).reverse(), ['pending', 'up', 'down'])
})

test('a blocked job can be recorded', async () => {
  assert.equal((await controller.client.putJob(aJob({ state: 'blocked' }))).state, 'blocked')
})

test('active jobs are those that are pending, starting, up or stopping', async () => {
  const states = ['pending', 'starting', 'up', 'stopping', 'down', 'crashed', 'failed'] as const
  const jobs = states.map(state => aJob({ state }))
  for (const job of jobs) await controller.client.putJob(job)
  const active = new Set((await controller.client.activeJobs()).map(j => j.uuid))
  assert.deepEqual(
    jobs.filter(j => active.has(j.uuid)).map(j => j.state),
    ['pending', 'starting', 'up', 'stopping'],
  )
})

test('a job keeps its volumes in order', async () => {
  const ids = [uuid(), uuid()]
  for (const id of ids)
    await controller.client.putVolume({ id, host_id: 'h', type: 'data', state: 'created' })
  const job = aJob({ volumes: ids })
  await controller.client.putJob(job)
  assert.deepEqual((await controller.client.job('-', job.uuid)).volumes, ids)
})

test('a job with a volume that is not registered is refused by the name of the volume', async () => {
  const volume = uuid()
  const job = aJob({ volumes: [volume] })
  const answer = await call(controller, 'PUT', '/apps/x/jobs/y', { body: job })
  assertField(answer, 'volumes')
  assert.match(answer.text, new RegExp(volume))
  await controller.client.putVolume({ id: volume, host_id: 'h', type: 'data', state: 'created' })
  assert.deepEqual((await controller.client.putJob(job)).volumes, [volume])
})

test('a job with a wrong state, app or id is refused', async () => {
  const put = (body: unknown) => call(controller, 'PUT', '/apps/x/jobs/y', { body })
  assertField(await put({ ...aJob(), state: 'dancing' }), 'state')
  assertField(await put({ ...aJob(), uuid: 'x' }), 'uuid')
  assertField(await put({ ...aJob(), app: 'jobs' }), 'app')
  assertCode(await put({ ...aJob(), app: uuid() }), 400, 'validation_error')
})

test('a kill is passed to the host of the job', async () => {
  const job = aJob({ state: 'up' })
  await controller.client.putJob({ ...job, id: `hosta-${job.uuid}`, host_id: 'hosta' })
  await controller.client.killJob(app.name, job.uuid)
  assert.ok(host.stopped.includes(`hosta-${job.uuid}`))
})

test('a job that is nowhere, or on a host that is not there, cannot be killed', async () => {
  const [unplaced, lost] = [aJob(), aJob({ state: 'up' })]
  await controller.client.putJob(unplaced)
  await controller.client.putJob({ ...lost, id: `gone-${lost.uuid}`, host_id: 'gone' })
  const answer = await call(controller, 'DELETE', `/apps/jobs/jobs/${unplaced.uuid}`)
  assertCode(answer, 400, 'validation_error')
  assert.match(answer.text, /cannot kill a job which has not been placed on a host/)
  assertCode(await call(controller, 'DELETE', `/apps/jobs/jobs/${lost.uuid}`), 502, 'unknown_error')
  assertEmpty404(await call(controller, 'DELETE', `/apps/jobs/jobs/${uuid()}`))
})

test('a detached job is put on a host with its environment in layers', async () => {
  const job = await controller.client.runJob(app.name, {
    release: release.id,
    release_env: true,
    args: ['echo', 'hi'],
    env: { MINE: 'yes' },
    meta: { 'flynn-controller.app': 'spoofed', own: 'meta' },
  })
  assert.deepEqual(Object.keys(job).sort(), ['args', 'host_id', 'id', 'release', 'uuid'])
  assert.equal(job.id, `hosta-${job.uuid}`)
  const put = host.jobs.at(-1)
  const env = put?.config['env'] as Record<string, string>
  assert.equal(put?.id, job.id)
  assert.equal(env['DB'], 'release')
  assert.equal(env['FROM'], 'image')
  assert.equal(env['MINE'], 'yes')
  assert.equal(env['FLYNN_APP_ID'], app.id)
  assert.equal(put?.metadata['flynn-controller.app'], app.id)
  assert.equal(put?.metadata['own'], 'meta')
  assert.equal(put?.config['stdin'], undefined)
})

test('a job may run the release of another app', async () => {
  const other = await controller.client.createApp({ name: 'jobs-other' })
  await controller.client.runJob(other.name, { release: release.id })
  assert.equal(host.jobs.at(-1)?.metadata['flynn-controller.app'], other.id)
})

test('a job without a release, with an unknown one or without artifacts is refused', async () => {
  const post = (body: unknown) => call(controller, 'POST', `/apps/${app.name}/jobs`, { body })
  assertField(await post({}), 'release')
  assertEmpty404(await post({ release: uuid() }))
  const bare = await controller.client.createRelease({ app_id: app.id })
  assertField(await post({ release: bare.id }), 'release.ArtifactIDs')
  assertField(await post({ release: bare.id, artifacts: [uuid()] }), 'artifacts')
})

test('no job is put on a host that shuts down', async () => {
  host.shutdown = true
  const answer = await call(controller, 'POST', `/apps/${app.name}/jobs`, { body: { release: release.id } })
  host.shutdown = false
  assertCode(answer, 503, 'unknown_error')
  assert.match(answer.text, /shutting down/)
})

test('an attached job sends its output and exit status, and reads its input', async () => {
  host.onAttach = socket => {
    const decoder = frameDecoder()
    let input = ''
    socket.on('data', chunk => {
      for (const frame of decoder.push(chunk)) {
        if (frame.type !== 'data') continue
        if (frame.data.length > 0) input += Buffer.from(frame.data).toString()
        else {
          socket.write(
            encodeFrame({ type: 'data', stream: 'stdout', data: Buffer.from(input.toUpperCase()) }),
          )
          socket.end(encodeFrame({ type: 'exit', status: 7 }))
        }
      }
    })
  }
  const attachment = await controller.client.runJobAttached(app.name, { release: release.id, args: ['cat'] })
  await attachment.writeStdin(Buffer.from('hello'))
  attachment.closeStdin()
  const frames = []
  for await (const frame of attachment.frames()) frames.push(frame)
  attachment.close()
  const output = frames.map(f => (f.type === 'data' ? Buffer.from(f.data).toString() : '')).join('')
  assert.equal(output, 'HELLO')
  assert.deepEqual(frames.at(-1), { type: 'exit', status: 7 })
  assert.equal(host.jobs.at(-1)?.config['stdin'], true)
})

function attachRequest(job: NewJob): string {
  const body = JSON.stringify(job)
  return [
    `POST /apps/${app.name}/jobs HTTP/1.1`,
    'Host: controller',
    `Authorization: Basic ${Buffer.from(`:${controller.key}`).toString('base64')}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
    'Connection: upgrade',
    'Upgrade: flynn-attach/0',
    '',
    body,
  ].join('\r\n')
}

function openSocket(): Promise<{ socket: Socket; text: () => Buffer; ended: Promise<void> }> {
  const port = Number(new URL(controller.url).port)
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, allowHalfOpen: true })
    const chunks: Buffer[] = []
    socket.on('data', chunk => chunks.push(chunk))
    const ended = new Promise<void>(done => socket.once('end', () => done()))
    socket.once('error', reject)
    socket.once('connect', () => resolve({ socket, text: () => Buffer.concat(chunks), ended }))
  })
}

test('the upgrade is answered with exactly the lines that clients expect, and no state byte', async () => {
  host.onAttach = socket => {
    socket.end(encodeFrame({ type: 'exit', status: 0 }))
  }
  const { socket, text, ended } = await openSocket()
  socket.write(attachRequest({ release: release.id }))
  await ended
  socket.destroy()
  const exit = Buffer.from(encodeFrame({ type: 'exit', status: 0 })).toString('latin1')
  assert.equal(
    text().toString('latin1'),
    `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: flynn-attach/0\r\n\r\n${exit}`,
  )
})

test('a large body with frames right behind it, then a half-closed connection, loses nothing', async () => {
  const stdin = 'x'.repeat(300_000)
  let received = 0
  let halfClosed = false
  host.onAttach = socket => {
    socket.on('data', chunk => {
      received += chunk.length
    })
    socket.once('end', () => {
      halfClosed = true
      const data = Buffer.from(`got ${received}`)
      socket.write(encodeFrame({ type: 'data', stream: 'stdout', data }))
      socket.end(encodeFrame({ type: 'exit', status: 3 }))
    })
  }
  const frames = Buffer.concat([
    encodeFrame({ type: 'data', stream: 'stdin', data: Buffer.from(stdin) }),
    encodeFrame({ type: 'data', stream: 'stdin', data: Buffer.alloc(0) }),
  ])
  const { socket, text, ended } = await openSocket()
  const request = attachRequest({ release: release.id, env: { BIG: 'y'.repeat(200_000) } })
  socket.write(Buffer.concat([Buffer.from(request), frames]))
  socket.end()
  await ended
  socket.destroy()
  assert.ok(halfClosed)
  const answer = text()
  const start = answer.indexOf('\r\n\r\n') + 4
  const decoded = frameDecoder().push(answer.subarray(start))
  assert.equal(decoded[0]?.type === 'data' && Buffer.from(decoded[0].data).toString(), `got ${frames.length}`)
  assert.deepEqual(decoded[1], { type: 'exit', status: 3 })
})

test('a caller that goes away ends the attachment', async () => {
  let closed = false
  host.onAttach = socket => {
    // Only a write shows that nobody reads any more: the caller's last word looks like the end of its input.
    const data = encodeFrame({ type: 'data', stream: 'stdout', data: Buffer.from('tick') })
    const ticking = setInterval(() => socket.write(data), 20)
    socket.once('close', () => {
      clearInterval(ticking)
      closed = true
    })
    socket.resume()
  }
  const attachment = await controller.client.runJobAttached(app.name, { release: release.id })
  attachment.close()
  await poll(() => closed, { timeoutMs: waitMs, what: 'the end of the attachment' })
})

test('errors before the upgrade are plain answers', async () => {
  const cases: [string, RegExp][] = [
    [attachRequest({ release: uuid() }), /^HTTP\/1\.1 404 [^\r]*\r\nContent-Length: 0\r\n/],
    [attachRequest({ release: '' }), /^HTTP\/1\.1 400 .*"validation_error".*release/s],
    [
      attachRequest({ release: release.id }).replace(/Authorization: [^\r]*/, 'X: y'),
      /^HTTP\/1\.1 401 [^\r]*\r\nContent-Length: 0\r\n/,
    ],
    [attachRequest({ release: release.id }).replace(/\{/, '['), /^HTTP\/1\.1 400 .*"syntax_error"/s],
  ]
  for (const [request, expected] of cases) {
    const { socket, text, ended } = await openSocket()
    socket.write(request)
    await ended
    socket.destroy()
    assert.match(text().toString(), expected)
  }
})

test('a job that the host refuses is an error that names the host', async () => {
  host.onAttach = socket => {
    socket.end(encodeFrame({ type: 'error', message: 'host: no room' }))
  }
  const { socket, text, ended } = await openSocket()
  host.refuseAttach = true
  socket.write(attachRequest({ release: release.id }))
  await ended
  host.refuseAttach = false
  socket.destroy()
  assert.match(text().toString(), /^HTTP\/1\.1 502 .*host hosta could not attach to the job: host: no room/s)
})
