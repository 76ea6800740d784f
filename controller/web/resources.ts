// Resources: provision, register, list, get, deprovision, link, unlink (contract controller.md 2.11). The provider's
// HTTP API makes and destroys what a resource stands for; our row and links follow it.
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import { describeError } from '../../pkg/errors/errors.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import { sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import { type Db, jsonb, type Write } from '../schema/write.ts'
import { type EventType, type Provider, type Resource, ResourceInput, ResourceRequest } from '../types.ts'
import { findApp, lookupApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { findProvider } from './providers.ts'
import { isUuid, omitEmpty } from './wire.ts'

/** A provider may have to start a database cluster first. */
export const provisionTimeoutMs = 310_000
export const deprovisionTimeoutMs = 60_000

type Row = {
  readonly resource_id: string
  readonly provider_id: string
  readonly external_id: string
  readonly env: Readonly<Record<string, string>> | null
  readonly created_at: string
  readonly app_ids: readonly string[]
}

function toResource(row: Row): Resource {
  return omitEmpty({
    id: row.resource_id,
    provider: row.provider_id,
    external_id: row.external_id,
    env: row.env,
    apps: row.app_ids,
    created_at: row.created_at,
  })
}

function selectResources(db: Db) {
  const ids = sql<string[]>`coalesce((
    SELECT array_agg(app_id::text ORDER BY created_at) FROM app_resources
    WHERE resource_id = resources.resource_id AND deleted_at IS NULL), '{}')`
  return db
    .selectFrom('resources')
    .selectAll()
    .select(ids.as('app_ids'))
    .where('deleted_at', 'is', null)
    .orderBy('created_at', 'desc')
}

async function findResource(db: Db, id: string): Promise<Resource> {
  if (!isUuid(id)) notFound()
  return toResource(found(await selectResources(db).where('resource_id', '=', id).executeTakeFirst()))
}

/** Apps named by id or name, before anything is made for them. */
async function resolveApps(ctx: Context, names: readonly string[]): Promise<readonly string[]> {
  const ids: string[] = []
  for (const name of names) {
    const app = await lookupApp(ctx.db, name)
    if (!app) throw fieldError('apps', `names no app: ${name}`, 'create the app first')
    ids.push(app.app_id)
  }
  return [...new Set(ids)]
}

/** One event for each app, or a single one without an app. */
function emitResource(w: Write, type: EventType, resource: Resource, apps: readonly string[]): void {
  for (const app of apps.length > 0 ? apps : [undefined])
    w.emit({
      app,
      type,
      objectId: resource.id,
      data: resource,
      ...(type === 'resource' ? { op: 'create' } : {}),
    })
}

type Made = { readonly externalId: string; readonly env: Readonly<Record<string, string>> }

async function insertResource(
  w: Write,
  made: Made & { readonly id?: string; readonly providerId: string },
  apps: readonly string[],
): Promise<Resource> {
  const row = await w.tx
    .insertInto('resources')
    .values({
      ...(made.id === undefined ? {} : { resource_id: made.id }),
      provider_id: made.providerId,
      external_id: made.externalId,
      env: jsonb(made.env),
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  if (apps.length > 0)
    await w.tx
      .insertInto('app_resources')
      .values(apps.map(app_id => ({ app_id, resource_id: row.resource_id })))
      .execute()
  const resource = toResource({ ...row, app_ids: apps })
  emitResource(w, 'resource', resource, apps)
  return resource
}

function providerFailed(provider: Provider, action: string, e: unknown): never {
  const text = describeError(e)
  throw errors.PROVIDER_FAILED({ name: provider.name, url: provider.url, action, text }, { cause: e })
}

async function callProvider(provider: Provider, config: unknown): Promise<Made> {
  const url = new URL(provider.url)
  try {
    const answer = await new HttpClient({ url: url.origin }).post<{ id?: unknown; env?: unknown }>(
      `${url.pathname}${url.search}`,
      config ?? {},
      { timeoutMs: provisionTimeoutMs, retryMs: 0 },
    )
    if (typeof answer?.id !== 'string' || answer.id === '') throw new Error('the answer has no id')
    return { externalId: answer.id, env: (answer.env ?? {}) as Made['env'] }
  } catch (e) {
    return providerFailed(provider, 'make a resource', e)
  }
}

async function callDeprovision(provider: Provider, externalId: string): Promise<void> {
  const url = new URL(provider.url)
  await new HttpClient({ url: url.origin }).delete(url.pathname, {
    query: { id: externalId },
    timeoutMs: deprovisionTimeoutMs,
    retryMs: 0,
  })
}

async function provision(ctx: Context, req: FastifyRequest): Promise<Resource> {
  const provider = await findProvider(ctx.db, param(req, 'provider'))
  const request = bodyOf(req, ResourceRequest)
  const apps = await resolveApps(ctx, request.apps ?? [])
  const made = await callProvider(provider, request.config)
  try {
    return await write(ctx, w => insertResource(w, { ...made, providerId: provider.id }, apps))
  } catch (e) {
    if (sqlState(e) === sqlStates.uniqueViolation)
      // It belongs to somebody: taking it back would take it from them.
      providerFailed(provider, 'make a resource', new Error(`${made.externalId} is that of another one`))
    // Nobody would ever know of what the provider made.
    await callDeprovision(provider, made.externalId).catch((err: unknown) =>
      ctx.log.error({ err, provider: provider.name, external: made.externalId }, 'resource leaked'),
    )
    throw e
  }
}

async function putResource(ctx: Context, req: FastifyRequest): Promise<Resource> {
  const provider = await findProvider(ctx.db, param(req, 'provider'))
  const id = param(req, 'id')
  if (!isUuid(id)) throw fieldError('id', 'must be a UUID')
  const input = bodyOf(req, ResourceInput)
  const apps = await resolveApps(ctx, input.apps ?? [])
  const made = { id, providerId: provider.id, externalId: input.external_id, env: input.env ?? {} }
  try {
    return await write(ctx, w => insertResource(w, made, apps))
  } catch (e) {
    if (sqlState(e) === sqlStates.uniqueViolation)
      throw errors.OBJECT_EXISTS({ kind: 'resource', name: id, field: 'id or external_id' })
    throw e
  }
}

async function deleteResource(ctx: Context, req: FastifyRequest): Promise<Resource> {
  const resource = await findResource(ctx.db, param(req, 'id'))
  const provider = await findProvider(ctx.db, resource.provider)
  try {
    await callDeprovision(provider, resource.external_id)
  } catch (e) {
    providerFailed(provider, 'remove the resource', e)
  }
  return write(ctx, async w => {
    await w.tx
      .updateTable('resources')
      .set({ deleted_at: sql<string>`now()` })
      .where('resource_id', '=', resource.id)
      .execute()
    await w.tx.deleteFrom('app_resources').where('resource_id', '=', resource.id).execute()
    emitResource(w, 'resource_deletion', resource, resource.apps ?? [])
    return resource
  })
}

async function link(ctx: Context, req: FastifyRequest): Promise<Resource> {
  const { id } = await findResource(ctx.db, param(req, 'id'))
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  return write(ctx, async w => {
    await w.tx
      .insertInto('app_resources')
      .values({ app_id, resource_id: id })
      .onConflict(conflict => conflict.columns(['app_id', 'resource_id']).doUpdateSet({ deleted_at: null }))
      .execute()
    const resource = await findResource(w.tx, id)
    emitResource(w, 'resource', resource, [app_id])
    return resource
  })
}

async function unlink(ctx: Context, req: FastifyRequest): Promise<Resource> {
  const { id } = await findResource(ctx.db, param(req, 'id'))
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  return write(ctx, async w => {
    await w.tx
      .deleteFrom('app_resources')
      .where('resource_id', '=', id)
      .where('app_id', '=', app_id)
      .execute()
    const resource = await findResource(w.tx, id)
    emitResource(w, 'resource_app_deletion', resource, [app_id])
    return resource
  })
}

export const resourceRoutes: Routes = (server, ctx) => {
  server.post('/providers/:provider/resources', req => provision(ctx, req))
  server.get('/providers/:provider/resources', async req => {
    const provider = await findProvider(ctx.db, param(req, 'provider'))
    const rows = await selectResources(ctx.db).where('provider_id', '=', provider.id).execute()
    return rows.map(toResource)
  })
  server.get('/resources', async () => (await selectResources(ctx.db).execute()).map(toResource))
  server.get('/apps/:app/resources', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    const linked = ctx.db.selectFrom('app_resources').select('resource_id').where('app_id', '=', app_id)
    const rows = await selectResources(ctx.db).where('resource_id', 'in', linked).execute()
    return rows.map(toResource)
  })
  server.get('/providers/:provider/resources/:id', async req => {
    await findProvider(ctx.db, param(req, 'provider'))
    return findResource(ctx.db, param(req, 'id'))
  })
  server.put('/providers/:provider/resources/:id', req => putResource(ctx, req))
  server.delete('/providers/:provider/resources/:id', req => deleteResource(ctx, req))
  server.put('/providers/:provider/resources/:id/apps/:app', req => link(ctx, req))
  server.delete('/providers/:provider/resources/:id/apps/:app', req => unlink(ctx, req))
}
