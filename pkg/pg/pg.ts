// PostgreSQL for our components: options from the platform's environment, a pool whose broken connections never come
// back, transactions that are run again after a deadlock, and time as RFC 3339 text with microseconds.
// Statement, lock and idle-in-transaction limits are set for every session. Called by controller, blobstore, appliance.
import { Kysely, PostgresDialect, type Transaction } from 'kysely'
import pg from 'pg'
import { poll, sleep } from '../clock/clock.ts'
import { FlynnError } from '../errors/errors.ts'
import type { Logger } from '../log/log.ts'
import { socketsTo } from './moved.ts'

export const poolConnectionsMax = 20
export const connectTimeoutMs = 5_000
export const statementTimeoutMs = 30_000
/** The client gives up a little later than the server, which matters only when the server is gone. */
export const queryTimeoutMs = 35_000
export const lockTimeoutMs = 15_000
export const idleInTransactionTimeoutMs = 60_000
export const idleConnectionMs = 30_000
export const keepAliveDelayMs = 10_000
export const transactionAttemptsMax = 4

export type PgOptions = {
  readonly host: string
  readonly port?: number | undefined
  readonly user: string
  readonly password?: string | undefined
  readonly database: string
  readonly applicationName: string
  readonly connectionsMax?: number | undefined
}

/**
 * Options from `FLYNN_POSTGRES PGUSER PGPASSWORD PGDATABASE` (contract controller.md 1.2): the host is
 * `leader.<FLYNN_POSTGRES>.discoverd` unless PGHOST names one. Throws when a name is missing.
 */
export function pgOptionsFromEnv(env: NodeJS.ProcessEnv, applicationName: string): PgOptions {
  const need = (name: string): string => {
    const value = env[name]
    if (value) return value
    throw new FlynnError({
      code: 'missing_env',
      status: 500,
      message: `environment variable ${name} is not set`,
      remedy: `set ${name} in the release's environment`,
    })
  }
  return {
    host: env['PGHOST'] || `leader.${need('FLYNN_POSTGRES')}.discoverd`,
    port: env['PGPORT'] ? Number(env['PGPORT']) : undefined,
    user: need('PGUSER'),
    password: env['PGPASSWORD'],
    database: need('PGDATABASE'),
    applicationName,
  }
}

const oids = { int8: 20, timestamptz: 1184 } as const

/** `2026-11-20 23:09:02.52318+00` to `2026-11-20T23:09:02.52318Z`; sessions are in UTC and ISO style. */
export function toRfc3339(text: string): string {
  return text.replace(' ', 'T').replace(/\+00(:00)?$/, 'Z')
}

const types = {
  getTypeParser(oid: number, format?: 'text' | 'binary') {
    if (oid === oids.timestamptz) return toRfc3339
    // Event ids and sizes: far below 2^53.
    if (oid === oids.int8) return Number
    return pg.types.getTypeParser(oid, format as 'text')
  },
}

export function clientConfig(options: PgOptions): pg.ClientConfig {
  // Names of discoverd move from one server to another when a host dies.
  const stream = options.host.endsWith('.discoverd') ? { stream: socketsTo(options.host) } : {}
  return {
    ...stream,
    host: options.host,
    port: options.port ?? 5432,
    user: options.user,
    password: options.password ?? '',
    database: options.database,
    application_name: options.applicationName,
    connectionTimeoutMillis: connectTimeoutMs,
    statement_timeout: statementTimeoutMs,
    lock_timeout: lockTimeoutMs,
    idle_in_transaction_session_timeout: idleInTransactionTimeoutMs,
    query_timeout: queryTimeoutMs,
    keepAlive: true,
    keepAliveInitialDelayMillis: keepAliveDelayMs,
    options: '-c TimeZone=UTC -c DateStyle=ISO',
    types: types as NonNullable<pg.ClientConfig['types']>,
  }
}

export function createPool(options: PgOptions, log: Logger): pg.Pool {
  const pool = new pg.Pool({
    ...clientConfig(options),
    max: options.connectionsMax ?? poolConnectionsMax,
    idleTimeoutMillis: idleConnectionMs,
  })
  // An idle connection that breaks is only dropped from the pool; queries meet their own errors.
  pool.on('error', err => log.warn({ err }, 'idle database connection lost'))
  pool.on('connect', client => client.on('error', err => log.warn({ err }, 'database connection lost')))
  return pool
}

