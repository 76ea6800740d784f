// The controller's HTTP API from outside, on a real PostgreSQL (contract controller.md 1, 2 and appendix C).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { App, Artifact, Deployment, Release, ScaleRequest } from '../../controller/types.ts'
import {
  type Answer,
  assertCode,
  assertEmpty404,
  assertField,
  call as send,
  startController,
  type TestController,
} from '../fixtures/controller.ts'
import { type StandIn, startStandIn } from '../fixtures/stand-in-host.ts'

let controller: TestController
let standIn: StandIn

before(async () => {
  standIn = await startStandIn()
  controller = await startController({
    env: {
      DISCOVERD: standIn.addr,
      EXTERNAL_IP: '127.0.0.1',
      FLYNN_JOB_ID: 'hosta-1',
      LOGAGGREGATOR_URL: `http://${standIn.addr}`,
      DEFAULT_ROUTE_DOMAIN: 'example.test',
    },
  })
})
after(async () => {
  await controller?.stop()
  await standIn?.close()
})

const call = (
  method: string,
  path: string,
  body?: unknown,
  headers?: Record<string, string>,
): Promise<Answer> => send(controller, method, path, { body, ...(headers ? { headers } : {}) })

let unique = 0
const newName = (prefix = 'app') => `${prefix}-${++unique}`

async function newApp(): Promise<App> {
  return controller.client.createApp({ name: newName() })
}

async function newArtifact(): Promise<Artifact> {
  return controller.client.createArtifact({
    type: 'flynn',
    uri: `http://blobstore.discoverd/${newName('image')}.json`,
    manifest: { _type: 'application/vnd.flynn.image.manifest.v1+json', rootfs: [{}], odd: { kept: [1] } },
  })
}

async function newRelease(app: App, types = ['web', 'worker']): Promise<Release> {
  const artifact = await newArtifact()
  return controller.client.createRelease({
    app_id: app.id,
    artifacts: [artifact.id],
    processes: Object.fromEntries(types.map(type => [type, { args: ['run', type] }])),
  })
}

test('an app is created with defaults, without its nulls and unknown keys', async () => {
  const name = newName()
  const answer = await call('POST', '/apps', { name, meta: null, strategy: null, bogus: 1 })
  assert.equal(answer.status, 200)
  const app = answer.json as App
  assert.equal(app.name, name)
  assert.equal(app.strategy, 'all-at-once')
  assert.equal(app.deploy_timeout, 120)
  assert.deepEqual(app.meta, { 'gc.max_inactive_slug_releases': '10' })
  assert.match(app.created_at, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z$/)
  assert.doesNotMatch(app.created_at, /\.\d*0Z$/)
})

test('an app without a name gets one of three words', async () => {
  const app = await controller.client.createApp({})
  assert.match(app.name, /^[a-z]+-[a-z]+-[a-z]+$/)
})

test('an app is found by name and by id, in upper case by neither', async () => {
  const app = await newApp()
  assert.equal((await controller.client.app(app.name)).id, app.id)
  assert.equal((await controller.client.app(app.id)).name, app.name)
  assertEmpty404(await call('GET', `/apps/${app.name.toUpperCase()}`))
})

test('a missing object is an empty 404 everywhere', async () => {
  const app = await newApp()
  const id = '00000000-0000-4000-8000-000000000000'
  const paths = [
    ...['/apps/nope', `/apps/${app.name}/release`, `/apps/${app.name}/formations/${id}`, `/releases/${id}`],
    ...['/releases/x', `/artifacts/${id}`, '/artifacts/x', `/deployments/${id}`, '/deployments/x'],
    ...[`/apps/x/jobs/${id}`, `/apps/${app.name}/jobs/h-x`, '/providers/x', '/events/999999', '/events/x'],
    ...[
      `/apps/${app.name}/routes/http/${id}`,
      `/apps/${app.name}/routes/udp/${id}`,
      `/apps/${app.id}/volumes/x`,
    ],
  ]
  for (const path of paths) assertEmpty404(await call('GET', path))
})

test('a name that is taken, malformed or too long is refused', async () => {
  const app = await newApp()
  const taken = await call('POST', '/apps', { name: app.name })
  assertCode(taken, 409, 'object_exists')
  assert.equal((taken.json as { message: string }).message, `application "${app.name}" already exists`)
  assertCode(await call('POST', '/apps', { id: app.id }), 409, 'object_exists')
  for (const name of ['Upper', 'a_b', '-a', 'a-', 'a'.repeat(101)])
    assertField(await call('POST', '/apps', { name }), 'name')
})

