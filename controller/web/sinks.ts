// Log sinks: create, list, get, delete, stream (contracts controller.md 2.14, system-apps.md 2.2). The scheduler passes
// them on to every host.
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import { sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import { jsonb } from '../schema/write.ts'
import { type Sink, SinkInput } from '../types.ts'
import { checkId } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, queryParam, type Routes, write } from './context.ts'
import { sinceOf } from './formations.ts'
import { streamList } from './list-stream.ts'
import { isUuid, omitEmpty } from './wire.ts'

export const sinksMax = 100
/** For clients that end the stored part at a sink without an id. */
const sentinel = { id: '', kind: '' }
/** Key of the transaction advisory lock under which sinks are counted and made. */
const sinkLock = 4_711_004

function toSink(row: Selectable<Tables['sinks']>): Sink {
  return omitEmpty({
    id: row.sink_id,
    kind: row.kind,
    config: row.config,
    created_at: row.created_at,
    updated_at: row.updated_at,
  })
}

/** A deleted sink is told without its configuration. */
function deletedSink(sink: Sink): Sink {
  const { config: _config, ...rest } = sink
  return rest
}

async function createSink(ctx: Context, req: FastifyRequest): Promise<Sink> {
  const input = bodyOf(req, SinkInput)
  checkId(input.id)
  try {
    return await write(ctx, async ({ tx, emit }) => {
      await sql`SELECT pg_advisory_xact_lock(${sql.lit(sinkLock)})`.execute(tx)
      const { count } = await tx
        .selectFrom('sinks')
        .select(eb => eb.fn.countAll<number>().as('count'))
        .where('deleted_at', 'is', null)
        .executeTakeFirstOrThrow()
      if (count >= sinksMax) throw errors.TOO_MANY_SINKS({ max: sinksMax })
      const row = await tx
        .insertInto('sinks')
        .values({
          ...(input.id ? { sink_id: input.id } : {}),
          kind: input.kind,
          config: jsonb(input.config) ?? '{}',
        })
        .returningAll()
        .executeTakeFirstOrThrow()
      const sink = toSink(row)
      emit({ type: 'sink', objectId: sink.id, data: sink, op: 'create' })
      return sink
    })
  } catch (e) {
    if (sqlState(e) === sqlStates.uniqueViolation)
      throw errors.OBJECT_EXISTS({ kind: 'sink', name: input.id ?? '', field: 'id' })
    throw e
  }
}

async function deleteSink(ctx: Context, id: string): Promise<Sink> {
  if (!isUuid(id)) notFound()
  return write(ctx, async ({ tx, emit }) => {
    const row = await tx
      .updateTable('sinks')
      .set({ deleted_at: sql<string>`clock_timestamp()`, updated_at: sql`clock_timestamp()` })
      .where('sink_id', '=', id)
      .where('deleted_at', 'is', null)
      .returningAll()
      .executeTakeFirst()
    const sink = toSink(found(row))
    emit({ type: 'sink_deletion', objectId: id, data: sink })
    return sink
  })
}

export const sinkRoutes: Routes = (server, ctx) => {
  const live = () =>
    ctx.db.selectFrom('sinks').selectAll().where('deleted_at', 'is', null).orderBy('updated_at', 'desc')
  server.post('/sinks', req => createSink(ctx, req))
  server.get('/sinks', async (req, reply) => {
    if (!(req.headers.accept ?? '').includes('text/event-stream')) return (await live().execute()).map(toSink)
    const since = queryParam(req, 'since')
    if (since === undefined) throw fieldError('since', 'is required for a stream')
    const from = sinceOf(since)
    await streamList<Sink>(ctx, reply, {
      types: ['sink', 'sink_deletion'],
      stored: async () => (await live().where('updated_at', '>=', from).execute()).map(toSink),
      sentinel,
      live: async ({ object_type, data }) =>
        object_type === 'sink' ? (data as Sink) : deletedSink(data as Sink),
    })
    return reply
  })
  server.get('/sinks/:id', async req => {
    const id = param(req, 'id')
    if (!isUuid(id)) notFound()
    return toSink(found(await live().where('sink_id', '=', id).executeTakeFirst()))
  })
  server.delete('/sinks/:id', req => deleteSink(ctx, param(req, 'id')))
}
