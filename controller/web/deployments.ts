// Deployments: create, list, get (contract controller.md 2.9). The worker carries them out; one that replaces nothing
// is complete at once.
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import { constraintOf } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import { type Db, jsonb, type Write } from '../schema/write.ts'
import { type Deployment, type DeploymentStatus, metaKeys, type Release } from '../types.ts'
import { type AppRow, findApp, lockApp } from './app-lookup.ts'
import { deployTimeoutDefault } from './apps.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { lookupRelease } from './release-lookup.ts'
import { releaseOfBody, setAppRelease } from './releases.ts'
import type { FormationRow } from './scales.ts'
import { isUuid, omitEmpty } from './wire.ts'

type Row = Selectable<Tables['deployments']> & { readonly status: DeploymentStatus | null }

function toDeployment(row: Row): Deployment {
  return omitEmpty({
    id: row.deployment_id,
    app: row.app_id,
    old_release: row.old_release_id,
    new_release: row.new_release_id,
    strategy: row.strategy,
    status: row.status,
    processes: row.processes,
    tags: row.tags,
    deploy_timeout: row.deploy_timeout,
    deploy_batch_size: row.deploy_batch_size,
    created_at: row.created_at,
    finished_at: row.finished_at,
    cancelled_at: row.cancelled_at,
  })
}

function selectDeployments(db: Db) {
  return db
    .selectFrom('deployments')
    .selectAll()
    .select(sql<DeploymentStatus | null>`deployment_status(deployment_id)`.as('status'))
}

/** The batch size that the app's meta asks for; undefined when it is absent or no positive number. */
export function batchSizeOf(meta: Readonly<Record<string, string>> | null): number | undefined {
  const text = meta?.[metaKeys.deployBatchSize] ?? ''
  return /^[1-9]\d{0,5}$/.test(text) ? Number(text) : undefined
}

function sameArtifacts(a: Release | undefined, b: Release): boolean {
  return (a?.artifacts ?? []).join() === (b.artifacts ?? []).join()
}

/** The formation that the deployment replaces; undefined when nothing of the old release runs. */
async function runningFormation(w: Write, app: AppRow): Promise<FormationRow | undefined> {
  if (app.release_id === null) return undefined
  const row = await w.tx
    .selectFrom('formations')
    .selectAll()
    .where('app_id', '=', app.app_id)
    .where('release_id', '=', app.release_id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  const total = Object.values(row?.processes ?? {}).reduce((sum, n) => sum + n, 0)
  return total > 0 ? row : undefined
}

async function insertDeployment(w: Write, appId: string, release: Release): Promise<Deployment> {
  const app = await lockApp(w.tx, appId)
  const formation = await runningFormation(w, app)
  const old = app.release_id === null ? undefined : await lookupRelease(w.tx, app.release_id)
  if (!formation) await setAppRelease(w, appId, release)
  const row = await w.tx
    .insertInto('deployments')
    .values({
      app_id: appId,
      old_release_id: app.release_id,
      new_release_id: release.id,
      strategy: app.strategy,
      processes: jsonb(formation?.processes),
      tags: jsonb(formation?.tags),
      deploy_timeout: app.deploy_timeout || deployTimeoutDefault,
      deploy_batch_size: batchSizeOf(app.meta) ?? null,
      type: sameArtifacts(old, release) ? 'config' : 'code',
      finished_at: formation ? null : sql<string>`now()`,
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  const status = formation ? 'pending' : 'complete'
  const deployment = toDeployment({ ...row, status })
  w.emit({
    app: appId,
    type: 'deployment',
    objectId: deployment.id,
    data: { app: appId, deployment: deployment.id, release: release.id, status },
    op: 'create',
  })
  if (formation) await w.enqueue('deployment', { ID: deployment.id })
  return deployment
}

async function createDeployment(ctx: Context, req: FastifyRequest): Promise<Deployment> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const release = await releaseOfBody(ctx, req)
  try {
    return await write(ctx, w => insertDeployment(w, app_id, release))
  } catch (e) {
    if (constraintOf(e) !== 'isolate_deploys') throw e
    throw errors.INVALID({
      text: 'Cannot create deploy, there is already one in progress for this app.',
      remedy: 'wait for its end: flynn deployment',
    })
  }
}

/** Notes that somebody wants its end; the worker rolls it back and tells. A second request changes nothing. */
async function cancelDeployment(ctx: Context, id: string): Promise<Deployment> {
  if (!isUuid(id)) notFound()
  await write(ctx, async ({ tx }) => {
    const row = found(
      await tx
        .selectFrom('deployments')
        .select(['finished_at', sql<string | null>`deployment_status(deployment_id)`.as('status')])
        .where('deployment_id', '=', id)
        .forUpdate()
        .executeTakeFirst(),
    )
    if (row.finished_at !== null) throw errors.DEPLOYMENT_OVER({ status: row.status ?? 'finished' })
    await tx
      .updateTable('deployments')
      .set({ cancelled_at: sql<string>`coalesce(cancelled_at, clock_timestamp())` })
      .where('deployment_id', '=', id)
      .execute()
  })
  return toDeployment(
    await selectDeployments(ctx.db).where('deployment_id', '=', id).executeTakeFirstOrThrow(),
  )
}

export const deploymentRoutes: Routes = (server, ctx) => {
  server.post('/apps/:app/deploy', req => createDeployment(ctx, req))
  server.get('/apps/:app/deployments', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    const rows = await selectDeployments(ctx.db)
      .where('app_id', '=', app_id)
      .orderBy('created_at', 'desc')
      .execute()
    return rows.map(toDeployment)
  })
  server.post('/deployments/:id/cancel', req => cancelDeployment(ctx, param(req, 'id')))
  server.get('/deployments/:id', async req => {
    const id = param(req, 'id')
    if (!isUuid(id)) notFound()
    const row = await selectDeployments(ctx.db).where('deployment_id', '=', id).executeTakeFirst()
    return toDeployment(found(row))
  })
}