test('values of the wrong type are refused by naming their field', async () => {
  assertField(await call('POST', '/apps', { meta: { a: 1 } }), 'meta.a')
  assertField(await call('POST', '/apps', { deploy_timeout: 1.5 }), 'deploy_timeout')
  assertField(await call('POST', '/apps', { strategy: 'hope' }), 'strategy')
  assertField(await call('POST', '/apps', []), 'body')
})

test('an update accepts what clients send along and refuses keys that nobody knows', async () => {
  const app = await newApp()
  const path = `/apps/${app.name}`
  const updated = (await call('POST', path, { id: app.name, meta: null, deploy_timeout: 9 })).json as App
  assert.equal(updated.deploy_timeout, 9)
  assert.equal(((await call('POST', path, { deploy_timeout: 0 })).json as App).deploy_timeout, 120)
  assert.deepEqual(updated.meta, app.meta)
  assert.ok(updated.updated_at > app.updated_at)
  assertField(await call('POST', path, { bogus: 1 }), 'bogus')
  assertField(await call('POST', `${path}/meta`, { bogus: 1 }), 'bogus')
})

test('meta replaces the whole map, but a batch size sent alone is merged', async () => {
  const app = await newApp()
  const replaced = (await call('POST', `/apps/${app.name}/meta`, { ...app, meta: { a: 'b' } })).json as App
  assert.deepEqual(replaced.meta, { a: 'b' })
  const body = { id: app.name, meta: { 'flynn-deploy-batch-size': '3' } }
  const merged = (await call('POST', `/apps/${app.name}`, body)).json as App
  assert.deepEqual(merged.meta, { a: 'b', 'flynn-deploy-batch-size': '3' })
})

test('deleting and collecting are accepted without a body and put into the queue', async () => {
  const app = await newApp()
  for (const [method, path] of [
    ['POST', `/apps/${app.name}/gc`],
    ['DELETE', `/apps/${app.name}`],
  ] as const) {
    const answer = await call(method, path)
    assert.equal(answer.status, 200)
    assert.equal(answer.text, '')
  }
  assert.equal((await controller.client.app(app.id)).name, app.name)
})

test('an app gets a route under the default domain, a system app does not', async () => {
  const app = await newApp()
  const routes = await controller.client.appRoutes(app.id)
  assert.deepEqual(
    routes.map(r => [r.domain, r.service, r.path, r.drain_backends]),
    [[`${app.name}.example.test`, `${app.name}-web`, '/', true]],
  )
  const system = await controller.client.createApp({ name: newName(), meta: { 'flynn-system-app': 'true' } })
  assert.deepEqual(await controller.client.appRoutes(system.id), [])
})

test('an artifact keeps its manifest as it is, and its address is unique', async () => {
  const artifact = await newArtifact()
  assert.deepEqual((artifact.manifest as unknown as { odd: unknown }).odd, { kept: [1] })
  const again = await call('POST', '/artifacts', { type: 'flynn', uri: artifact.uri, manifest: { other: 1 } })
  assert.equal((again.json as Artifact).id, artifact.id)
})

test('an artifact needs a type, an absolute address, and a manifest or its size', async () => {
  assertField(await call('POST', '/artifacts', { type: 'tar', uri: 'http://x' }), 'type')
  assertField(await call('POST', '/artifacts', { type: 'flynn', uri: 'x' }), 'uri')
  assertField(await call('POST', '/artifacts', { type: 'flynn', uri: 'http://x/y' }), 'size')
})

test('a manifest that cannot be fetched or does not match its hash is refused and stores nothing', async () => {
  const uri = `http://${standIn.addr}/log/${newName()}`
  const wrong = { type: 'flynn', uri, size: 98, hashes: { sha512_256: 'ff'.repeat(32) } }
  assertField(await call('POST', '/artifacts', wrong), 'manifest')
  assertField(await call('POST', '/artifacts', { ...wrong, size: 5 }), 'manifest')
  const all = (await controller.client.artifacts()).filter(a => a.uri === uri)
  assert.deepEqual(all, [])
})

