// The scheduler at work: on a real controller, PostgreSQL, etcd, discoverd and host daemon (jobs are plain processes).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import type { Job } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { call } from '../fixtures/controller.ts'
import {
  addresses,
  brokenProcess,
  createRelease,
  httpProcess,
  idleProcess,
  type Platform,
  patienceMs,
  scaleTo,
  startPlatform,
  type TestProcess,
  uniqueName,
  upJobs,
} from '../fixtures/platform.ts'

let platform: Platform
let scheduler: TestProcess

before(async () => {
  platform = await startPlatform(77)
  scheduler = await platform.startScheduler()
})
after(() => platform.remove())

async function newApp(prefix: string) {
  return platform.client.createApp({ name: uniqueName(prefix) })
}

const ids = (jobs: readonly Job[]): readonly string[] => jobs.map(j => j.uuid).sort()

test('as many jobs run as a scale request asks for, and their states are told in order', async () => {
  const { client } = platform
  const app = await newApp('counts')
  const release = await createRelease(client, app, { worker: idleProcess })
  const jobs = await scaleTo(client, app, release, { worker: 3 })
  assert.equal(jobs.length, 3)
  assert.equal((await scaleTo(client, app, release, { worker: 1 })).length, 1)
  const [job] = jobs
  const events = await client.events({ app: app.id, types: ['job'], objectId: job?.uuid })
  const states = events.map(e => (e.data as Job).state).reverse()
  assert.deepEqual(states.slice(0, 3), ['pending', 'starting', 'up'])
})

test('a job with a service is up when its health check has passed and discoverd lists it', async () => {
  const { client, discoverd } = platform
  const service = uniqueName('web')
  const app = await newApp('gate')
  const release = await createRelease(client, app, { web: httpProcess(service, 'hello') })
  await scaleTo(client, app, release, { web: 2 })
  const [addr] = await addresses(discoverd.client, service)
  assert.equal((await addresses(discoverd.client, service)).length, 2)
  assert.equal(await (await fetch(`http://${addr}/`)).text(), 'hello')
})

test('a job that ends is replaced by a new one', async () => {
  const { client } = platform
  const app = await newApp('restart')
  const release = await createRelease(client, app, { worker: idleProcess })
  const [job] = await scaleTo(client, app, release, { worker: 1 })
  await client.killJob(app.id, job?.id ?? '')
  const next = await poll(async () => (await upJobs(client, app)).find(j => j.uuid !== job?.uuid), {
    timeoutMs: patienceMs,
    what: 'another job',
  })
  assert.equal(next.restarts, 1)
  assert.equal((await client.job(app.id, job?.uuid ?? '')).state, 'down')
})

test('a job that ends at once is restarted with a pause after the fifth time', async () => {
  const { client } = platform
  const app = await newApp('crash')
  const release = await createRelease(client, app, { web: brokenProcess })
  const beganAt = Date.now()
  await client.createScale(app.id, release.id, { new_processes: { web: 1 } })
  const waiting = await poll(
    async () => (await client.jobs(app.id)).find(j => j.restarts === 6 && j.state === 'pending'),
    { timeoutMs: patienceMs, what: 'the sixth restart' },
  )
  assert.ok(Date.parse(waiting.run_at ?? '') > beganAt)
  const ended = (await client.jobs(app.id)).filter(j => j.state === 'down')
  assert.ok(ended.every(j => j.exit_status === 3))
  await client.deleteFormation(app.id, release.id)
})

test('a one-off job is recorded with its exit status and not restarted', async () => {
  const { client } = platform
  const app = await newApp('oneoff')
  const release = await createRelease(client, app, { web: idleProcess })
  const job = await client.runJob(app.id, { release: release.id, args: ['sh', '-c', 'exit 7'] })
  const ended = await poll(
    async () => {
      const stored = await client.job(app.id, job.uuid).catch(() => undefined)
      return stored?.state === 'down' ? stored : undefined
    },
    { timeoutMs: patienceMs, what: 'the end of the job' },
  )
  assert.equal(ended.exit_status, 7)
  assert.equal((await client.jobs(app.id)).length, 1)
})

