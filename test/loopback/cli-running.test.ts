// The CLI with apps that run: scale, kill, deployments followed job by job, and what is told when one fails. On a real
// controller, scheduler, worker and host daemon whose jobs are plain processes (contract cli.md 8.2, 8.3).
import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import type { App, Job, Release } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import {
  brokenProcess,
  createRelease,
  httpProcess,
  idleProcess,
  type Platform,
  patienceMs,
  scaleTo,
  startPlatform,
  uniqueName,
  upJobs,
} from '../fixtures/platform.ts'
import { clusterAt, type Session, startSession } from './cli-session.ts'

let platform: Platform
let session: Session
let blobstore: Server

before(async () => {
  platform = await startPlatform(84)
  await platform.startScheduler()
  // Deletions take files away, and there are none here.
  blobstore = createServer((_req, res) => res.writeHead(404).end())
  await new Promise<void>(resolve => blobstore.listen(0, '127.0.0.1', resolve))
  const { port } = blobstore.address() as AddressInfo
  await platform.startWorker({ BLOBSTORE_URL: `http://127.0.0.1:${port}` })
  session = await startSession(clusterAt(platform.controller.url, platform.controller.key))
})
after(async () => {
  await session?.remove()
  await platform?.remove()
  blobstore?.close()
})

async function runningApp(web: number): Promise<{ app: App; release: Release }> {
  const { client } = platform
  const name = uniqueName('cli')
  const app = await client.createApp({ name, deploy_timeout: 20, strategy: 'one-by-one' })
  const processes = { web: httpProcess(`${name}-web`, 'hello'), worker: idleProcess }
  const release = await createRelease(client, app, processes)
  await client.setAppRelease(app.id, release.id)
  if (web > 0) await scaleTo(client, app, release, { web })
  return { app, release }
}

const jobPattern =
  /^\d\d:\d\d:\d\d\.\d{3} ==> web (hosta-)?[0-9a-f-]{36} (pending|starting|up|stopping|down)$/

test('scale prints each job as it changes, on standard output, and how long it took', async () => {
  const { app, release } = await runningApp(0)
  const { code, stdout, stderr } = await session.flynn(['-a', app.name, 'scale', 'web=2'])
  assert.deepEqual([code, stderr], [0, ''])
  const lines = stdout.trimEnd().split('\n')
  assert.deepEqual([lines[0], lines[1]], ['scaling web: 0=>2', ''])
  assert.match(lines.at(-1) ?? '', /^scale completed in ([\d.]+ms|[\d.]+s)$/)
  const jobs = lines.slice(2, -2)
  assert.ok(
    jobs.every(line => jobPattern.test(line)),
    stdout,
  )
  assert.equal(jobs.filter(line => line.endsWith(' up')).length, 2)
  assert.equal((await upJobs(platform.client, app, release)).length, 2)
})

test('a scale that changes nothing ends at once', async () => {
  const { app } = await runningApp(1)
  const text = await session.ok(['-a', app.name, 'scale', 'web=1'])
  assert.match(text, /^scaling \n\n\nscale completed in [\d.]+m?s\n$/)
})

test('--all shows the releases that run and which is current', async () => {
  const { app, release } = await runningApp(1)
  const other = await createRelease(platform.client, app, { web: idleProcess })
  await session.ok(['-a', app.name, 'scale', '-r', other.id, 'web=1'])
  const text = await session.ok(['-a', app.name, 'scale', '--all'])
  assert.equal(text, `${other.id}\nweb=1\n\n${release.id} (current)\nweb=1\n`)
})

test('a process that ends again and again is told with its status, and waiting for it ends', async () => {
  const { client } = platform
  const app = await client.createApp({ name: uniqueName('cli') })
  const service = `${app.name}-web`
  const web = { ...httpProcess(service, ''), args: brokenProcess.args ?? [] }
  const release = await createRelease(client, app, { web })
  await client.setAppRelease(app.id, release.id)
  const { code, stderr } = await session.flynn(['-a', app.name, 'scale', 'web=1'])
  assert.equal(code, 1)
  assert.match(stderr, /^web hosta-[0-9a-f-]{36} ended with status 3\n/)
  assert.match(stderr, /not scaled: its jobs end again and again/)
  assert.equal((await session.flynn(['-a', app.name, 'scale', 'web=0'])).code, 0)
})

test('kill ends a job, and the scheduler starts another one', async () => {
  const { app } = await runningApp(1)
  const [job] = await upJobs(platform.client, app)
  const killed = await session.flynn(['-a', app.name, 'kill', job?.id ?? ''])
  assert.deepEqual(killed, { code: 0, stdout: '', stderr: `Job ${job?.id} killed.\n` })
  await poll(async () => (await upJobs(platform.client, app)).some(j => j.id !== job?.id), {
    timeoutMs: patienceMs,
    what: 'a new job',
  })
})