test('a release is normalised: arguments, volumes, resources', async () => {
  const app = await newApp()
  const artifact = await newArtifact()
  const release = await controller.client.createRelease({
    app_id: app.id,
    artifacts: [artifact.id],
    env: { A: 'b' },
    processes: {
      web: { entrypoint: ['/bin/x'], cmd: ['y'], data: true, resources: { memory: { limit: 5 } } },
    },
  })
  const web = release.processes?.['web']
  assert.deepEqual(web?.args, ['/bin/x', 'y'])
  assert.deepEqual(web?.cmd, ['y'])
  assert.deepEqual(web?.volumes, [{ path: '/data' }])
  assert.equal(web?.data, undefined)
  assert.deepEqual(web?.resources?.['memory'], { request: 5, limit: 5 })
  assert.deepEqual(web?.resources?.['max_fd'], { request: 10_000, limit: 10_000 })
  assert.equal(release.artifact, undefined)
  assert.equal((await controller.client.release(release.id)).artifact, artifact.id)
})

test('a release that names no app, an unknown artifact or an empty variable is refused', async () => {
  const app = await newApp()
  const id = '00000000-0000-4000-8000-000000000000'
  assertField(await call('POST', '/releases', { env: {} }), 'app_id')
  assertField(await call('POST', '/releases', { app_id: app.name }), 'app_id')
  assertField(await call('POST', '/releases', { app_id: id }), 'app_id')
  assertField(await call('POST', '/releases', { app_id: app.id, artifacts: [id] }), 'artifacts')
  assertField(await call('POST', '/releases', { app_id: app.id, env: { '': 'x' } }), 'env')
})

test('the current release is set by id; an unknown one is a 400', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  const unknown = await call('PUT', `/apps/${app.name}/release`, { id: app.id })
  assertCode(unknown, 400, 'validation_error')
  assert.equal((unknown.json as { message: string }).message, `could not find release with ID ${app.id}`)
  await controller.client.setAppRelease(app.name, release.id)
  assert.equal((await controller.client.appRelease(app.name)).id, release.id)
  assert.equal((await controller.client.app(app.name)).release, release.id)
})

test('the current release cannot be deleted, an old one can', async () => {
  const app = await newApp()
  const [old, current] = [await newRelease(app), await newRelease(app)]
  await controller.client.setAppRelease(app.name, current.id)
  await controller.client.putFormation(app.name, old.id, { processes: { web: 2 } })
  const refused = await call('DELETE', `/apps/${app.name}/releases/${current.id}`)
  assertCode(refused, 400, 'validation_error')
  await controller.client.deleteRelease(app.name, old.id)
  assertEmpty404(await call('GET', `/releases/${old.id}`))
  assertEmpty404(await call('GET', `/apps/${app.name}/formations/${old.id}`))
  const scales = await controller.client.events({ app: app.id, types: ['scale_request'] })
  const wanted = scales.map(e => e.data as ScaleRequest).filter(request => request.state === 'pending')
  assert.deepEqual(wanted[0]?.new_processes, { web: 0, worker: 0 })
  const [deletion] = await controller.client.events({ objectId: old.id, types: ['release_deletion'] })
  assert.deepEqual(deletion?.data, {
    release_deletion: { app: '', release: old.id, remaining_apps: null, deleted_files: null },
    error: '',
  })
})

test('a formation is merged per type, and nothing at all means zero', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  await controller.client.putFormation(app.name, release.id, { processes: { web: 2, worker: 1 } })
  const sent = await controller.client.putFormation(app.name, release.id, { processes: { web: 3 } })
  assert.deepEqual(sent.processes, { web: 3 })
  const merged = await controller.client.formation(app.name, release.id)
  assert.deepEqual(merged.processes, { web: 3, worker: 1 })
  await call('PUT', `/apps/${app.name}/formations/${release.id}`, { processes: null })
  const zero = await controller.client.formation(app.name, release.id)
  assert.deepEqual(zero.processes, { web: 0, worker: 0 })
})

test('a formation of unknown types or of a release without artifacts is refused', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  assertField(
    await call('PUT', `/apps/${app.name}/formations/${release.id}`, { processes: { x: 1 } }),
    'processes',
  )
  const path = `/apps/${app.name}/formations/${release.id}`
  assertField(await call('PUT', path, { processes: { web: 'two' } }), 'processes.web')
  assertField(await call('PUT', path, { processes: { web: -1 } }), 'processes.web')
  const bare = await controller.client.createRelease({ app_id: app.id })
  assertField(await call('PUT', `/apps/${app.name}/formations/${bare.id}`, {}), 'release')
})