test('a job waits for a host with its tags and starts when there is one', async () => {
  const { client, host } = platform
  const app = await newApp('tags')
  const release = await createRelease(client, app, { web: idleProcess })
  await client.createScale(app.id, release.id, {
    new_processes: { web: 1 },
    new_tags: { web: { disk: 'ssd' } },
  })
  await poll(async () => (await client.jobs(app.id)).some(j => j.state === 'pending'), {
    timeoutMs: patienceMs,
    what: 'the pending job',
  })
  const [job] = await client.jobs(app.id)
  const waiting = await client.explainJob(app.id, job?.uuid ?? '')
  assert.equal(waiting.summary, 'it waits: no host fits: 1 without its tags')
  assert.deepEqual(
    waiting.hosts?.map(h => [h.host, h.obstacle]),
    [[host.id, 'tag']],
  )
  await host.client.setTags({ disk: 'ssd' })
  await poll(async () => (await upJobs(client, app)).length === 1, { timeoutMs: patienceMs, what: 'the job' })
  await host.client.setTags({ disk: '' })
})

test('a job that asks for more memory than any host has waits, and says why', async () => {
  const { client, host } = platform
  const { resources } = await host.client.status()
  assert.ok(resources && resources.memory > 0 && resources.cpu > 0)
  const app = await newApp('memory')
  const web = (memory: number) => ({ ...idleProcess, resources: { memory: { request: memory } } })
  const big = await createRelease(client, app, { web: web(resources.memory + 1) })
  await client.createScale(app.id, big.id, { new_processes: { web: 1 } })
  const explained = await poll(
    async () => {
      const [job] = await client.jobs(app.id)
      const told = job && (await client.explainJob(app.id, job.uuid))
      return told?.hosts?.[0]?.obstacle === 'memory' ? told : undefined
    },
    { timeoutMs: patienceMs, what: 'the explanation' },
  )
  assert.equal(explained.state, 'pending')
  assert.equal(explained.requests?.memory, resources.memory + 1)
  const half = await createRelease(client, app, { web: web(Math.floor(resources.memory / 2)) })
  const [job] = await scaleTo(client, app, half, { web: 1 })
  const running = await client.explainJob(app.id, job?.uuid ?? '')
  assert.match(running.summary, new RegExp(`^it runs on ${host.id} since `))
  await scaleTo(client, app, half, { web: 0 })
  await scaleTo(client, app, big, { web: 0 })
  const over = await client.explainJob(app.id, explained.uuid)
  assert.match(over.summary, /no longer wanted/)
})

test('a restarted job finds its data', async () => {
  const { client, host } = platform
  const app = await newApp('data')
  const release = await createRelease(client, app, { db: { ...idleProcess, volumes: [{ path: '/data' }] } })
  const [job] = await scaleTo(client, app, release, { db: 1 })
  const [volume] = await client.appVolumes(app.id)
  assert.equal(volume?.job, job?.uuid)
  assert.equal(volume?.state, 'created')
  assert.ok(host.volumePath(volume?.id ?? ''))
  await client.killJob(app.id, job?.id ?? '')
  const next = await poll(async () => (await upJobs(client, app)).find(j => j.uuid !== job?.uuid), {
    timeoutMs: patienceMs,
    what: 'another job',
  })
  assert.deepEqual(next.volumes, [volume?.id])
  assert.equal((await client.appVolumes(app.id)).length, 1)
})

test('killed and started again, it restarts nothing and goes on', async () => {
  const { client, discoverd } = platform
  const service = uniqueName('keep')
  const app = await newApp('keep')
  const release = await createRelease(client, app, { web: httpProcess(service, 'x'), worker: idleProcess })
  const before = await scaleTo(client, app, release, { web: 2, worker: 2 })
  await scheduler.kill()
  scheduler = await platform.startScheduler()
  const afterwards = await scaleTo(client, app, release, { web: 3 })
  assert.equal(afterwards.length, 5)
  assert.ok(ids(before).every(id => ids(afterwards).includes(id)))
  assert.equal((await addresses(discoverd.client, service)).length, 3)
})

test('a job that ended while no scheduler ran is replaced and recorded', async () => {
  const { client, host } = platform
  const app = await newApp('away')
  const release = await createRelease(client, app, { worker: idleProcess })
  const [job] = await scaleTo(client, app, release, { worker: 1 })
  await scheduler.kill()
  await host.client.stopJob(job?.id ?? '')
  scheduler = await platform.startScheduler()
  await poll(async () => (await upJobs(client, app)).some(j => j.uuid !== job?.uuid), {
    timeoutMs: patienceMs,
    what: 'another job',
  })
  assert.equal((await client.job(app.id, job?.uuid ?? '')).state, 'down')
})

