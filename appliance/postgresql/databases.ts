// Databases for apps: made whole or not at all, removed with everything that is connected to them. Names are our own
// random hex, checked again before they enter a statement. Contract system-apps.md 6.
import { createHash, createHmac, pbkdf2Sync, randomBytes } from 'node:crypto'
import type { Pool } from 'pg'
import { describeError, invariant } from '../../pkg/errors/errors.ts'
import { randomHex } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { isConnectionError } from '../../pkg/pg/pg.ts'
import { connectionsMax } from './config.core.ts'
import { errors } from './errors.ts'
import { postgresPort, type Resource } from './types.ts'

/** One app may use half of the server's connections, so that it cannot lock the platform out. */
export const databaseConnectionsMax = connectionsMax / 2

const namePattern = /^[0-9a-f]{32}$/
const idPattern = /^\/databases\/([0-9a-f]{32}):([0-9a-f]{32})$/

export type DatabaseId = { readonly user: string; readonly database: string }

export function fromResourceId(id: string): DatabaseId {
  const [, user, database] = idPattern.exec(id) ?? []
  if (user === undefined || database === undefined) throw errors.INVALID_ID({}, { detail: { field: 'id' } })
  return { user, database }
}

export function toResource(id: DatabaseId, password: string, service: string): Resource {
  const host = `leader.${service}.discoverd`
  const { user, database } = id
  return {
    id: `/databases/${user}:${database}`,
    env: {
      FLYNN_POSTGRES: service,
      PGHOST: host,
      PGUSER: user,
      PGPASSWORD: password,
      PGDATABASE: database,
      DATABASE_URL: `postgres://${user}:${password}@${host}:${postgresPort}/${database}`,
    },
  }
}

/** An identifier of ours in quotes. Nothing else may be put into a statement's text. */
function quoted(name: string): string {
  invariant(namePattern.test(name), 'unsafe_identifier')
  return `"${name}"`
}

const scramIterations = 4096

/**
 * A password as PostgreSQL stores it (RFC 5803). Made here so that the password itself is in no statement and thereby
 * in no log of the server. For ASCII passwords only, which ours are: SASLprep leaves those as they are.
 */
export function scramSecret(password: string, salt: Buffer = randomBytes(16)): string {
  const salted = pbkdf2Sync(password, salt, scramIterations, 32, 'sha256')
  const hmac = (key: Buffer, text: string) => createHmac('sha256', key).update(text).digest()
  const stored = createHash('sha256').update(hmac(salted, 'Client Key')).digest('base64')
  const server = hmac(salted, 'Server Key').toString('base64')
  return `SCRAM-SHA-256$${scramIterations}:${salt.toString('base64')}$${stored}:${server}`
}

function toDatabaseError(e: unknown): unknown {
  return isConnectionError(e) ? errors.DATABASE_UNAVAILABLE({ reason: describeError(e) }, { cause: e }) : e
}

async function drop(pool: Pool, id: DatabaseId): Promise<void> {
  // FORCE forbids new connections and ends those there are before it drops.
  await pool.query(`DROP DATABASE IF EXISTS ${quoted(id.database)} WITH (FORCE)`)
  await pool.query(`DROP ROLE IF EXISTS ${quoted(id.user)}`)
}

/** A new database that only its new user may connect to. What was made is removed again when a step fails. */
export async function createDatabase(pool: Pool, service: string, log: Logger): Promise<Resource> {
  const id = { user: randomHex(16), database: randomHex(16) }
  const password = randomHex(16)
  const secret = scramSecret(password)
  const user = quoted(id.user)
  const database = quoted(id.database)
  try {
    await pool.query(
      `CREATE ROLE ${user} LOGIN PASSWORD '${secret}' CONNECTION LIMIT ${databaseConnectionsMax}`,
    )
    await pool.query(`CREATE DATABASE ${database} OWNER ${user} TEMPLATE template0`)
    await pool.query(`REVOKE ALL ON DATABASE ${database} FROM PUBLIC`)
  } catch (e) {
    await drop(pool, id).catch(err => log.error({ err, ...id }, 'a half-made database could not be removed'))
    throw toDatabaseError(e)
  }
  return toResource(id, password, service)
}

/** Removes a database and its user; that they are gone already is no error, so that a repeated call succeeds. */
export async function dropDatabase(pool: Pool, id: DatabaseId): Promise<void> {
  try {
    await drop(pool, id)
  } catch (e) {
    throw toDatabaseError(e)
  }
}

export async function pingDatabase(pool: Pool): Promise<void> {
  try {
    await pool.query('SELECT 1')
  } catch (e) {
    throw toDatabaseError(e)
  }
}
