// The worker's tasks on a real controller, PostgreSQL, discoverd, scheduler and host daemon (jobs are plain processes).
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import pg from 'pg'
import { isNotFound } from '../../controller/client.ts'
import type {
  App,
  AppInput,
  Deployment,
  DeploymentEvent,
  ProcessType,
  Release,
} from '../../controller/types.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { clientConfig, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
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
let worker: TestProcess
/** What the blobstore was asked to delete. */
const deletedFiles: string[] = []
let blobstore: Server

before(async () => {
  platform = await startPlatform(78)
  blobstore = createServer((req, res) => {
    if (req.method === 'DELETE') deletedFiles.push(req.url ?? '')
    res.writeHead(req.url?.includes('missing') ? 404 : 200).end()
  })
  await new Promise<void>(resolve => blobstore.listen(0, '127.0.0.1', resolve))
  await platform.startScheduler()
  worker = await startWorker()
})
after(async () => {
  await platform.remove()
  blobstore.close()
})

function startWorker(): Promise<TestProcess> {
  const { port } = blobstore.address() as AddressInfo
  return platform.startWorker({ BLOBSTORE_URL: `http://127.0.0.1:${port}` })
}

type Deployed = { readonly app: App; readonly old: Release; readonly service: string }

/** An app that runs, so that a deployment has something to replace. */
async function runningApp(
  input: AppInput,
  processes: Readonly<Record<string, ProcessType>>,
  counts: Readonly<Record<string, number>>,
): Promise<Omit<Deployed, 'service'>> {
  const { client } = platform
  const app = await client.createApp({ deploy_timeout: 20, ...input })
  const old = await createRelease(client, app, processes)
  await client.setAppRelease(app.id, old.id)
  await scaleTo(client, app, old, counts)
  return { app, old }
}

async function webApp(strategy: NonNullable<AppInput['strategy']>, count: number): Promise<Deployed> {
  const service = uniqueName('svc')
  const web = { web: httpProcess(service, 'old') }
  return { service, ...(await runningApp({ name: uniqueName('web'), strategy }, web, { web: count })) }
}

/** The deployment's last event. */
async function outcome(deployment: Deployment): Promise<DeploymentEvent> {
  const stop = AbortSignal.timeout(patienceMs)
  for await (const event of platform.client.streamDeployment(deployment, { signal: stop }))
    if (event.data.status === 'complete' || event.data.status === 'failed') return event.data
  throw new Error('the deployment has no end')
}

/** Asks the service's instances again and again; what fails or is missing is counted. */
function load(service: string): {
  readonly end: () => Promise<{ least: number; failed: number; texts: Set<string> }>
} {
  const seen = { least: Number.POSITIVE_INFINITY, failed: 0, texts: new Set<string>() }
  let going = true
  const asking = (async () => {
    while (going) {
      const all = await addresses(platform.discoverd.client, service)
      seen.least = Math.min(seen.least, all.length)
      for (const addr of all)
        try {
          seen.texts.add(await (await fetch(`http://${addr}/`)).text())
        } catch {
          // Between the list and the request an old job may have gone: it counts only when it is still listed.
          if ((await addresses(platform.discoverd.client, service)).includes(addr)) seen.failed++
        }
      await sleep(10)
    }
  })()
  return {
    async end() {
      going = false
      await asking
      return seen
    },
  }
}

test('one-by-one replaces every job and never runs fewer than before', async () => {
  const { client } = platform
  const { app, old, service } = await webApp('one-by-one', 3)
  const fresh = await createRelease(client, app, { web: httpProcess(service, 'new') })
  const requests = load(service)
  const deployment = await client.createDeployment(app.id, fresh.id)
  assert.equal((await outcome(deployment)).status, 'complete')
  const { least, failed, texts } = await requests.end()
  assert.ok(least >= 3, `only ${least} instances at a time`)
  assert.equal(failed, 0)
  assert.deepEqual(texts, new Set(['old', 'new']))
  assert.equal((await upJobs(client, app, fresh)).length, 3)
  assert.equal((await upJobs(client, app, old)).length, 0)
  assert.equal((await client.appRelease(app.id)).id, fresh.id)
  assert.ok((await client.deployment(deployment.id)).finished_at)
})

test('all-at-once replaces every job', async () => {
  const { client } = platform
  const { app, old, service } = await webApp('all-at-once', 2)
  const fresh = await createRelease(client, app, { web: httpProcess(service, 'new') })
  assert.equal((await outcome(await client.createDeployment(app.id, fresh.id))).status, 'complete')
  assert.equal((await upJobs(client, app, fresh)).length, 2)
  await poll(async () => (await upJobs(client, app, old)).length === 0, {
    timeoutMs: patienceMs,
    what: 'the old jobs to end',
  })
})