test('a host daemon that starts again keeps its jobs, and they count', async () => {
  const { client, host } = platform
  const app = await newApp('daemon')
  const release = await createRelease(client, app, { worker: idleProcess })
  const jobs = await scaleTo(client, app, release, { worker: 2 })
  await host.stopDaemon()
  await host.startDaemon()
  const more = await scaleTo(client, app, release, { worker: 3 })
  assert.ok(ids(jobs).every(id => ids(more).includes(id)))
})

test('discoverd and the database may go away and come back', async () => {
  const { client, discoverd, controller } = platform
  const app = await newApp('outage')
  const release = await createRelease(client, app, { worker: idleProcess })
  const jobs = await scaleTo(client, app, release, { worker: 2 })
  await discoverd.kill()
  await controller.postgres.kill()
  await controller.postgres.start()
  discoverd.start()
  await discoverd.ready()
  await poll(() => client.app(app.id), { timeoutMs: patienceMs, what: 'the controller' })
  const more = await scaleTo(client, app, release, { worker: 3 })
  assert.ok(ids(jobs).every(id => ids(more).includes(id)))
})

test('of two schedulers one acts, and the other takes over when it is gone', async () => {
  const { client } = platform
  const app = await newApp('two')
  const release = await createRelease(client, app, { worker: idleProcess })
  const second = await platform.startScheduler()
  const before = await scaleTo(client, app, release, { worker: 2 })
  assert.equal((await client.jobs(app.id)).length, 2)
  await scheduler.kill()
  scheduler = second
  const afterwards = await scaleTo(client, app, release, { worker: 3 })
  assert.ok(ids(before).every(id => ids(afterwards).includes(id)))
})

test('one that led and stood still, while another took over, does nothing about what it missed', async () => {
  const { client } = platform
  const app = await newApp('still')
  const release = await createRelease(client, app, { worker: idleProcess })
  const [job] = await scaleTo(client, app, release, { worker: 1 })
  const other = await platform.startScheduler()
  scheduler.freeze()
  // Both are in its streams when it thaws, one after the other; the other one sees the second only.
  for (const worker of [0, 1]) await client.createScale(app.id, release.id, { new_processes: { worker } })
  await poll(() => leads(other), { timeoutMs: patienceMs, what: 'the other to lead' })
  scheduler.thaw()
  await poll(async () => !(await leads(scheduler)) && (await knows(scheduler, app.id, { worker: 1 })), {
    timeoutMs: patienceMs,
    what: 'the first to know what went on',
  })
  // Whoever leads goes on.
  const jobs = await scaleTo(client, app, release, { worker: 2 })
  assert.ok(ids(jobs).includes(job?.uuid ?? ''))
  assert.equal((await client.jobs(app.id)).length, 2)
  await other.kill()
})

test('one that does not hear discoverd leads no more, until it does', async () => {
  const { discoverd } = platform
  await poll(() => leads(scheduler), { timeoutMs: patienceMs, what: 'it to lead' })
  await discoverd.kill()
  await poll(async () => !(await leads(scheduler)), { timeoutMs: patienceMs, what: 'it to stop' })
  discoverd.start()
  await discoverd.ready()
  await poll(() => leads(scheduler), { timeoutMs: patienceMs, what: 'it to lead again' })
})

async function leads(of: TestProcess): Promise<boolean> {
  return (await debugState(of)).is_leader ?? false
}

async function knows(of: TestProcess, app: string, counts: Record<string, number>): Promise<boolean> {
  const { formations } = await debugState(of)
  return Object.values(formations).some(f => f.appId === app && isDeepStrictEqual(f.counts, counts))
}

type DebugState = {
  readonly is_leader?: boolean
  readonly formations: Readonly<Record<string, { readonly appId: string; readonly counts: unknown }>>
}

async function debugState(of: TestProcess): Promise<DebugState> {
  const { key } = platform.controller
  const { json } = await call({ url: `http://127.0.0.1:${of.port}`, key }, 'GET', '/debug/state')
  return json as DebugState
}
