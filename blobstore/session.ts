// A database transaction on a connection of its own: committed when the work ends well, undone by closing the
// connection when not, so that nothing depends on a server that may be gone. Called by `files.ts`.
import type pg from 'pg'
import { describeError } from '../pkg/errors/errors.ts'
import { isConnectionError } from '../pkg/pg/pg.ts'
import { errors } from './errors.ts'

/** `snapshot`: everything is read as it was at the beginning, and nothing can be written. */
export type SessionKind = 'write' | 'snapshot'

export type Session = {
  readonly client: pg.PoolClient
  /** Ends the transaction; safe to call twice. */
  commit(): Promise<void>
  /** Throws the transaction and its connection away; safe to call twice and after `commit`. */
  abandon(): void
}

const begin: Readonly<Record<SessionKind, string>> = {
  write: 'BEGIN ISOLATION LEVEL READ COMMITTED',
  snapshot: 'BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY',
}

/** Connection trouble as 503, for the caller to try again; anything else as it is. */
export function toStoreError(e: unknown): unknown {
  return isConnectionError(e) ? errors.UNAVAILABLE({ reason: describeError(e) }, { cause: e }) : e
}

export async function openSession(pool: pg.Pool, kind: SessionKind): Promise<Session> {
  const client = await pool.connect().catch((e: unknown) => {
    throw toStoreError(e)
  })
  // The pool listens only while it has the connection; unheard, its end would end this process.
  const onLost = () => undefined
  client.on('error', onLost)
  let over = false
  const release = (destroy: boolean) => {
    if (over) return
    over = true
    client.removeListener('error', onLost)
    client.release(destroy)
  }
  try {
    await client.query(begin[kind])
  } catch (e) {
    release(true)
    throw toStoreError(e)
  }
  return {
    client,
    async commit() {
      if (over) return
      await client.query('COMMIT')
      release(false)
    },
    abandon: () => release(true),
  }
}

/** Runs `work` in one transaction. Rejects with what `work` threw, or with UNAVAILABLE. */
export async function inSession<T>(
  pool: pg.Pool,
  kind: SessionKind,
  work: (client: pg.PoolClient) => Promise<T>,
): Promise<T> {
  const session = await openSession(pool, kind)
  try {
    const result = await work(session.client)
    await session.commit()
    return result
  } catch (e) {
    throw toStoreError(e)
  } finally {
    session.abandon()
  }
}
