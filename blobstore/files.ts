// The objects: rows of `files` and the content they name. Every change is one transaction, so a reader sees the old
// object until the new one is whole, and an upload that breaks off leaves nothing. Contract blobstore.md 1.3-1.4, 5.
import { createHash } from 'node:crypto'
import type pg from 'pg'
import type { Logger } from '../pkg/log/log.ts'
import { createPool, type PgOptions, sqlState, sqlStates } from '../pkg/pg/pg.ts'
import type { ByteRange } from './conditions.core.ts'
import { copyContent, createContent, hashContent, readContent, writeContent } from './content.ts'
import { errors } from './errors.ts'
import { inSession, openSession, toStoreError } from './session.ts'
import type { BlobInfo } from './types.ts'

/** Transfers at a time; each holds a connection from its first byte to its last. More wait for a few seconds. */
export const transfersMax = 32
/** Connections for what takes a moment: headers, deletions, the status. Transfers cannot starve them. */
const lookupsMax = 4
/** Entries fetched of a listing at a time. */
const listPageRows = 1_000
const postgresBackend = 'postgres'

type Row = {
  readonly file_id: string
  readonly file_oid: number | null
  readonly backend: string
  readonly type: string
  readonly size: number
  readonly sha512: Buffer | null
  readonly updated_at: string
}

export type OpenFile = {
  readonly info: BlobInfo
  read(range: ByteRange): AsyncGenerator<Buffer>
  /** One of these two must be called, `abandon` when a read did not come to its end. Safe to call twice. */
  close(): Promise<void>
  abandon(): void
}

export type FileStore = {
  info(name: string): Promise<BlobInfo | undefined>
  /** The object as it is now, whatever happens to it while it is read. */
  open(name: string): Promise<OpenFile | undefined>
  replace(name: string, type: string, body: AsyncIterable<Uint8Array>): Promise<void>
  /** Continues an object that has exactly `offset` bytes; makes it when there is none. */
  append(name: string, type: string, offset: number, body: AsyncIterable<Uint8Array>): Promise<void>
  copy(source: string, target: string): Promise<void>
  /** The object and all below `name/`. */
  remove(name: string): Promise<void>
  /** One level below `dir` ('' is the root), in byte order. */
  list(dir: string): AsyncGenerator<string>
  ping(): Promise<void>
  readonly pool: pg.Pool
  close(): Promise<void>
}

const columns = 'file_id, file_oid, backend, type, size, sha512, updated_at'

async function findRow(client: pg.Pool | pg.ClientBase, name: string, lock = ''): Promise<Row | undefined> {
  const { rows } = await client.query<Row>(
    `SELECT ${columns} FROM files WHERE name = $1 AND deleted_at IS NULL ${lock}`,
    [name],
  )
  return rows[0]
}

function toInfo(row: Row): BlobInfo {
  return {
    size: Number(row.size),
    contentType: row.type,
    etag: row.sha512 ? `"${row.sha512.toString('base64')}"` : '',
    lastModified: new Date(row.updated_at),
  }
}

function contentOf(row: Row, name: string): number {
  if (row.backend !== postgresBackend || row.file_oid === null)
    throw errors.FOREIGN_BACKEND({ name, backend: row.backend })
  return row.file_oid
}

type NewFile = {
  readonly name: string
  readonly oid: number
  readonly type: string
  readonly size: number
  readonly sha512: Buffer | null
}

async function insertRow(client: pg.ClientBase, file: NewFile): Promise<void> {
  await client.query(
    'INSERT INTO files (file_oid, backend, name, type, size, sha512) VALUES ($1, $2, $3, $4, $5, $6)',
    [file.oid, postgresBackend, file.name, file.type, file.size, file.sha512],
  )
}

/** Old row out, new row in. The lock makes writers of one name take turns, for the moment until they commit. */
async function replaceRow(client: pg.ClientBase, file: NewFile): Promise<void> {
  await client.query('SELECT pg_advisory_xact_lock(hashtextextended($1, 0))', [file.name])
  await client.query('UPDATE files SET deleted_at = now() WHERE name = $1 AND deleted_at IS NULL', [
    file.name,
  ])
  await insertRow(client, file)
}

async function replaceIn(
  client: pg.ClientBase,
  name: string,
  type: string,
  body: AsyncIterable<Uint8Array>,
): Promise<void> {
  const oid = await createContent(client)
  const hash = createHash('sha512')
  const size = await writeContent(client, oid, { offset: 0, hash, body })
  await replaceRow(client, { name, oid, type, size, sha512: hash.digest() })
}

