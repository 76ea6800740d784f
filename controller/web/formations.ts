// Formations: put, get (expanded), list, delete, the list of active ones and the stream (contract controller.md 2.6).
import type { FastifyReply, FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import type { Db } from '../schema/write.ts'
import { type ExpandedFormation, type Formation, FormationInput, type ScaleRequest } from '../types.ts'
import { findApp, toApp } from './app-lookup.ts'
import { artifactsByIds } from './artifacts.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, queryParam, type Routes, write } from './context.ts'
import { streamList } from './list-stream.ts'
import { lookupRelease, selectReleases, toRelease } from './release-lookup.ts'
import { allZero, checkTypes, type FormationRow, requestScale, toScaleRequest } from './scales.ts'
import { isUuid, omitEmpty } from './wire.ts'

function toFormation(row: FormationRow): Formation {
  return omitEmpty({
    app: row.app_id,
    release: row.release_id,
    processes: row.processes,
    tags: row.tags,
    created_at: row.created_at,
    updated_at: row.updated_at,
  })
}

function idsOf(rows: readonly FormationRow[], key: 'app_id' | 'release_id'): readonly string[] {
  return [...new Set(rows.map(row => row[key]))]
}

async function pendingRequests(db: Db, rows: readonly FormationRow[]) {
  const list = await db
    .selectFrom('scale_requests')
    .selectAll()
    .where('state', '=', 'pending')
    .where('app_id', '=', sql<string>`ANY (${idsOf(rows, 'app_id')}::uuid[])`)
    .execute()
  return new Map<string, ScaleRequest>(list.map(r => [`${r.app_id}:${r.release_id}`, toScaleRequest(r)]))
}

/** Formations with app, release, artifacts and pending scale request, in the order of the rows. */
export async function expand(db: Db, rows: readonly FormationRow[]): Promise<readonly ExpandedFormation[]> {
  if (rows.length === 0) return []
  const appRows = await db
    .selectFrom('apps')
    .selectAll()
    .where('app_id', '=', sql<string>`ANY (${idsOf(rows, 'app_id')}::uuid[])`)
    .execute()
  const releaseRows = await selectReleases(db)
    .where('release_id', '=', sql<string>`ANY (${idsOf(rows, 'release_id')}::uuid[])`)
    .execute()
  const apps = new Map(appRows.map(row => [row.app_id, toApp(row)]))
  const releases = new Map(releaseRows.map(row => [row.release_id, toRelease(row)]))
  const artifacts = await artifactsByIds(
    db,
    releaseRows.flatMap(row => row.artifact_ids),
  )
  const requests = await pendingRequests(db, rows)
  return rows.map(row => {
    const release = releases.get(row.release_id)
    const list = (release?.artifacts ?? []).flatMap(id => artifacts.get(id) ?? [])
    return omitEmpty<ExpandedFormation>({
      app: apps.get(row.app_id),
      release,
      artifacts: list,
      processes: row.deleted_at === null ? row.processes : null,
      tags: row.deleted_at === null ? row.tags : null,
      deleted: row.deleted_at !== null,
      pending_scale_request: requests.get(`${row.app_id}:${row.release_id}`),
      updated_at: row.updated_at,
    })
  })
}

async function lookupFormation(
  db: Db,
  appId: string,
  releaseId: string,
  options: { readonly deletedToo: boolean } = { deletedToo: false },
): Promise<FormationRow | undefined> {
  if (!isUuid(releaseId)) return undefined
  let query = db
    .selectFrom('formations')
    .selectAll()
    .where('app_id', '=', appId)
    .where('release_id', '=', releaseId)
  if (!options.deletedToo) query = query.where('deleted_at', 'is', null)
  return query.executeTakeFirst()
}

async function putFormation(ctx: Context, req: FastifyRequest): Promise<Formation> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const release = found(await lookupRelease(ctx.db, param(req, 'release')))
  const input = bodyOf(req, FormationInput)
  checkTypes(release, Object.keys(input.processes ?? {}), 'processes')
  const wish = { appId: app_id, release, processes: input.processes ?? allZero(release), tags: input.tags }
  const request = found(await write(ctx, w => requestScale(w, wish)))
  return omitEmpty({
    app: app_id,
    release: release.id,
    processes: input.processes,
    tags: input.tags,
    created_at: request.created_at,
    updated_at: request.updated_at,
  })
}

