// What the controller's tables forget, on a real PostgreSQL (contract controller.md 7, item 10).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Tables } from '../../controller/schema/tables.ts'
import type { App, Release } from '../../controller/types.ts'
import { jobsPerAppMax, removeOld } from '../../controller/worker/retention.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { createDb, createPool, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import { startController, type TestController } from '../fixtures/controller.ts'
import { createRelease } from '../fixtures/platform.ts'

const dayMs = 24 * 60 * 60_000
let controller: TestController
let db: ReturnType<typeof createDb<Tables>>
let app: App
let release: Release

before(async () => {
  controller = await startController()
  db = createDb<Tables>(
    createPool(pgOptionsFromEnv(controller.databaseEnv, 'retention-test'), silentLogger()),
  )
  app = await controller.client.createApp({ name: 'old' })
  release = await createRelease(controller.client, app, { web: {} })
})
after(async () => {
  await db?.destroy()
  await controller?.stop()
})

const later = (days: number) => removeOld(db, Date.now() + days * dayMs, new AbortController().signal)

test('young rows stay, old ones go, but not what is still in use', async () => {
  const { client } = controller
  const volume = uuid()
  await client.putVolume({ id: volume, host_id: 'h', type: 'data', state: 'created', app: app.id })
  const job = { app: app.id, release: release.id, type: 'web', volumes: [volume] }
  const [ended, alive] = [uuid(), uuid()]
  await client.putJob({ ...job, uuid: ended, state: 'down' })
  await client.putJob({ ...job, uuid: alive, state: 'up' })
  const deployment = await client.createDeployment(app.id, release.id)
  const first = await client.createScale(app.id, release.id, { new_processes: { web: 1 } })
  const second = await client.createScale(app.id, release.id, { new_processes: { web: 2 } })
  assert.deepEqual(await later(0), { events: 0, jobs: 0, scales: 0, audit: 0 })
  const removed = await later(31)
  assert.ok(removed.events > 0 && removed.jobs === 1 && removed.scales === 1 && removed.audit > 0)
  assert.deepEqual(
    (await client.jobs(app.id)).map(j => j.uuid),
    [alive],
  )
  assert.equal((await client.deployment(deployment.id)).status, 'complete')
  const formation = await client.expandedFormation(app.id, release.id)
  assert.equal(formation.pending_scale_request?.id, second.id)
  const left = await db.selectFrom('scale_requests').select('scale_request_id').execute()
  assert.ok(left.every(row => row.scale_request_id !== first.id))
  assert.ok((await client.auditLog({ count: 1000 })).length > 0, 'calls of people are kept a year')
  assert.ok((await later(366)).audit > 0)
})

test('of the ended jobs of one app a limited number stays', async () => {
  const values = Array.from({ length: jobsPerAppMax + 20 }, () => ({
    job_id: uuid(),
    cluster_id: '',
    app_id: app.id,
    release_id: release.id,
    state: 'down' as const,
  }))
  await db.insertInto('job_cache').values(values).execute()
  assert.equal((await later(0)).jobs, 20)
})