async function appendIn(
  client: pg.ClientBase,
  name: string,
  offset: number,
  body: AsyncIterable<Uint8Array>,
): Promise<boolean> {
  const row = await findRow(client, name, 'FOR UPDATE')
  if (!row) return false
  const oid = contentOf(row, name)
  if (Number(row.size) !== offset) throw errors.WRONG_OFFSET({ offset, size: row.size, name })
  const hash = await hashContent(client, oid, offset)
  const size = await writeContent(client, oid, { offset, hash, body })
  await client.query(
    'UPDATE files SET size = $2, sha512 = $3, sha512_state = NULL, updated_at = now() WHERE file_id = $1',
    [row.file_id, size, hash.digest()],
  )
  return true
}

async function copyIn(client: pg.ClientBase, source: string, target: string): Promise<void> {
  const row = await findRow(client, source, 'FOR SHARE')
  if (!row) throw errors.NOT_FOUND({ name: source })
  const oid = await createContent(client)
  await copyContent(client, contentOf(row, source), oid, Number(row.size))
  try {
    await insertRow(client, { name: target, oid, type: row.type, size: Number(row.size), sha512: row.sha512 })
  } catch (e) {
    if (sqlState(e) === sqlStates.uniqueViolation) throw errors.TARGET_EXISTS({ name: target }, { cause: e })
    throw e
  }
}

async function* listIn(client: pg.ClientBase, dir: string): AsyncGenerator<string> {
  await client.query({
    text: `DECLARE entries CURSOR FOR
      SELECT DISTINCT $1::text || '/' || split_part(rest, '/', 1) || CASE WHEN position('/' IN rest) > 0 THEN '/' ELSE '' END
        COLLATE "C" AS entry
      FROM (SELECT substr(name, length($1) + 2) AS rest FROM files
            WHERE deleted_at IS NULL AND starts_with(name, $1 || '/')) AS below
      ORDER BY entry`,
    values: [dir],
  })
  for (;;) {
    const { rows } = await client.query<{ entry: string }>(`FETCH ${listPageRows} FROM entries`)
    for (const row of rows) yield row.entry
    if (rows.length < listPageRows) return
  }
}

export function fileStore(options: PgOptions, log: Logger): FileStore {
  const transfers = createPool({ ...options, connectionsMax: transfersMax }, log)
  const lookups = createPool({ ...options, connectionsMax: lookupsMax }, log)
  const lookup = async <T>(work: () => Promise<T>): Promise<T> => {
    try {
      return await work()
    } catch (e) {
      throw toStoreError(e)
    }
  }
  return {
    pool: lookups,
    info: name =>
      lookup(async () => {
        const row = await findRow(lookups, name)
        return row && toInfo(row)
      }),
    async open(name) {
      const session = await openSession(transfers, 'snapshot')
      try {
        const row = await findRow(session.client, name)
        if (!row) {
          await session.commit()
          return undefined
        }
        const oid = contentOf(row, name)
        return {
          info: toInfo(row),
          read: range => readContent(session.client, oid, range),
          close: session.commit,
          abandon: session.abandon,
        }
      } catch (e) {
        session.abandon()
        throw toStoreError(e)
      }
    },
    replace: (name, type, body) =>
      inSession(transfers, 'write', client => replaceIn(client, name, type, body)),
    append: (name, type, offset, body) =>
      inSession(transfers, 'write', async client => {
        if (!(await appendIn(client, name, offset, body))) await replaceIn(client, name, type, body)
      }),
    copy: (source, target) => inSession(transfers, 'write', client => copyIn(client, source, target)),
    remove: name =>
      lookup(async () => {
        await lookups.query(
          `UPDATE files SET deleted_at = now()
           WHERE deleted_at IS NULL AND (name = $1 OR starts_with(name, $1 || '/'))`,
          [name],
        )
      }),
    async *list(dir) {
      const session = await openSession(transfers, 'snapshot')
      try {
        yield* listIn(session.client, dir)
        await session.commit()
      } catch (e) {
        throw toStoreError(e)
      } finally {
        session.abandon()
      }
    },
    ping: () =>
      lookup(async () => {
        await lookups.query('SELECT 1')
      }),
    async close() {
      await Promise.all([transfers.end(), lookups.end()])
    },
  }
}
