// Artifacts: create, list, get (contract controller.md 2.4).
import { createHash } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import { HttpClient } from '../../pkg/http/client.ts'
import type { Manifest } from '../../pkg/image/types.ts'
import { sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import { type Db, jsonb, type Tx } from '../schema/write.ts'
import { type Artifact, ArtifactInput } from '../types.ts'
import { checkId } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { isUuid, omitEmpty } from './wire.ts'

/** Manifests that the controller fetches itself. */
export const manifestBytesMax = 4 * 1024 * 1024
export const manifestTimeoutMs = 30_000

export type ArtifactRow = Selectable<Tables['artifacts']>

export function toArtifact(row: ArtifactRow): Artifact {
  return omitEmpty({
    id: row.artifact_id,
    type: row.type,
    uri: row.uri,
    meta: row.meta,
    manifest: row.manifest,
    hashes: row.hashes,
    size: row.size,
    layer_url_template: row.layer_url_template,
    created_at: row.created_at,
  })
}

const hashNames: Readonly<Record<string, string>> = {
  sha256: 'sha256',
  sha512: 'sha512',
  sha512_256: 'sha512-256',
}

function checkContent(content: Buffer, input: ArtifactInput): void {
  if (content.length !== input.size)
    throw fieldError('manifest', `has ${content.length} bytes at its uri, not ${input.size}`)
  for (const [name, wanted] of Object.entries(input.hashes ?? {})) {
    const algorithm = hashNames[name]
    if (algorithm === undefined) continue
    const hash = createHash(algorithm).update(content).digest('hex')
    if (hash !== wanted.toLowerCase()) throw fieldError('manifest', `has the ${name} ${hash}, not ${wanted}`)
  }
}

/** The manifest at an artifact's uri, its size and hashes verified. */
async function fetchManifest(input: ArtifactInput): Promise<unknown> {
  if (!input.size)
    throw fieldError(
      'size',
      'is required for an artifact without a manifest',
      'send the manifest or its size',
    )
  if (input.size > manifestBytesMax) throw fieldError('size', `must not be over ${manifestBytesMax} bytes`)
  let content: Buffer
  try {
    const url = new URL(input.uri)
    const http = new HttpClient({ url: url.origin })
    const res = await http.raw('GET', `${url.pathname}${url.search}`, { timeoutMs: manifestTimeoutMs })
    const chunks: Buffer[] = []
    let bytes = 0
    for await (const chunk of res.body) {
      bytes += (chunk as Buffer).length
      if (bytes > input.size) break
      chunks.push(chunk as Buffer)
    }
    content = Buffer.concat(chunks)
    if (bytes > input.size) throw new Error(`more than ${input.size} bytes`)
  } catch (e) {
    const text = e instanceof Error ? e.message : String(e)
    throw fieldError('manifest', `could not be fetched from ${input.uri}: ${text}`)
  }
  checkContent(content, input)
  try {
    return JSON.parse(content.toString())
  } catch {
    throw fieldError('manifest', `at ${input.uri} is not JSON`)
  }
}

async function insertOrFind(tx: Tx, input: ArtifactInput, manifest: unknown): Promise<Artifact> {
  const inserted = await tx
    .insertInto('artifacts')
    .values({
      ...(input.id ? { artifact_id: input.id } : {}),
      type: input.type,
      uri: input.uri,
      meta: jsonb(input.meta),
      manifest: jsonb(manifest),
      hashes: jsonb(input.hashes),
      size: input.size ?? null,
      layer_url_template: input.layer_url_template ?? null,
    })
    .onConflict(conflict => conflict.columns(['type', 'uri']).where('deleted_at', 'is', null).doNothing())
    .returningAll()
    .executeTakeFirst()
  if (inserted) return toArtifact(inserted)
  const existing = await tx
    .selectFrom('artifacts')
    .selectAll()
    .where('type', '=', input.type)
    .where('uri', '=', input.uri)
    .where('deleted_at', 'is', null)
    .executeTakeFirstOrThrow()
  return toArtifact(existing)
}

async function createArtifact(ctx: Context, req: FastifyRequest): Promise<Artifact> {
  const input = bodyOf(req, ArtifactInput)
  checkId(input.id)
  const given = input.manifest ?? undefined
  if (given !== undefined && (typeof given !== 'object' || Array.isArray(given)))
    throw fieldError('manifest', 'must be an object')
  const manifest = given ?? (input.type === 'flynn' ? await fetchManifest(input) : undefined)
  try {
    return await write(ctx, async ({ tx, emit }) => {
      const artifact = await insertOrFind(tx, input, manifest)
      emit({ type: 'artifact', objectId: artifact.id, data: artifact, op: 'create' })
      return artifact
    })
  } catch (e) {
    if (sqlState(e) === sqlStates.uniqueViolation)
      throw errors.OBJECT_EXISTS({ kind: 'artifact', name: input.id ?? '', field: 'id' })
    throw e
  }
}

/** Live artifacts by id, in no order. */
export async function artifactsByIds(db: Db, ids: readonly string[]): Promise<ReadonlyMap<string, Artifact>> {
  if (ids.length === 0) return new Map()
  const rows = await db
    .selectFrom('artifacts')
    .selectAll()
    .where('artifact_id', '=', sql<string>`ANY (${[...new Set(ids)]}::uuid[])`)
    .execute()
  return new Map(rows.map(row => [row.artifact_id, toArtifact(row)]))
}

/** Whether an artifact can be run: it has layers. */
export function isRunnable(artifact: Artifact): boolean {
  return ((artifact.manifest as Manifest | undefined)?.rootfs?.length ?? 0) > 0
}

export const artifactRoutes: Routes = (server, ctx) => {
  server.post('/artifacts', req => createArtifact(ctx, req))
  const live = () => ctx.db.selectFrom('artifacts').selectAll().where('deleted_at', 'is', null)
  server.get('/artifacts', async () => (await live().orderBy('created_at', 'desc').execute()).map(toArtifact))
  server.get('/artifacts/:id', async req => {
    const id = param(req, 'id')
    if (!isUuid(id)) notFound()
    return toArtifact(found(await live().where('artifact_id', '=', id).executeTakeFirst()))
  })
}
