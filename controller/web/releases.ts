// Releases: create, list, get, delete, and an app's current one (contract controller.md 2.5).
import type { FastifyRequest } from 'fastify'
import { sql } from 'kysely'
import { sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import { withResourceDefaults } from '../hostjob.core.ts'
import { jsonb, type Tx, type Write } from '../schema/write.ts'
import { IdInput, type ProcessType, type Release, ReleaseInput } from '../types.ts'
import { checkId, findApp, lockApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, param, type Routes, write } from './context.ts'
import { deleteRelease } from './release-deletion.ts'
import { lookupRelease, selectReleases, toRelease } from './release-lookup.ts'
import { isUuid } from './wire.ts'

/** Deprecated inputs become the current ones; resource defaults are filled in. */
export function normaliseProcess(process: ProcessType): ProcessType {
  const { entrypoint = [], cmd = [], data, ...rest } = process
  const hasVolumes = (rest.volumes?.length ?? 0) > 0
  const args = rest.args?.length ? rest.args : [...entrypoint, ...cmd]
  return {
    ...rest,
    ...(args.length > 0 ? { args } : {}),
    ...(process.entrypoint ? { entrypoint } : {}),
    ...(process.cmd ? { cmd } : {}),
    ...(data && !hasVolumes ? { volumes: [{ path: '/data' }] } : {}),
    ...(data && hasVolumes ? { data } : {}),
    resources: withResourceDefaults(rest.resources),
  }
}

function checkEnv(env: Readonly<Record<string, string>> | undefined, field: string): void {
  if (env && Object.hasOwn(env, ''))
    throw fieldError(field, 'must not have an empty key', 'name every variable')
}

async function checkReferences(tx: Tx, appId: string, artifactIds: readonly string[]): Promise<void> {
  const app = await tx
    .selectFrom('apps')
    .select('app_id')
    .where('app_id', '=', appId)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  if (!app) throw fieldError('app_id', `names no app: ${appId}`, 'send the id of an app that exists')
  const rows = await tx
    .selectFrom('artifacts')
    .select('artifact_id')
    .where('artifact_id', '=', sql<string>`ANY (${artifactIds}::uuid[])`)
    .where('deleted_at', 'is', null)
    .execute()
  const known = new Set(rows.map(row => row.artifact_id))
  const missing = artifactIds.find(id => !known.has(id))
  if (missing !== undefined)
    throw fieldError('artifacts', `names no artifact: ${missing}`, 'create the artifact first')
}

function artifactIdsOf(input: ReleaseInput): readonly string[] {
  const ids = input.artifacts?.length ? input.artifacts : input.artifact ? [input.artifact] : []
  const bad = ids.find(id => !isUuid(id))
  if (bad !== undefined) throw fieldError('artifacts', `names no artifact: ${bad}`, 'send artifact ids')
  if (new Set(ids).size !== ids.length) throw fieldError('artifacts', 'must not name one artifact twice')
  return ids
}

async function insertRelease(w: Write, input: ReleaseInput, appId: string): Promise<Release> {
  const artifactIds = artifactIdsOf(input)
  await checkReferences(w.tx, appId, artifactIds)
  const processes = Object.entries(input.processes ?? {}).map(([type, p]) => [type, normaliseProcess(p)])
  const row = await w.tx
    .insertInto('releases')
    .values({
      ...(input.id ? { release_id: input.id } : {}),
      app_id: appId,
      env: jsonb(input.env ?? {}),
      meta: jsonb(input.meta ?? {}),
      processes: jsonb(Object.fromEntries(processes)),
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  if (artifactIds.length > 0)
    await w.tx
      .insertInto('release_artifacts')
      .values(artifactIds.map((artifact_id, index) => ({ release_id: row.release_id, artifact_id, index })))
      .execute()
  const release = toRelease({ ...row, artifact_ids: artifactIds })
  w.emit({ app: appId, type: 'release', objectId: release.id, data: release, op: 'create' })
  return release
}

async function createRelease(ctx: Context, req: FastifyRequest): Promise<Release> {
  const input = bodyOf(req, ReleaseInput)
  checkId(input.id)
  const appId = input.app_id
  if (!appId) throw fieldError('app_id', 'is required', 'send the id of the app')
  if (!isUuid(appId)) throw fieldError('app_id', 'must be a UUID', 'send the id of the app, not its name')
  checkEnv(input.env, 'env')
  for (const [type, p] of Object.entries(input.processes ?? {})) checkEnv(p.env, `processes.${type}.env`)
  try {
    const release = await write(ctx, w => insertRelease(w, input, appId))
    // The legacy member is echoed on create only when it was sent (contract 2.5).
    const { artifact, ...rest } = release
    return input.artifact && artifact ? { ...rest, artifact } : rest
  } catch (e) {
    if (sqlState(e) === sqlStates.uniqueViolation)
      throw errors.OBJECT_EXISTS({ kind: 'release', name: input.id ?? '', field: 'id' })
    throw e
  }
}

/** Points the app at a release and says so. Starts nothing. */
export async function setAppRelease(w: Write, appId: string, release: Release): Promise<void> {
  const app = await lockApp(w.tx, appId)
  const previous = app.release_id === null ? undefined : await lookupRelease(w.tx, app.release_id)
  await w.tx
    .updateTable('apps')
    .set({ release_id: release.id, updated_at: sql`now()` })
    .where('app_id', '=', appId)
    .execute()
  w.emit({
    app: appId,
    type: 'app_release',
    objectId: release.id,
    data: { ...(previous ? { prev_release: previous } : {}), release },
    op: previous ? 'update' : 'create',
  })
}

/** The release that a body names by id; a wrong one is a 400, not a 404 (contract 2.5, 2.9). */
export async function releaseOfBody(ctx: Context, req: FastifyRequest): Promise<Release> {
  const { id } = bodyOf(req, IdInput)
  const release = await lookupRelease(ctx.db, id)
  if (release) return release
  const text = `could not find release with ID ${id}`
  throw errors.INVALID({ text, remedy: 'list the releases of the app: flynn release' })
}

export const releaseRoutes: Routes = (server, ctx) => {
  server.post('/releases', req => createRelease(ctx, req))
  const live = () => selectReleases(ctx.db).where('deleted_at', 'is', null).orderBy('created_at', 'desc')
  server.get('/releases', async () => (await live().execute()).map(toRelease))
  server.get('/releases/:id', async req => found(await lookupRelease(ctx.db, param(req, 'id'))))
  server.get('/apps/:app/releases', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    return (await live().where('app_id', '=', app_id).execute()).map(toRelease)
  })
  server.delete('/apps/:app/releases/:release', async (req, reply) => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    await deleteRelease(ctx, app_id, param(req, 'release'))
    return reply.send()
  })
  server.get('/apps/:app/release', async req => {
    const app = await findApp(ctx.db, param(req, 'app'))
    return found(app.release_id === null ? undefined : await lookupRelease(ctx.db, app.release_id))
  })
  server.put('/apps/:app/release', async req => {
    const app = await findApp(ctx.db, param(req, 'app'))
    const release = await releaseOfBody(ctx, req)
    await write(ctx, w => setAppRelease(w, app.app_id, release))
    return release
  })
}
