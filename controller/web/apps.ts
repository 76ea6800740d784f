// Apps: create, list, get, update, meta, delete, gc (contract controller.md 2.3).
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import { constraintOf, sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import { jsonb } from '../schema/write.ts'
import { type App, AppInput, AppUpdate, isKeptApp, isSystemApp, metaKeys } from '../types.ts'
import { checkId, findApp, lockApp, toApp } from './app-lookup.ts'
import { bodyOf, refuseUnknownKeys } from './body.ts'
import { type Context, param, type Routes, write } from './context.ts'
import { generateName } from './names.ts'
import { createRoute } from './routes.ts'

export const strategyDefault = 'all-at-once'
/** Seconds for each step of a deployment. */
export const deployTimeoutDefault = 120
export const gcMaxInactiveDefault = '10'
/** Names tried before creation gives up; each is new, but somebody may have chosen it by hand. */
const nameAttemptsMax = 5

async function insertApp(ctx: Context, input: AppInput, name: string): Promise<App> {
  return write(ctx, async ({ tx, emit }) => {
    const row = await tx
      .insertInto('apps')
      .values({
        ...(input.id ? { app_id: input.id } : {}),
        name,
        meta: jsonb({ [metaKeys.gcMaxInactive]: gcMaxInactiveDefault, ...input.meta }),
        strategy: input.strategy ?? strategyDefault,
        deploy_timeout: input.deploy_timeout || deployTimeoutDefault,
      })
      .returningAll()
      .executeTakeFirstOrThrow()
    const app = toApp(row)
    emit({ app: app.id, type: 'app', objectId: app.id, data: app, op: 'create' })
    return app
  })
}

async function insertNamed(ctx: Context, input: AppInput): Promise<App> {
  for (let attempt = 1; ; attempt++) {
    const name = input.name || (await generateName(ctx.db, ctx.config.nameSeed))
    try {
      return await insertApp(ctx, input, name)
    } catch (e) {
      if (sqlState(e) !== sqlStates.uniqueViolation) throw e
      if (constraintOf(e) === 'apps_pkey')
        throw errors.OBJECT_EXISTS({ kind: 'application', name: input.id ?? '', field: 'id' })
      if (input.name || attempt >= nameAttemptsMax)
        throw errors.OBJECT_EXISTS({ kind: 'application', name, field: 'name' })
    }
  }
}

/** The automatic route of a new app; its failure is told in the log only. */
async function addDefaultRoute(ctx: Context, app: App): Promise<void> {
  if (isSystemApp(app) || ctx.config.routeDomain === '') return
  try {
    await createRoute(ctx, app.id, {
      type: 'http',
      service: `${app.name}-web`,
      domain: `${app.name}.${ctx.config.routeDomain}`,
      drain_backends: true,
    })
  } catch (err) {
    ctx.log.error({ err, app: app.id }, 'default route not created')
  }
}

async function createApp(ctx: Context, req: FastifyRequest): Promise<App> {
  const input = bodyOf(req, AppInput)
  checkId(input.id)
  const app = await insertNamed(ctx, input)
  await addDefaultRoute(ctx, app)
  return app
}

const appKeys = [
  ...['id', 'name', 'meta', 'strategy', 'release', 'deploy_timeout', 'protected'],
  ...['created_at', 'updated_at'],
]

/**
 * The original CLI sends the batch size alone and would wipe every other key with it (contract 6.3): exactly that body
 * is merged into the map; any other `meta` replaces it.
 */
function nextMeta(body: unknown, update: AppUpdate, current: Readonly<Record<string, string>>) {
  const { meta } = update
  if (meta === undefined) return current
  const bodyKeys = Object.keys(body as object)
  const onlyBatchSize =
    Object.keys(meta).length === 1 &&
    Object.hasOwn(meta, metaKeys.deployBatchSize) &&
    bodyKeys.includes('id') &&
    bodyKeys.every(key => key === 'id' || key === 'meta')
  return onlyBatchSize ? { ...current, ...meta } : meta
}

async function updateApp(ctx: Context, req: FastifyRequest): Promise<App> {
  const { app_id: id } = await findApp(ctx.db, param(req, 'app'))
  refuseUnknownKeys(req, appKeys)
  const update = bodyOf(req, AppUpdate)
  return write(ctx, async ({ tx, emit }) => {
    const current = await lockApp(tx, id)
    const row = await tx
      .updateTable('apps')
      .set({
        meta: jsonb(nextMeta(req.body, update, current.meta ?? {})),
        strategy: update.strategy ?? current.strategy,
        // 0 is the default here as it is for a new app: no deployment ends in no time.
        deploy_timeout: (update.deploy_timeout ?? current.deploy_timeout) || deployTimeoutDefault,
        updated_at: sql`now()`,
      })
      .where('app_id', '=', id)
      .returningAll()
      .executeTakeFirstOrThrow()
    const app = toApp(row)
    emit({ app: id, type: 'app', objectId: id, data: app, op: 'update' })
    return app
  })
}

export const appRoutes: Routes = (server, ctx) => {
  server.post('/apps', req => createApp(ctx, req))
  server.get('/apps', async () => {
    const rows = await ctx.db
      .selectFrom('apps')
      .selectAll()
      .where('deleted_at', 'is', null)
      .orderBy('created_at', 'desc')
      .execute()
    return rows.map(toApp)
  })
  server.get('/apps/:app', async req => toApp(await findApp(ctx.db, param(req, 'app'))))
  server.post('/apps/:app', req => updateApp(ctx, req))
  server.post('/apps/:app/meta', req => updateApp(ctx, req))
  server.delete('/apps/:app', async (req, reply) => {
    const app = toApp(await findApp(ctx.db, param(req, 'app')))
    if (isKeptApp(app)) throw errors.CRITICAL_APP_DELETION({ app: app.name })
    await write(ctx, ({ enqueue }) => enqueue('app_deletion', app))
    return reply.send()
  })
  server.post('/apps/:app/gc', async (req, reply) => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    await write(ctx, ({ enqueue }) => enqueue('app_garbage_collection', { app_id, deleted_releases: null }))
    return reply.send()
  })
}
