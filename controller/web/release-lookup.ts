// Releases as rows and as wire objects, with the ids of their artifacts in order (contract controller.md 2.5).
import { sql } from 'kysely'
import type { Db } from '../schema/write.ts'
import type { ProcessType, Release } from '../types.ts'
import { isUuid, omitEmpty } from './wire.ts'

type Row = {
  readonly release_id: string
  readonly app_id: string | null
  readonly meta: Readonly<Record<string, string>> | null
  readonly env: Readonly<Record<string, string>> | null
  readonly processes: Readonly<Record<string, ProcessType>> | null
  readonly created_at: string
  readonly artifact_ids: readonly string[]
}

export function toRelease(row: Row): Release {
  return omitEmpty({
    id: row.release_id,
    app_id: row.app_id,
    artifacts: row.artifact_ids,
    env: row.env,
    meta: row.meta,
    processes: row.processes,
    artifact: row.artifact_ids[0],
    created_at: row.created_at,
  })
}

/** Rows of releases, deleted ones included. */
export function selectReleases(db: Db) {
  const ids = sql<string[]>`coalesce((
    SELECT array_agg(artifact_id::text ORDER BY index) FROM release_artifacts
    WHERE release_id = releases.release_id AND deleted_at IS NULL), '{}')`
  return db.selectFrom('releases').selectAll().select(ids.as('artifact_ids'))
}

/** A live release by id; undefined for text that is no id, too. */
export async function lookupRelease(db: Db, id: string): Promise<Release | undefined> {
  if (!isUuid(id)) return undefined
  const row = await selectReleases(db)
    .where('release_id', '=', id)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  return row && toRelease(row)
}