async function deleteFormation(ctx: Context, req: FastifyRequest): Promise<void> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const row = found(await lookupFormation(ctx.db, app_id, param(req, 'release')))
  // The release may be gone already when a formation was left over.
  const release = await selectReleases(ctx.db)
    .where('release_id', '=', row.release_id)
    .executeTakeFirstOrThrow()
  const wish = { appId: app_id, release: toRelease(release), deleteFormation: true }
  if ((await write(ctx, w => requestScale(w, wish))) === undefined) notFound()
}

/** Those that ask for a process, and those whose scale request waits to be told done, of which a scheduler may have lost sight. */
async function activeFormations(db: Db): Promise<readonly ExpandedFormation[]> {
  const total = sql<number>`(SELECT coalesce(sum(value::integer), 0) FROM jsonb_each_text(processes))`
  const rows = await db
    .selectFrom('formations')
    .selectAll()
    .where('deleted_at', 'is', null)
    .where(eb =>
      eb.or([
        eb.and([sql<boolean>`jsonb_typeof(processes) = 'object'`, eb(total, '>', 0)]),
        eb.exists(
          eb
            .selectFrom('scale_requests')
            .select('scale_request_id')
            .whereRef('scale_requests.app_id', '=', 'formations.app_id')
            .whereRef('scale_requests.release_id', '=', 'formations.release_id')
            .where('scale_requests.state', '=', 'pending'),
        ),
      ]),
    )
    .orderBy('updated_at', 'desc')
    .execute()
  return expand(db, rows)
}

/** For clients that end the stored part at an element without `app`. */
const sentinel = { updated_at: '0001-01-01T00:00:00Z' }

function stream(ctx: Context, reply: FastifyReply, since: string): Promise<void> {
  const sent = new Map<string, string>()
  const key = (row: FormationRow) => `${row.app_id}:${row.release_id}`
  return streamList(ctx, reply, {
    types: ['scale_request'],
    async stored() {
      const rows = await ctx.db
        .selectFrom('formations')
        .selectAll()
        .where('deleted_at', 'is', null)
        .where('updated_at', '>=', since)
        .orderBy('updated_at', 'desc')
        .execute()
      for (const row of rows) sent.set(key(row), row.updated_at)
      return expand(ctx.db, rows)
    },
    sentinel,
    async live(event) {
      const request = event.data as ScaleRequest
      const row = await lookupFormation(ctx.db, request.app, request.release, { deletedToo: true })
      if (!row || comparable(row.updated_at) < comparable(sent.get(key(row)) ?? '')) return undefined
      sent.set(key(row), row.updated_at)
      return (await expand(ctx.db, [row]))[0]
    },
  })
}

/** RFC 3339 with its trailing zeros back, so that text order is time order. */
export function comparable(time: string): string {
  const [, base = '', fraction = ''] = /^(.*?)(?:\.(\d+))?Z?$/.exec(time) ?? []
  return `${base}.${fraction.padEnd(9, '0')}`
}

const timePattern = /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:\d{2})$/

/** A `since` parameter as PostgreSQL takes it; the zero time of Go clients included. */
export function sinceOf(text: string, field = 'since'): string {
  if (!timePattern.test(text) || Number.isNaN(Date.parse(text)))
    throw fieldError(field, 'must be an RFC 3339 time', 'for example 2026-01-31T12:00:00Z')
  return text
}

export const formationRoutes: Routes = (server, ctx) => {
  server.put('/apps/:app/formations/:release', req => putFormation(ctx, req))
  server.get('/apps/:app/formations/:release', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    const row = found(await lookupFormation(ctx.db, app_id, param(req, 'release')))
    if (queryParam(req, 'expand') !== 'true') return toFormation(row)
    return found((await expand(ctx.db, [row]))[0])
  })
  server.delete('/apps/:app/formations/:release', async (req, reply) => {
    await deleteFormation(ctx, req)
    return reply.send()
  })
  server.get('/apps/:app/formations', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    const rows = await ctx.db
      .selectFrom('formations')
      .selectAll()
      .where('app_id', '=', app_id)
      .where('deleted_at', 'is', null)
      .orderBy('created_at', 'desc')
      .execute()
    return rows.map(toFormation)
  })
  server.get('/formations', async (req, reply) => {
    if (queryParam(req, 'active') === 'true') return activeFormations(ctx.db)
    const since = queryParam(req, 'since')
    if (since === undefined || !(req.headers.accept ?? '').includes('text/event-stream'))
      throw fieldError(
        'since',
        'or active=true is required',
        'ask for active=true, or stream with since=<time>',
      )
    await stream(ctx, reply, sinceOf(since))
    return reply
  })
}