test('a release whose jobs end at once is rolled back, and the old one never stops answering', async () => {
  const { client } = platform
  const { app, old, service } = await webApp('one-by-one', 2)
  const broken = await createRelease(client, app, { web: brokenProcess })
  const requests = load(service)
  const event = await outcome(await client.createDeployment(app.id, broken.id))
  assert.equal(event.status, 'failed')
  assert.match(event.error ?? '', /web job failed to start/)
  const { least, failed, texts } = await requests.end()
  assert.equal(least, 2)
  assert.equal(failed, 0)
  assert.deepEqual(texts, new Set(['old']))
  assert.equal((await client.appRelease(app.id)).id, old.id)
  assert.deepEqual((await client.formation(app.id, old.id)).processes, { web: 2 })
  await assert.rejects(client.formation(app.id, broken.id), isNotFound)
  await poll(async () => (await client.jobs(app.id)).every(j => j.release === old.id || j.state === 'down'), {
    timeoutMs: patienceMs,
    what: 'the jobs of the broken release to go',
  })
})

test('a release that never becomes healthy is rolled back after the deploy timeout', async () => {
  const { client } = platform
  const service = uniqueName('svc')
  const { app, old } = await runningApp(
    { name: uniqueName('sick'), strategy: 'all-at-once', deploy_timeout: 3 },
    { web: httpProcess(service, 'old') },
    { web: 1 },
  )
  const { args: _args, ...rest } = httpProcess(service, 'new')
  const sick = await createRelease(client, app, { web: { ...rest, ...idleProcess } })
  const event = await outcome(await client.createDeployment(app.id, sick.id))
  assert.equal(event.status, 'failed')
  assert.match(event.error ?? '', /timed out after 3 s/)
  assert.equal((await upJobs(client, app, old)).length, 1)
})

test('a new release takes over the data of the old one', async () => {
  const { client } = platform
  const db = { ...idleProcess, volumes: [{ path: '/data' }] }
  const { app, old } = await runningApp({ name: uniqueName('db'), strategy: 'one-by-one' }, { db }, { db: 1 })
  const [before] = await upJobs(client, app, old)
  const fresh = await createRelease(client, app, { db })
  assert.equal((await outcome(await client.createDeployment(app.id, fresh.id))).status, 'complete')
  const [now] = await upJobs(client, app, fresh)
  assert.deepEqual(now?.volumes, before?.volumes)
  assert.equal((await client.appVolumes(app.id)).length, 1)
})

for (const signal of ['SIGKILL', 'SIGTERM'] as const)
  test(`a deployment whose worker gets ${signal} is finished by the next one`, async () => {
    const { client } = platform
    const { app, old, service } = await webApp('one-by-one', 4)
    const fresh = await createRelease(client, app, { web: httpProcess(service, 'new') })
    const deployment = await client.createDeployment(app.id, fresh.id)
    await poll(async () => (await upJobs(client, app, fresh)).length >= 1, {
      timeoutMs: patienceMs,
      intervalMs: 10,
      what: 'the first new job',
    })
    await worker.kill(signal)
    assert.equal((await client.deployment(deployment.id)).finished_at, undefined)
    worker = await startWorker()
    assert.equal((await outcome(deployment)).status, 'complete')
    assert.equal((await upJobs(client, app, fresh)).length, 4)
    assert.equal((await upJobs(client, app, old)).length, 0)
  })

test('a deployment that somebody cancels is rolled back and says so', async () => {
  const { client } = platform
  const { app, old } = await runningApp(
    { name: uniqueName('cancel'), strategy: 'one-by-one', deploy_timeout: 60 },
    { web: httpProcess(uniqueName('svc'), 'old') },
    { web: 2 },
  )
  const { args: _args, ...rest } = httpProcess(uniqueName('svc'), 'new')
  const sick = await createRelease(client, app, { web: { ...rest, ...idleProcess } })
  const deployment = await client.createDeployment(app.id, sick.id)
  await poll(async () => (await client.jobs(app.id)).some(j => j.release === sick.id), {
    timeoutMs: patienceMs,
    what: 'a new job',
  })
  await client.cancelDeployment(deployment.id)
  const event = await outcome(deployment)
  assert.equal(event.status, 'failed')
  assert.match(event.error ?? '', /cancelled/)
  assert.equal((await upJobs(client, app, old)).length, 2)
  assert.equal((await client.app(app.id)).release, old.id)
})

