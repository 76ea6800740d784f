// Volumes as the scheduler reports them: put, list, get, decommission, stream (contract controller.md 2.13).
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import type { Tables } from '../schema/tables.ts'
import { type Db, jsonb } from '../schema/write.ts'
import { Volume } from '../types.ts'
import { findApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, queryParam, type Routes, write } from './context.ts'
import { sinceOf } from './formations.ts'
import { streamList } from './list-stream.ts'
import { isUuid, omitEmpty } from './wire.ts'

const always = ['id', 'host_id', 'type', 'state']
/** For clients that end the stored part at a volume without an id. */
const sentinel = { id: '', host_id: '', type: '', state: '' }

function toVolume(row: Selectable<Tables['volumes']>): Volume {
  return omitEmpty(
    {
      id: row.volume_id,
      host_id: row.host_id,
      type: row.type,
      state: row.state,
      app: row.app_id,
      release: row.release_id,
      job: row.job_id,
      job_type: row.job_type,
      path: row.path,
      delete_on_stop: row.delete_on_stop,
      meta: row.meta,
      created_at: row.created_at,
      updated_at: row.updated_at,
      decommissioned_at: row.decommissioned_at,
    },
    always,
  )
}

function checkIds(volume: Volume): void {
  for (const field of ['id', 'app', 'release', 'job'] as const) {
    const value = volume[field]
    if (value && !isUuid(value)) throw fieldError(field, 'must be a UUID')
  }
}

/** Records a volume; on one that is known only its host (it may move), job, state and meta change. */
async function putVolume(ctx: Context, req: FastifyRequest): Promise<Volume> {
  const volume = bodyOf(req, Volume)
  checkIds(volume)
  const changing = {
    host_id: volume.host_id,
    job_id: volume.job || null,
    state: volume.state,
    ...(volume.meta === undefined ? {} : { meta: jsonb(volume.meta) }),
  }
  return write(ctx, async ({ tx, emit }) => {
    const row = await tx
      .insertInto('volumes')
      .values({
        volume_id: volume.id,
        type: volume.type,
        app_id: volume.app || null,
        release_id: volume.release || null,
        job_type: volume.job_type ?? null,
        path: volume.path ?? null,
        delete_on_stop: volume.delete_on_stop ?? false,
        meta: null,
        ...changing,
      })
      .onConflict(conflict =>
        conflict.column('volume_id').doUpdateSet({ ...changing, updated_at: sql`clock_timestamp()` }),
      )
      .returningAll()
      .executeTakeFirstOrThrow()
    const stored = toVolume(row)
    emit({ app: stored.app, type: 'volume', objectId: stored.id, data: stored })
    return stored
  })
}

/** The volume keeps its data and is never given to a job again. The body says which one. */
async function decommission(ctx: Context, req: FastifyRequest): Promise<Volume> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const { id } = bodyOf(req, Volume)
  if (!isUuid(id)) notFound()
  return write(ctx, async ({ tx, emit }) => {
    const row = await tx
      .updateTable('volumes')
      .set({ updated_at: sql`clock_timestamp()`, decommissioned_at: sql<string>`clock_timestamp()` })
      .where('app_id', '=', app_id)
      .where('volume_id', '=', id)
      .returningAll()
      .executeTakeFirst()
    const volume = toVolume(found(row))
    emit({ app: app_id, type: 'volume', objectId: id, data: volume })
    return volume
  })
}

function selectVolumes(db: Db) {
  return db.selectFrom('volumes').selectAll().orderBy('updated_at', 'desc')
}

export const volumeRoutes: Routes = (server, ctx) => {
  server.get('/volumes', async (req, reply) => {
    const since = queryParam(req, 'since')
    if (since === undefined || !(req.headers.accept ?? '').includes('text/event-stream'))
      return (await selectVolumes(ctx.db).execute()).map(toVolume)
    const from = sinceOf(since)
    await streamList(ctx, reply, {
      types: ['volume'],
      stored: async () =>
        (await selectVolumes(ctx.db).where('updated_at', '>=', from).execute()).map(toVolume),
      sentinel,
      live: async event => event.data as Volume,
    })
    return reply
  })
  server.put('/volumes/:id', req => putVolume(ctx, req))
  server.get('/apps/:app/volumes', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    return (await selectVolumes(ctx.db).where('app_id', '=', app_id).execute()).map(toVolume)
  })
  server.get('/apps/:app/volumes/:id', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    const id = param(req, 'id')
    if (!isUuid(id)) notFound()
    const query = selectVolumes(ctx.db).where('app_id', '=', app_id).where('volume_id', '=', id)
    return toVolume(found(await query.executeTakeFirst()))
  })
  server.put('/apps/:app/volumes/:id/decommission', req => decommission(ctx, req))
}
