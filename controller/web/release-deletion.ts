// Deletion of a release (contract controller.md 2.5): its formation goes to zero by a scale request, so that the
// scheduler stops its jobs at once; files in the blobstore that nobody else uses are left to the worker.
import { sql } from 'kysely'
import type { Layer, Manifest } from '../../pkg/image/types.ts'
import { errors } from '../errors.ts'
import type { Tx, Write } from '../schema/write.ts'
import type { Artifact } from '../types.ts'
import { lockApp } from './app-lookup.ts'
import { type ArtifactRow, toArtifact } from './artifacts.ts'
import { type Context, found, notFound, write } from './context.ts'
import { lookupRelease } from './release-lookup.ts'
import { requestScale } from './scales.ts'

const tarReceiveUrl = 'http://blobstore.discoverd/tarreceive/layers'

function layersOf(artifact: Artifact): readonly Layer[] {
  return ((artifact.manifest as Manifest | undefined)?.rootfs ?? []).flatMap(r => r.layers ?? [])
}

/** Addresses of an artifact's files, but for layers that another live artifact holds too. */
export function deletableFiles(artifact: Artifact, layersInUse: ReadonlySet<string>): readonly string[] {
  if (artifact.meta?.['blobstore'] !== 'true') return []
  const template = artifact.layer_url_template
  const layers = layersOf(artifact).flatMap(layer => {
    const tarId = layer.meta?.['tar.layer_id']
    if (layersInUse.has(layer.id) || template === undefined) return []
    const file = template.replaceAll('{id}', encodeURIComponent(layer.id))
    return tarId === undefined ? [file] : [file, `${tarReceiveUrl}/${encodeURIComponent(tarId)}.json`]
  })
  return [artifact.uri, ...layers]
}

async function layersElsewhere(tx: Tx, artifact: Artifact): Promise<ReadonlySet<string>> {
  const ids = layersOf(artifact).map(layer => layer.id)
  if (ids.length === 0) return new Set()
  const { rows } = await sql<{ id: string }>`
    SELECT DISTINCT layer->>'id' AS id FROM artifacts,
      jsonb_path_query(manifest, '$.rootfs[*].layers[*]') AS layer
    WHERE deleted_at IS NULL AND artifact_id <> ${artifact.id} AND layer->>'id' = ANY (${ids}::text[])`.execute(
    tx,
  )
  return new Set(rows.map(row => row.id))
}

async function usedByOtherRelease(tx: Tx, artifactId: string, releaseId: string): Promise<boolean> {
  const row = await tx
    .selectFrom('release_artifacts')
    .select('release_id')
    .where('artifact_id', '=', artifactId)
    .where('release_id', '<>', releaseId)
    .where('deleted_at', 'is', null)
    .limit(1)
    .executeTakeFirst()
  return row !== undefined
}

async function deleteArtifacts(tx: Tx, releaseId: string): Promise<readonly string[]> {
  const rows: ArtifactRow[] = await tx
    .selectFrom('artifacts')
    .innerJoin('release_artifacts', 'release_artifacts.artifact_id', 'artifacts.artifact_id')
    .selectAll('artifacts')
    .where('release_artifacts.release_id', '=', releaseId)
    .where('artifacts.deleted_at', 'is', null)
    .execute()
  await tx
    .updateTable('release_artifacts')
    .set({ deleted_at: sql`now()` })
    .where('release_id', '=', releaseId)
    .execute()
  const files: string[] = []
  for (const artifact of rows.map(toArtifact)) {
    if (artifact.meta?.['flynn.system-image'] === 'true') continue
    if (await usedByOtherRelease(tx, artifact.id, releaseId)) continue
    files.push(...deletableFiles(artifact, await layersElsewhere(tx, artifact)))
    await tx
      .updateTable('artifacts')
      .set({ deleted_at: sql`now()` })
      .where('artifact_id', '=', artifact.id)
      .execute()
  }
  return files
}

async function otherApps(tx: Tx, appId: string, releaseId: string): Promise<readonly string[]> {
  const rows = await tx
    .selectFrom('formations')
    .select('app_id')
    .where('release_id', '=', releaseId)
    .where('app_id', '<>', appId)
    .where('deleted_at', 'is', null)
    .execute()
  return rows.map(row => row.app_id)
}

function deletionEvent(w: Write, app: string, release: string, remaining: readonly string[]): void {
  w.emit({
    app,
    type: 'release_deletion',
    objectId: release,
    data: {
      release_deletion: {
        app: remaining.length > 0 ? app : '',
        release,
        remaining_apps: remaining.length > 0 ? remaining : null,
        deleted_files: null,
      },
      error: '',
    },
  })
}

export async function deleteRelease(ctx: Context, appId: string, releaseId: string): Promise<void> {
  const release = found(await lookupRelease(ctx.db, releaseId))
  await write(ctx, async w => {
    const app = await lockApp(w.tx, appId)
    if (app.release_id === release.id)
      throw errors.INVALID({
        text: 'cannot delete current app release',
        remedy: 'deploy another release first',
      })
    const scaled = await requestScale(w, { appId, release, deleteFormation: true })
    const foreign = release.app_id !== undefined && release.app_id !== appId
    // Another app's release that nothing of this app ran: there is nothing of it here.
    if (foreign && scaled === undefined) notFound()
    const others = await otherApps(w.tx, appId, release.id)
    const remaining = foreign ? [...new Set([...others, release.app_id ?? ''])] : others
    if (remaining.length > 0) {
      deletionEvent(w, appId, release.id, remaining)
      return
    }
    const files = await deleteArtifacts(w.tx, release.id)
    await w.tx
      .updateTable('releases')
      .set({ deleted_at: sql`now()` })
      .where('release_id', '=', release.id)
      .execute()
    if (files.length === 0) deletionEvent(w, appId, release.id, [])
    else await w.enqueue('release_cleanup', { AppID: appId, ReleaseID: release.id, FileURIs: files })
  })
}