test('an expanded formation carries app, release, artifacts and the pending request', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  const request = await controller.client.createScale(app.name, release.id, { new_processes: { web: 1 } })
  const expanded = await controller.client.expandedFormation(app.name, release.id)
  assert.equal(expanded.app.name, app.name)
  assert.equal(expanded.release.artifact, release.artifacts?.[0])
  assert.equal(expanded.artifacts[0]?.id, release.artifacts?.[0])
  assert.equal(expanded.pending_scale_request?.id, request.id)
  const active = await controller.client.activeFormations()
  assert.ok(active.some(f => f.release.id === release.id))
})

test('a formation that asks for nothing counts as active until its scale request is told done', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  const isActive = async () =>
    (await controller.client.activeFormations()).some(f => f.release.id === release.id)
  const request = await controller.client.createScale(app.name, release.id, { new_processes: { web: 0 } })
  assert.ok(await isActive())
  await controller.client.putScale(app.name, release.id, { ...request, state: 'complete' })
  assert.ok(!(await isActive()))
})

test('a scale request takes null times and empty tags, and fills in what is missing', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  const answer = await call('PUT', `/apps/${app.name}/scale/${release.id}`, {
    id: '',
    app: '',
    release: '',
    state: 'pending',
    new_processes: { web: 2 },
    new_tags: {},
    created_at: null,
    updated_at: null,
  })
  assert.equal(answer.status, 200, answer.text)
  const request = answer.json as Record<string, unknown>
  assert.deepEqual(request['new_processes'], { web: 2 })
  assert.deepEqual(request['old_processes'], {})
  assert.deepEqual(request['new_tags'], {})
  assert.equal(request['state'], 'pending')
  assertField(
    await call('PUT', `/apps/${app.name}/scale/${release.id}`, { state: 'pending' }),
    'new_processes',
  )
})

test('a newer scale request cancels the pending one, which cannot complete any more', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  const first = await controller.client.createScale(app.name, release.id, { new_processes: { web: 1 } })
  const second = await controller.client.createScale(app.name, release.id, { new_processes: { web: 2 } })
  assert.deepEqual(second.old_processes, { web: 1 })
  const events = await controller.client.events({ objectId: first.id })
  assert.deepEqual(events.map(e => [e.object_type, (e.data as { state: string }).state]).reverse(), [
    ['scale_request', 'pending'],
    ['scale_request', 'cancelled'],
    ['scale_request_cancelation', 'cancelled'],
  ])
  const late = await controller.client.putScale(app.name, release.id, { ...first, state: 'complete' })
  assert.equal(late.state, 'cancelled')
  const done = await controller.client.putScale(app.name, release.id, { ...second, state: 'complete' })
  assert.equal(done.state, 'complete')
})

test('the first deployment is complete at once', async () => {
  const app = await newApp()
  const release = await newRelease(app)
  const deployment = await controller.client.createDeployment(app.name, release.id)
  assert.equal(deployment.status, 'complete')
  assert.ok(deployment.finished_at)
  assert.equal(deployment.old_release, undefined)
  assert.equal((await controller.client.appRelease(app.name)).id, release.id)
})

test('a deployment over running processes waits for the worker, one at a time', async () => {
  const app = await newApp()
  const [old, next] = [await newRelease(app), await newRelease(app)]
  await controller.client.updateApp(app.name, { strategy: 'one-by-one' })
  await controller.client.updateAppMeta(app.name, { 'flynn-deploy-batch-size': '2' })
  await controller.client.setAppRelease(app.name, old.id)
  await controller.client.putFormation(app.name, old.id, { processes: { web: 2 } })
  const deployment = await controller.client.createDeployment(app.name, next.id)
  assert.equal(deployment.status, 'pending')
  assert.equal(deployment.finished_at, undefined)
  assert.deepEqual(deployment.processes, { web: 2 })
  assert.equal(deployment.strategy, 'one-by-one')
  assert.equal(deployment.deploy_batch_size, 2)
  const second = await call('POST', `/apps/${app.name}/deploy`, { id: next.id })
  assertCode(second, 400, 'validation_error')
  assert.match(second.text, /Cannot create deploy, there is already one in progress for this app\./)
  const read = (await call('GET', `/deployments/${deployment.id}`)).json as Deployment
  assert.equal(read.status, 'pending')
  assert.equal((await controller.client.appRelease(app.name)).id, old.id)
})

test('a deployment of an unknown release is a 400', async () => {
  const app = await newApp()
  assertCode(await call('POST', `/apps/${app.name}/deploy`, { id: app.id }), 400, 'validation_error')
})