test('a worker that stood still while another brought the deployment to its end leaves it so', async t => {
  const { client } = platform
  const stepMs = 8_000
  const { app, old, service } = await webApp('one-by-one', 1)
  await client.updateApp(app.id, { deploy_timeout: stepMs / 1000 })
  const dir = await mkdtemp(join(tmpdir(), 'flynn-test-worker-'))
  t.after(() => rm(dir, { recursive: true }))
  const signal = join(dir, 'go')
  const late = httpProcess(service, 'new')
  const code = `const begin = () => { ${late.args?.at(-1)} }
    const look = () => require('fs').existsSync('${signal}') ? begin() : setTimeout(look, 50)
    look()`
  const fresh = await createRelease(client, app, { web: { ...late, args: [process.execPath, '-e', code] } })
  const deployment = await client.createDeployment(app.id, fresh.id)
  const begunMs = Date.now()
  await poll(async () => (await client.jobs(app.id)).some(j => j.release === fresh.id), {
    timeoutMs: patienceMs,
    what: 'a new job',
  })
  worker.freeze()
  await loseLocks()
  await writeFile(signal, '')
  const other = await startWorker()
  assert.equal((await outcome(deployment)).status, 'complete')
  // Its step is over time when it goes on. Whether it takes that for a failure or not, it has no say any more.
  await sleep(Math.max(0, begunMs + stepMs - Date.now()))
  worker.thaw()
  await poll(() => worker.log().includes('deployment_taken'), {
    timeoutMs: patienceMs,
    what: 'the first worker to leave the deployment to the other',
  })
  assert.equal((await upJobs(client, app, fresh)).length, 1)
  assert.equal((await upJobs(client, app, old)).length, 0)
  assert.equal((await client.appRelease(app.id)).id, fresh.id)
  await other.kill('SIGTERM')
})

/** What the database does when a machine no longer answers: its sessions end, and the locks that they hold. */
async function loseLocks(): Promise<void> {
  const db = new pg.Client(clientConfig(pgOptionsFromEnv(platform.controller.databaseEnv, 'test')))
  await db.connect()
  const { rowCount } = await db.query(
    `SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`,
  )
  await db.end()
  assert.ok((rowCount ?? 0) >= 2)
}

const held: ProcessType = { ...idleProcess, volumes: [{ path: '/data' }] }
const critical = { 'flynn-system-app': 'true', 'flynn-system-critical': 'true' }

for (const strategy of ['discoverd-meta', 'sirenia'] as const)
  test(`${strategy}: a critical app's only process hands its volume to the next release`, async () => {
    const { client } = platform
    const input = { name: uniqueName('heart'), strategy, meta: critical }
    const { app, old } = await runningApp(input, { db: held }, { db: 1 })
    const [before] = await upJobs(client, app, old)
    const fresh = await createRelease(client, app, { db: { ...held, env: { A: 'b' } } })
    const event = await outcome(await client.createDeployment(app.id, fresh.id))
    assert.deepEqual([event.status, event.error], ['complete', undefined])
    const [now] = await upJobs(client, app, fresh)
    assert.deepEqual(now?.volumes, before?.volumes)
    assert.equal((await upJobs(client, app, old)).length, 0)
  })

test('a critical release that ends at once is taken back without the deployment, which then says why', async () => {
  const { client } = platform
  const input = { name: uniqueName('heart'), strategy: 'discoverd-meta' as const, meta: critical }
  const { app, old } = await runningApp(input, { db: held }, { db: 1 })
  const [before] = await upJobs(client, app, old)
  const broken = await createRelease(client, app, { db: { ...held, ...brokenProcess } })
  const event = await outcome(await client.createDeployment(app.id, broken.id))
  assert.equal(event.status, 'failed')
  const [now] = await upJobs(client, app, old)
  assert.deepEqual(now?.volumes, before?.volumes)
  assert.deepEqual((await client.formation(app.id, old.id)).processes, { db: 1 })
})

test('deleting an app ends its jobs and removes routes, releases and files', async () => {
  const { client } = platform
  const { app } = await webApp('all-at-once', 2)
  await client.createRoute(app.id, { type: 'http', domain: `${app.name}.example.com`, service: 'x' })
  await client.deleteApp(app.id)
  const [event] = await poll(
    async () => {
      const events = await client.events({ app: app.id, types: ['app_deletion'] }).catch(() => [])
      const stored =
        events.length > 0 ? events : await client.events({ types: ['app_deletion'], objectId: app.id })
      return stored.length > 0 ? stored : undefined
    },
    { timeoutMs: patienceMs, what: 'the app_deletion event' },
  )
  const data = event?.data as { error: string; app_deletion: Record<string, unknown[] | string | null> }
  assert.equal(data.error, '')
  assert.equal(data.app_deletion['app'], app.id)
  assert.equal((data.app_deletion['deleted_routes'] as unknown[]).length, 1)
  assert.equal((data.app_deletion['deleted_releases'] as unknown[]).length, 1)
  await assert.rejects(client.app(app.id), isNotFound)
  assert.ok(deletedFiles.includes(`/repos/${app.id}.tar`))
  await poll(async () => (await client.activeJobs()).every(j => j.app !== app.id), {
    timeoutMs: patienceMs,
    what: 'the jobs of the app to end',
  })
})