/** SQLSTATE of a server error; undefined for everything else. */
export function sqlState(e: unknown): string | undefined {
  return e instanceof pg.DatabaseError ? e.code : undefined
}

/** The constraint that a server error names. */
export function constraintOf(e: unknown): string | undefined {
  return e instanceof pg.DatabaseError ? e.constraint : undefined
}

export const sqlStates = {
  uniqueViolation: '23505',
  foreignKeyViolation: '23503',
  checkViolation: '23514',
  raised: 'P0001',
  invalidText: '22P02',
  serializationFailure: '40001',
  deadlock: '40P01',
  lockTimeout: '55P03',
  queryCanceled: '57014',
  readOnly: '25006',
} as const

const connectionErrors = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EPIPE',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ETIMEDOUT',
  'ENOTFOUND',
  'EAI_AGAIN',
])

/** True when the database could not be reached, went away, starts, stops, or is no longer the primary. */
export function isConnectionError(e: unknown): boolean {
  const state = sqlState(e)
  if (state !== undefined)
    return (
      state.startsWith('08') || state.startsWith('57P') || state === '53300' || state === sqlStates.readOnly
    )
  if (!(e instanceof Error)) return false
  if ('code' in e && typeof e.code === 'string' && connectionErrors.has(e.code)) return true
  return /^(Connection terminated|Query read timeout|timeout exceeded when trying to connect|Client has encountered a connection error)/.test(
    e.message,
  )
}

/** A connection that met such an error is closed when released instead of going back to the pool. */
function distrusting(pool: pg.Pool): pg.Pool {
  return new Proxy(pool, {
    get(target, name) {
      if (name === 'connect')
        return async () => {
          const client = await target.connect()
          let broken = false
          const { query, release } = client
          client.query = ((...args: unknown[]) => {
            const result: unknown = Reflect.apply(query, client, args)
            if (result instanceof Promise)
              result.catch((e: unknown) => {
                broken ||= isConnectionError(e)
              })
            return result
          }) as typeof client.query
          client.release = (destroy?: boolean | Error) => {
            client.query = query
            client.release = release
            release.call(client, destroy ?? broken)
          }
          return client
        }
      const value: unknown = Reflect.get(target, name, target)
      return typeof value === 'function' ? value.bind(target) : value
    },
  })
}

export function createDb<DB>(pool: pg.Pool): Kysely<DB> {
  return new Kysely<DB>({ dialect: new PostgresDialect({ pool: distrusting(pool) }) })
}

/** Set on errors of a COMMIT whose outcome is unknown: the call must not be repeated blindly. */
const ambiguous = new WeakSet<object>()
export function isAmbiguousCommit(e: unknown): boolean {
  return typeof e === 'object' && e !== null && ambiguous.has(e)
}

function canRunAgain(e: unknown): boolean {
  const state = sqlState(e)
  return state === sqlStates.deadlock || state === sqlStates.serializationFailure
}

/** Runs `fn` in a transaction; again, up to the limit, after a deadlock. `fn` must have no effects of its own. */
export async function transaction<DB, T>(
  db: Kysely<DB>,
  fn: (tx: Transaction<DB>) => Promise<T>,
): Promise<T> {
  for (let attempt = 1; ; attempt++) {
    let committing = false
    try {
      return await db.transaction().execute(async tx => {
        const result = await fn(tx)
        committing = true
        return result
      })
    } catch (e) {
      if (committing && isConnectionError(e) && typeof e === 'object' && e !== null) ambiguous.add(e)
      if (!canRunAgain(e) || attempt >= transactionAttemptsMax) throw e
      await sleep(attempt * 20)
    }
  }
}

/** Waits until the database answers a trivial query. */
export async function waitForPostgres(
  pool: pg.Pool,
  options: { readonly timeoutMs: number; readonly signal?: AbortSignal },
): Promise<void> {
  await poll(async () => (await pool.query('SELECT 1')).rowCount === 1, {
    ...options,
    intervalMs: 250,
    what: 'the database to answer',
  })
}
