// Scale requests (contract controller.md 2.7): the only way by which a formation changes. A request cancels the pending
// one before it, merges counts per type and replaces tags per type.
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import { jsonb, type Tx, type Write } from '../schema/write.ts'
import {
  isCriticalApp,
  type Processes,
  type ProcessTags,
  type Release,
  type ScaleRequest,
  ScaleRequestInput,
} from '../types.ts'
import { type AppRow, findApp, lockApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { lookupRelease } from './release-lookup.ts'
import { isUuid, omitNull } from './wire.ts'

export type FormationRow = Selectable<Tables['formations']>

export function toScaleRequest(row: Selectable<Tables['scale_requests']>): ScaleRequest {
  return omitNull({
    id: row.scale_request_id,
    app: row.app_id,
    release: row.release_id,
    state: row.state,
    old_processes: row.old_processes,
    new_processes: row.new_processes,
    old_tags: row.old_tags,
    new_tags: row.new_tags,
    created_at: row.created_at,
    updated_at: row.updated_at,
  })
}

export type ScaleWish = {
  readonly appId: string
  readonly release: Release
  readonly processes?: Processes | undefined
  readonly tags?: ProcessTags | undefined
  /** Every type to zero, and the formation gone. Without a live formation nothing happens. */
  readonly deleteFormation?: boolean
}

async function cancelPending(w: Write, appId: string, releaseId: string): Promise<readonly ScaleRequest[]> {
  const rows = await w.tx
    .updateTable('scale_requests')
    .set({ state: 'cancelled', updated_at: sql`clock_timestamp()` })
    .where('app_id', '=', appId)
    .where('release_id', '=', releaseId)
    .where('state', '=', 'pending')
    .returningAll()
    .execute()
  return rows.map(toScaleRequest)
}

async function currentFormation(tx: Tx, appId: string, releaseId: string): Promise<FormationRow | undefined> {
  return tx
    .selectFrom('formations')
    .selectAll()
    .where('app_id', '=', appId)
    .where('release_id', '=', releaseId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
}

async function putFormation(
  tx: Tx,
  wish: ScaleWish,
  next: { readonly processes: Processes; readonly tags: ProcessTags },
): Promise<void> {
  const values = wish.deleteFormation
    ? { processes: null, tags: null, deleted_at: sql<string>`clock_timestamp()` }
    : { processes: jsonb(next.processes), tags: jsonb(next.tags), deleted_at: null }
  await tx
    .insertInto('formations')
    .values({
      app_id: wish.appId,
      release_id: wish.release.id,
      ...values,
      updated_at: sql`clock_timestamp()`,
    })
    .onConflict(conflict =>
      conflict
        .columns(['app_id', 'release_id'])
        .doUpdateSet({ ...values, updated_at: sql`clock_timestamp()` }),
    )
    .execute()
}

/** Zero for every process type of a release. */
export function allZero(release: Release): Processes {
  return Object.fromEntries(Object.keys(release.processes ?? {}).map(type => [type, 0]))
}

function emitScale(w: Write, request: ScaleRequest, cancelled: readonly ScaleRequest[]): void {
  const { app } = request
  w.emit({ app, type: 'scale_request', objectId: request.id, data: request, op: 'create' })
  for (const old of cancelled) {
    // Clients listen to the first type, the original announced the second: both are sent (contract 7, item 3).
    w.emit({ app, type: 'scale_request', objectId: old.id, data: old, op: 'update' })
    w.emit({ app, type: 'scale_request_cancelation', objectId: old.id, data: old, op: 'update' })
  }
  const data = {
    ...(Object.keys(request.old_processes ?? {}).length > 0 ? { prev_processes: request.old_processes } : {}),
    processes: request.new_processes ?? {},
    release: request.release,
  }
  w.emit({ app, type: 'scale', objectId: `${app}:${request.release}`, data })
}

/** A critical app keeps every process type that it has, in one release or another (4.8). */
async function checkCritical(tx: Tx, app: AppRow, release: Release, ends: readonly string[]): Promise<void> {
  if (!isCriticalApp({ name: app.name, meta: app.meta ?? {} }) || ends.length === 0) return
  const others = await tx
    .selectFrom('formations')
    .select('processes')
    .where('app_id', '=', app.app_id)
    .where('release_id', '<>', release.id)
    .where('deleted_at', 'is', null)
    .execute()
  const last = ends.find(type => !others.some(row => (row.processes?.[type] ?? 0) > 0))
  if (last !== undefined) throw errors.CRITICAL_APP({ app: app.name, type: last })
}

/** Makes a scale request inside a transaction; undefined when there was no formation to delete. */
export async function requestScale(w: Write, wish: ScaleWish): Promise<ScaleRequest | undefined> {
  const { appId, release } = wish
  const app = await lockApp(w.tx, appId)
  const formation = await currentFormation(w.tx, appId, release.id)
  if (wish.deleteFormation && !formation) return undefined
  const oldProcesses = formation?.processes ?? {}
  const oldTags = formation?.tags ?? {}
  const processes = wish.deleteFormation ? allZero(release) : { ...oldProcesses, ...wish.processes }
  const tags = { ...oldTags, ...wish.tags }
  const ends = Object.keys(oldProcesses).filter(t => (oldProcesses[t] ?? 0) > 0 && (processes[t] ?? 0) === 0)
  await checkCritical(w.tx, app, release, ends)
  const cancelled = await cancelPending(w, appId, release.id)
  const row = await w.tx
    .insertInto('scale_requests')
    .values({
      app_id: appId,
      release_id: release.id,
      state: 'pending',
      old_processes: jsonb(oldProcesses),
      new_processes: jsonb(processes),
      old_tags: jsonb(oldTags),
      new_tags: jsonb(tags),
      created_at: sql`clock_timestamp()`,
      updated_at: sql`clock_timestamp()`,
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  await putFormation(w.tx, wish, { processes, tags })
  const request = toScaleRequest(row)
  emitScale(w, request, cancelled)
  return request
}

/** The release can be started and has the types that are named. */
export function checkTypes(release: Release, types: readonly string[], field: string): void {
  if ((release.artifacts?.length ?? 0) === 0)
    throw fieldError('release', 'is not deployable', 'create a release with at least one artifact')
  const unknown = types.find(type => !Object.hasOwn(release.processes ?? {}, type))
  if (unknown !== undefined)
    throw fieldError(
      field,
      `names the process type ${unknown}, which the release does not have`,
      `its types are ${Object.keys(release.processes ?? {}).join(', ') || 'none'}`,
    )
}

async function createScale(
  ctx: Context,
  appId: string,
  release: Release,
  input: ScaleRequestInput,
): Promise<ScaleRequest> {
  if (input.new_processes === undefined && input.new_tags === undefined)
    throw fieldError('new_processes', 'or new_tags is required', 'say how many of which process type')
  checkTypes(release, Object.keys(input.new_processes ?? {}), 'new_processes')
  const wish = { appId, release, processes: input.new_processes, tags: input.new_tags }
  return found(await write(ctx, w => requestScale(w, wish)))
}

/** Records what became of a pending request. One that was cancelled meanwhile stays so, and is answered as it is. */
async function finishScale(ctx: Context, appId: string, input: ScaleRequestInput): Promise<ScaleRequest> {
  const { id, state } = input
  if (!id || !isUuid(id) || state === undefined) notFound()
  return write(ctx, async ({ tx, emit }) => {
    const current = await tx
      .selectFrom('scale_requests')
      .selectAll()
      .where('scale_request_id', '=', id)
      .where('app_id', '=', appId)
      .forUpdate()
      .executeTakeFirst()
    if (found(current).state !== 'pending') return toScaleRequest(found(current))
    const row = await tx
      .updateTable('scale_requests')
      .set({ state, updated_at: sql`clock_timestamp()` })
      .where('scale_request_id', '=', id)
      .returningAll()
      .executeTakeFirstOrThrow()
    const request = toScaleRequest(row)
    emit({ app: appId, type: 'scale_request', objectId: id, data: request, op: 'update' })
    return request
  })
}

async function putScale(ctx: Context, req: FastifyRequest): Promise<ScaleRequest> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const input = bodyOf(req, ScaleRequestInput)
  if (input.state !== undefined && input.state !== 'pending') return finishScale(ctx, app_id, input)
  const release = found(await lookupRelease(ctx.db, param(req, 'release')))
  return createScale(ctx, app_id, release, input)
}

export const scaleRoutes: Routes = (server, ctx) => {
  server.put('/apps/:app/scale/:release', req => putScale(ctx, req))
}
