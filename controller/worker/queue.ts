// Takes tasks from the queue (graphile-worker) and runs them. Each pool of this process holds an advisory lock under
// its own name for as long as it lives: tasks whose pool holds none any more belonged to a worker that died, and are
// given free at once instead of after the library's four hours.
import { EventEmitter } from 'node:events'
import { Logger as QueueLogger, type Runner, run, type TaskList, type WorkerEvents } from 'graphile-worker'
import pg from 'pg'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { clientConfig, type PgOptions } from '../../pkg/pg/pg.ts'
import { queueSchema, type TaskName, type Tasks } from '../queue.ts'

export const tasksAtOnceMax = 10
/**
 * New tasks are announced; this is for those whose time comes later. Each of the library's workers looks by itself, so
 * that 2 s were five queries a second: 0.5 % of a core with nothing to do.
 */
export const queuePollMs = 5_000
export const orphanCheckMs = 2_000
/** So many checks in a row must find a pool without its lock: after a failover all of them lock anew. */
const orphanSightingsMin = 3
const lockClass = 4_711_003
/** The library's pool: tasks at once, its listener and some to spare. */
const queueConnectionsMax = tasksAtOnceMax + 3

export type TaskRunners = { readonly [Name in TaskName]: (payload: Tasks[Name]) => Promise<void> }

export type QueueOptions = {
  readonly database: PgOptions
  readonly tasks: TaskRunners
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Runs tasks until the signal aborts; begins anew when the database goes away. Resolves when all tasks have ended. */
export async function runQueue(options: QueueOptions): Promise<void> {
  const { log, signal } = options
  const delays = backoff({ minMs: 200, maxMs: 5_000 })
  while (!signal.aborted) {
    try {
      await session(options, () => delays.reset())
    } catch (err) {
      if (!signal.aborted) log.warn({ err }, 'queue lost, connecting again')
    }
    if (!signal.aborted) await sleep(delays.next(), signal).catch(() => undefined)
  }
}

async function session(options: QueueOptions, onReady: () => void): Promise<void> {
  const { log, signal } = options
  // The library reads times and ids as the driver makes them.
  const { types: _ours, ...config } = clientConfig(options.database)
  const pool = new pg.Pool({ ...config, max: queueConnectionsMax })
  pool.on('error', err => log.warn({ err }, 'idle connection of the queue lost'))
  const events: WorkerEvents = new EventEmitter()
  const over = new AbortController()
  let guarding: Promise<void> | undefined
  events.on('pool:create', ({ workerPool }) => {
    guarding = guard(options.database, workerPool.id, AbortSignal.any([signal, over.signal]), log)
  })
  let runner: Runner | undefined
  const stop = (): void => {
    runner?.stop().catch((err: unknown) => log.warn({ err }, 'queue did not stop cleanly'))
  }
  try {
    runner = await run({
      pgPool: pool,
      schema: queueSchema,
      taskList: taskList(options),
      concurrency: tasksAtOnceMax,
      pollInterval: queuePollMs,
      noHandleSignals: true,
      events,
      logger: queueLogger(log),
    })
    onReady()
    signal.addEventListener('abort', stop, { once: true })
    if (signal.aborted) stop()
    await runner.promise
  } finally {
    signal.removeEventListener('abort', stop)
    over.abort()
    await guarding
    await pool.end()
  }
}

function taskList({ tasks, log }: QueueOptions): TaskList {
  const wrap = <Name extends TaskName>(name: Name) => [
    name,
    async (payload: unknown) => {
      try {
        await tasks[name](payload as Tasks[Name])
      } catch (err) {
        log.warn({ err, task: name }, 'task failed, it will be tried again')
        throw err
      }
    },
  ]
  return Object.fromEntries((Object.keys(tasks) as TaskName[]).map(wrap)) as TaskList
}

function queueLogger(log: Logger): QueueLogger {
  const levels = { error: 'error', warning: 'warn', info: 'debug', debug: 'trace' } as const
  return new QueueLogger(() => (level, message) => log[levels[level]](message))
}

/** Holds the pool's lock and frees tasks of pools that hold none; connects again until told to stop. */
async function guard(database: PgOptions, poolId: string, signal: AbortSignal, log: Logger): Promise<void> {
  while (!signal.aborted) {
    const client = new pg.Client(clientConfig(database))
    client.on('error', err => log.debug({ err }, 'guard connection lost'))
    try {
      await client.connect()
      await client.query('SELECT pg_advisory_lock_shared($1, hashtext($2))', [lockClass, poolId])
      const sightings = new Map<string, number>()
      for (;;) {
        await freeOrphans(client, poolId, sightings, log)
        await sleep(orphanCheckMs, signal)
      }
    } catch (err) {
      if (!signal.aborted) {
        log.debug({ err }, 'guard begins again')
        await sleep(1_000, signal).catch(() => undefined)
      }
    } finally {
      await Promise.race([client.end().catch(() => undefined), sleep(1_000)])
    }
  }
}

/** `sightings`: how often in a row each pool was found without its lock. */
async function freeOrphans(
  client: pg.Client,
  ownId: string,
  sightings: Map<string, number>,
  log: Logger,
): Promise<void> {
  const { rows } = await client.query<{ id: string }>(
    `SELECT DISTINCT locked_by AS id FROM ${queueSchema}._private_jobs
     WHERE locked_by IS NOT NULL AND locked_by <> $1
       AND NOT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND granted
         AND classid = $2::oid AND objid = (hashtext(locked_by)::bigint & 4294967295)::oid)`,
    [ownId, lockClass],
  )
  const seen = new Map(rows.map(({ id }) => [id, (sightings.get(id) ?? 0) + 1]))
  sightings.clear()
  for (const [id, times] of seen) sightings.set(id, times)
  const gone = [...seen].filter(([, times]) => times >= orphanSightingsMin).map(([id]) => id)
  if (gone.length === 0) return
  log.warn({ pools: gone }, 'taking over the tasks of a worker that is gone')
  await client.query(`SELECT ${queueSchema}.force_unlock_workers($1::text[])`, [gone])
}