test('a change of environment is followed job by job on standard error', async () => {
  const { app } = await runningApp(1)
  const { code, stdout, stderr } = await session.flynn(['-a', app.name, 'env', 'set', 'A=1'])
  assert.deepEqual([code, stdout], [0, ''])
  const lines = stderr.trimEnd().split('\n')
  assert.match(lines.at(-1) ?? '', /^Created release [0-9a-f-]{36}\.$/)
  assert.ok(
    lines.slice(0, -1).every(line => jobPattern.test(line)),
    stderr,
  )
  assert.ok(lines.some(line => line.endsWith(' up')))
  const release = await platform.client.appRelease(app.id)
  assert.deepEqual(release.env, { A: '1' })
  assert.equal((await upJobs(platform.client, app, release)).length, 1)
})

test('a plan names the processes that a deployment would replace', async () => {
  const { app } = await runningApp(1)
  const text = await session.ok(['-a', app.name, 'env', 'set', 'A=1', '--plan'])
  assert.equal(text, '+ env A: 1\n=> a new release replaces web=1, one-by-one\n')
})

test('a deployment that fails says why, exits with 1, and the old release runs on', async () => {
  const { app, release } = await runningApp(1)
  const broken = await createRelease(platform.client, app, {
    web: { ...brokenProcess, service: `${app.name}-web` },
  })
  const { code, stdout, stderr } = await session.flynn([
    '-a',
    app.name,
    'release',
    'rollback',
    '-y',
    broken.id,
  ])
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /^web hosta-[0-9a-f-]{36} ended with status 3$/m)
  assert.match(stderr, /^deploy failed: .*status 3.*the old release serves on\)\n$/m)
  assert.equal((await platform.client.appRelease(app.id)).id, release.id)
  assert.equal((await upJobs(platform.client, app, release)).length, 1)
})

test('a deployment whose jobs start and never come up says so of them when its time is over', async () => {
  const { app } = await runningApp(1)
  await platform.client.updateApp(app.id, { deploy_timeout: 3 })
  const web = { ...httpProcess(`${app.name}-web`, ''), args: ['sleep', '1000'] }
  const silent = await createRelease(platform.client, app, { web })
  const { code, stderr } = await session.flynn(['-a', app.name, 'release', 'rollback', '-y', silent.id])
  assert.equal(code, 1)
  assert.match(stderr, /^web hosta-[0-9a-f-]{36} started and never came up \(it has to listen on \$PORT\)$/m)
  assert.match(stderr, /^deploy failed: timed out after 3 s .*the old release serves on\)\n$/m)
})

test('an interrupt while a deployment goes on ends the command with 0 and leaves it going', async () => {
  const { app } = await runningApp(1)
  let sent = false
  const { code, stderr } = await session.flynn(['-a', app.name, 'env', 'set', 'B=2'], {
    onOutput(text, kill) {
      if (sent || !text.includes('==>')) return
      sent = true
      kill('SIGINT')
    },
  })
  assert.equal(code, 0)
  assert.match(stderr, /The deployment goes on/)
  await poll(async () => (await platform.client.appRelease(app.id)).env?.['B'] === '2', {
    timeoutMs: patienceMs,
    what: 'the deployment to end',
  })
})

test('a deployment under way is cancelled, and the old release is back', async () => {
  const { app, release } = await runningApp(1)
  const never = {
    args: ['sleep', '1000'],
    service: `${app.name}-web`,
    ports: httpProcess(`${app.name}-web`, '').ports ?? [],
  }
  const stuck = await createRelease(platform.client, app, { web: never })
  const deployment = await platform.client.createDeployment(app.id, stuck.id)
  const cancelled = await session.flynn(['-a', app.name, 'deployment', 'cancel'])
  assert.deepEqual(cancelled, { code: 0, stdout: '', stderr: `Cancelled deployment ${deployment.id}.\n` })
  assert.equal((await platform.client.appRelease(app.id)).id, release.id)
  assert.match(
    await session.ok(['-a', app.name, 'deployment']),
    new RegExp(`^${deployment.id} +failed `, 'm'),
  )
})

test('delete counts what went with the app', async () => {
  const { app } = await runningApp(1)
  const { code, stdout, stderr } = await session.flynn(['-a', app.name, 'delete', '-y'])
  assert.deepEqual([code, stdout], [0, ''], stderr)
  assert.match(
    stderr,
    new RegExp(
      `^Deleted ${app.name} \\(removed \\d routes, deleted 1 releases, deprovisioned 0 resources\\)\n$`,
    ),
  )
  const jobs = await session.flynn(['-a', app.name, 'ps'])
  assert.ok(jobs.code === 1 && jobs.stderr.startsWith('controller: resource not found'))
})

test('run -d prints the id of the job it has started', async () => {
  const { app } = await runningApp(0)
  const { code, stdout, stderr } = await session.flynn(['-a', app.name, 'run', '-d', 'sleep', '1000'])
  assert.deepEqual([code, stdout], [0, ''])
  assert.match(stderr, /^hosta-[0-9a-f-]{36}\n$/)
  const jobs = await session.json<Job[]>(['-a', app.name, 'ps', '-a'])
  assert.ok(jobs.some(j => j.id === stderr.trim()))
})
