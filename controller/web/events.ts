// GET /events and /events/:id (contract controller.md 2.12): a list for `Accept: application/json`, else a stream that
// may begin with what is stored. The subscription stands before the 200 is sent.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Selectable } from 'kysely'
import type { SseWriter } from '../../pkg/sse/sse.ts'
import type { Tables } from '../schema/tables.ts'
import type { ControllerEvent, EventType } from '../types.ts'
import { findApp } from './app-lookup.ts'
import { fieldError } from './body.ts'
import { type Context, found, notFound, openStream, param, queryParam, type Routes } from './context.ts'

/** Live events that may wait while stored ones are sent. */
export const streamBufferMax = 1_000
/** Stored events read at a time. */
export const replayBatchMax = 500
/** Events in one list, when `count` asks for no fewer. */
export const eventListMax = 10_000

type Filter = {
  readonly appId?: string | undefined
  readonly types?: readonly string[] | undefined
  readonly objectId?: string | undefined
}

export function toEvent(row: Selectable<Tables['events']>): ControllerEvent {
  return {
    id: row.event_id,
    ...(row.app_id === null ? {} : { app: row.app_id }),
    object_type: row.object_type as EventType,
    object_id: row.object_id,
    data: row.data,
    created_at: row.created_at,
  }
}

function matches(filter: Filter, event: ControllerEvent): boolean {
  if (filter.appId !== undefined && event.app !== filter.appId) return false
  if (filter.objectId !== undefined && event.object_id !== filter.objectId) return false
  return filter.types === undefined || filter.types.includes(event.object_type)
}

function numberOf(text: string | undefined, field: string): number | undefined {
  if (text === undefined || text === '') return undefined
  if (!/^\d{1,15}$/.test(text)) throw fieldError(field, 'must be a whole number that is not negative')
  return Number(text)
}

async function filterOf(ctx: Context, req: FastifyRequest): Promise<Filter> {
  const app = queryParam(req, 'app_id')
  const types = queryParam(req, 'object_types')
  const objectId = queryParam(req, 'object_id')
  return {
    appId: app ? (await findApp(ctx.db, app)).app_id : undefined,
    types: types ? types.split(',').filter(t => t !== '') : undefined,
    objectId: objectId || undefined,
  }
}

type Range = {
  readonly afterId?: number | undefined
  readonly beforeId?: number | undefined
  readonly count: number
  readonly order: 'asc' | 'desc'
}

async function readEvents(ctx: Context, filter: Filter, range: Range): Promise<ControllerEvent[]> {
  let query = ctx.db.selectFrom('events').selectAll().orderBy('event_id', range.order).limit(range.count)
  if (filter.appId !== undefined) query = query.where('app_id', '=', filter.appId)
  if (filter.types !== undefined) query = query.where('object_type', 'in', [...filter.types])
  if (filter.objectId !== undefined) query = query.where('object_id', '=', filter.objectId)
  if (range.afterId !== undefined) query = query.where('event_id', '>', range.afterId)
  if (range.beforeId !== undefined) query = query.where('event_id', '<', range.beforeId)
  return (await query.execute()).map(toEvent)
}

async function list(ctx: Context, req: FastifyRequest): Promise<ControllerEvent[]> {
  const range = {
    afterId: numberOf(queryParam(req, 'since_id'), 'since_id'),
    beforeId: numberOf(queryParam(req, 'before_id'), 'before_id'),
    count: Math.min(numberOf(queryParam(req, 'count'), 'count') || eventListMax, eventListMax),
    order: 'desc' as const,
  }
  return readEvents(ctx, await filterOf(ctx, req), range)
}

/** Sends stored events after `afterId` in ascending order; returns the id of the last one. */
async function replay(
  ctx: Context,
  stream: SseWriter,
  filter: Filter,
  start: { readonly afterId: number; readonly count: number | undefined },
): Promise<number> {
  let { afterId } = start
  if (start.count) {
    const newest = await readEvents(ctx, filter, {
      afterId,
      count: Math.min(start.count, eventListMax),
      order: 'desc',
    })
    for (const event of newest.reverse()) {
      stream.send(event)
      await stream.drained()
      afterId = event.id
    }
    return afterId
  }
  for (;;) {
    const batch = await readEvents(ctx, filter, { afterId, count: replayBatchMax, order: 'asc' })
    for (const event of batch) {
      if (!stream.send(event)) return event.id
      await stream.drained()
      afterId = event.id
    }
    if (batch.length < replayBatchMax) return afterId
  }
}

async function follow(ctx: Context, req: FastifyRequest, reply: FastifyReply): Promise<void> {
  const header = req.headers['last-event-id']
  const lastId = numberOf(Array.isArray(header) ? header[0] : header, 'Last-Event-Id') ?? 0
  const count = numberOf(queryParam(req, 'count'), 'count')
  const past = queryParam(req, 'past') === 'true'
  const filter = await filterOf(ctx, req)
  let waiting: ControllerEvent[] | undefined = []
  let sentId = lastId
  const unsubscribe = ctx.hub.subscribe(event => {
    if (!matches(filter, event)) return
    if (waiting === undefined) {
      if (event.id > sentId) stream.send(event)
    } else if (waiting.length < streamBufferMax) waiting.push(event)
    else {
      stream.error('event stream buffer overflow')
      stream.close()
    }
  })
  let stream: SseWriter
  try {
    stream = openStream(ctx, reply, unsubscribe)
  } catch (e) {
    unsubscribe()
    throw e
  }
  try {
    if (past || lastId > 0) sentId = await replay(ctx, stream, filter, { afterId: lastId, count })
    for (const event of waiting) if (event.id > sentId) stream.send(event)
    waiting = undefined
  } catch (err) {
    ctx.log.error({ err }, 'event replay failed')
    stream.error('Something went wrong')
    stream.close()
  }
}

export const eventRoutes: Routes = (server, ctx) => {
  server.get('/events', async (req, reply) => {
    if (req.headers.accept === 'application/json') return list(ctx, req)
    await follow(ctx, req, reply)
    return reply
  })
  server.get('/events/:id', async req => {
    const id = param(req, 'id')
    if (!/^\d{1,15}$/.test(id)) notFound()
    const row = await ctx.db
      .selectFrom('events')
      .selectAll()
      .where('event_id', '=', Number(id))
      .executeTakeFirst()
    return toEvent(found(row))
  })
}
