// How the controller's tables are written: one transaction with its events and queue tasks (contract 3.4). Events are
// appended last and under a lock, so ids become visible in their order and a resuming reader misses none (7, item 2).
import { type Kysely, sql, type Transaction } from 'kysely'
import { transaction } from '../../pkg/pg/pg.ts'
import { queueSchema, type TaskName, type Tasks, taskAttemptsMax, taskKey } from '../queue.ts'
import type { EventType } from '../types.ts'
import type { Tables } from './tables.ts'

export type Db = Kysely<Tables>
export type Tx = Transaction<Tables>

/** Key of the transaction advisory lock that appending events takes. */
const eventLock = 4_711_002

export type NewEvent = {
  readonly app?: string | null | undefined
  readonly type: EventType
  readonly objectId: string
  /** A second event with the same one is dropped. */
  readonly uniqueId?: string
  readonly data: unknown
  readonly op?: 'create' | 'update'
}

export type Write = {
  readonly tx: Tx
  /** Appends an event when the transaction commits, after everything else. */
  emit(event: NewEvent): void
  /** Adds a task for the worker. */
  enqueue<Name extends TaskName>(name: Name, payload: Tasks[Name]): Promise<void>
}

/** Appends events in order. Call it last: other writers wait until this transaction ends. */
export async function appendEvents(tx: Tx, events: readonly NewEvent[]): Promise<void> {
  if (events.length === 0) return
  await sql`SELECT pg_advisory_xact_lock(${sql.lit(eventLock)})`.execute(tx)
  await tx
    .insertInto('events')
    .values(
      events.map(e => ({
        app_id: e.app ?? null,
        object_type: e.type,
        object_id: e.objectId,
        unique_id: e.uniqueId ?? null,
        data: JSON.stringify(e.data ?? null),
        op: e.op ?? null,
      })),
    )
    .onConflict(conflict => conflict.column('unique_id').doNothing())
    .execute()
}

export async function enqueueTask<Name extends TaskName>(
  tx: Tx,
  name: Name,
  payload: Tasks[Name],
): Promise<void> {
  const addJob = sql.ref(`${queueSchema}.add_job`)
  await sql`SELECT ${addJob}(${name}, payload := ${JSON.stringify(payload)}::json,
    max_attempts := ${taskAttemptsMax}::integer, job_key := ${taskKey(name, payload)})`.execute(tx)
}

/** Runs `fn` in a transaction; may run it again after a deadlock, so it must have no effects outside of `write`. */
export function writeTo<T>(db: Db, fn: (write: Write) => Promise<T>): Promise<T> {
  return transaction(db, async tx => {
    const events: NewEvent[] = []
    const result = await fn({
      tx,
      emit: event => {
        events.push(event)
      },
      enqueue: (name, payload) => enqueueTask(tx, name, payload),
    })
    await appendEvents(tx, events)
    return result
  })
}

/** JSON for a jsonb column; undefined is SQL NULL. */
export function jsonb(value: unknown): string | null {
  return value === undefined || value === null ? null : JSON.stringify(value)
}
