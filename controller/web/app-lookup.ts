// Apps as rows and as wire objects, found by id or name (contract controller.md 1.8, 2.3).
import type { Selectable } from 'kysely'
import type { Tables } from '../schema/tables.ts'
import type { Db } from '../schema/write.ts'
import type { App } from '../types.ts'
import { fieldError } from './body.ts'
import { found } from './context.ts'
import { isUuid, maybeUuid } from './wire.ts'

export type AppRow = Selectable<Tables['apps']>

export function toApp(row: AppRow): App {
  return {
    id: row.app_id,
    name: row.name,
    meta: row.meta ?? {},
    strategy: row.strategy,
    ...(row.release_id === null ? {} : { release: row.release_id }),
    deploy_timeout: row.deploy_timeout,
    created_at: row.created_at,
    updated_at: row.updated_at,
  }
}

/** A live app by id or name; an id wins over another app's name. */
export async function lookupApp(db: Db, idOrName: string): Promise<AppRow | undefined> {
  const rows = await db
    .selectFrom('apps')
    .selectAll()
    .where('deleted_at', 'is', null)
    .where(eb =>
      eb.or([eb('name', '=', idOrName), ...(maybeUuid(idOrName) ? [eb('app_id', '=', idOrName)] : [])]),
    )
    .execute()
  return rows.find(row => row.name !== idOrName) ?? rows[0]
}

/** `lookupApp`, or the plain 404. */
export async function findApp(db: Db, idOrName: string): Promise<AppRow> {
  return found(await lookupApp(db, idOrName))
}

/** Holds the app's row until the transaction ends: scales and deployments of one app come one after another. */
export async function lockApp(tx: Db, appId: string): Promise<AppRow> {
  return found(
    await tx
      .selectFrom('apps')
      .selectAll()
      .where('app_id', '=', appId)
      .where('deleted_at', 'is', null)
      .forNoKeyUpdate()
      .executeTakeFirst(),
  )
}

/** Ids that clients may choose; names that they put there belong to updates, where they are ignored. */
export function checkId(id: string | undefined): void {
  if (id && !isUuid(id)) throw fieldError('id', 'must be a UUID', 'leave it out to get one')
}
