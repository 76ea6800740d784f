// Apps that the cluster cannot live without: what the controller's API refuses for them (contract controller.md 4.8).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { assertCode, call, startController, type TestController } from '../fixtures/controller.ts'
import { createRelease } from '../fixtures/platform.ts'

let controller: TestController
before(async () => {
  controller = await startController()
})
after(() => controller?.stop())

async function critical(name: string) {
  const meta = { 'flynn-system-app': 'true', 'flynn-system-critical': 'true' }
  const app = await controller.client.createApp({ name, meta })
  const release = await createRelease(controller.client, app, { db: {}, web: {} })
  await controller.client.putFormation(name, release.id, { processes: { db: 1, web: 2 } })
  return { app, release, path: `/apps/${name}/formations/${release.id}` }
}

test('no process type of a critical app goes to zero, by whatever request', async () => {
  const { release, path } = await critical('heart')
  const refused = await call(controller, 'PUT', path, { body: { processes: { db: 0 } } })
  assertCode(refused, 400, 'validation_error')
  assert.match(refused.text, /heart is critical to the cluster: its last db process cannot be stopped/)
  assertCode(await call(controller, 'PUT', path, { body: {} }), 400, 'validation_error')
  assertCode(await call(controller, 'DELETE', path), 400, 'validation_error')
  const scale = { state: 'pending', new_processes: { web: 0 } }
  const scaled = await call(controller, 'PUT', `/apps/heart/scale/${release.id}`, { body: scale })
  assertCode(scaled, 400, 'validation_error')
  assertCode(await call(controller, 'DELETE', '/apps/heart'), 400, 'validation_error')
  assert.deepEqual((await controller.client.formation('heart', release.id)).processes, { db: 1, web: 2 })
})

test('the controller, router and blobstore are kept without a mark; the last process of the API, too', async () => {
  const meta = { 'flynn-system-app': 'true' }
  for (const name of ['controller', 'router', 'blobstore']) {
    await controller.client.createApp({ name, meta })
    assertCode(await call(controller, 'DELETE', `/apps/${name}`), 400, 'validation_error')
  }
  const app = await controller.client.app('controller')
  const release = await createRelease(controller.client, app, { web: {} })
  await controller.client.putFormation('controller', release.id, { processes: { web: 1 } })
  const path = `/apps/controller/formations/${release.id}`
  assertCode(
    await call(controller, 'PUT', path, { body: { processes: { web: 0 } } }),
    400,
    'validation_error',
  )
})

test('fewer processes, or none of a release that another one has replaced, are fine', async () => {
  const { app, release } = await critical('lung')
  await controller.client.putFormation('lung', release.id, { processes: { web: 1 } })
  const next = await createRelease(controller.client, app, { db: {}, web: {} })
  await controller.client.putFormation('lung', next.id, { processes: { db: 1, web: 1 } })
  await controller.client.deleteFormation('lung', release.id)
  assert.deepEqual((await controller.client.formation('lung', next.id)).processes, { db: 1, web: 1 })
})
