// Brings a database to the newest schema: one controller at a time (advisory lock), each migration one transaction.
// An empty database gets the original's final schema in one step and its ids 1 to 49; ours come after from 1001 on, out
// of the way of ids that forks of the original use (contract 3.5, appendix B).
import { runMigrations } from 'graphile-worker'
import type pg from 'pg'
import { FlynnError } from '../../pkg/errors/errors.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { queueSchema } from '../queue.ts'
import { baselineSql } from './baseline.ts'
import { functionsSql } from './functions.ts'

/** The original's newest migration. */
export const originalMigrationMax = 49
/** Key of the session advisory lock that migrations run under. */
const migrationLock = 4_711_001
const migrationTimeoutMs = 300_000

type Migration = { readonly id: number; readonly sql: string }

/** Ours, in order. Each must be safe on a database that was restored from the original. */
const migrations: readonly Migration[] = [
  {
    // The newest event of an object is asked for with every deployment that is read (contract 7, item 10).
    id: 1001,
    sql: `
      CREATE INDEX events_object_id_idx ON events (object_id);
      CREATE INDEX job_cache_app_id_idx ON job_cache (app_id);
      CREATE INDEX job_cache_active_idx ON job_cache (state) WHERE state IN ('pending', 'starting', 'up', 'stopping');
      CREATE INDEX scale_requests_pending_idx ON scale_requests (app_id, release_id) WHERE state = 'pending';`,
  },
  {
    id: 1002,
    sql: `
      CREATE TABLE audit_log (
        audit_id bigserial PRIMARY KEY, created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        actor text NOT NULL, user_email text, address text NOT NULL, request_id text NOT NULL,
        method text NOT NULL, path text NOT NULL, app text, report boolean NOT NULL DEFAULT false,
        body jsonb, status integer NOT NULL, error text);
      CREATE INDEX audit_log_created_at_idx ON audit_log (created_at);
      CREATE INDEX audit_log_app_idx ON audit_log (app, audit_id) WHERE app IS NOT NULL;
      CREATE INDEX events_created_at_idx ON events (created_at);
      ALTER TABLE deployments ADD COLUMN cancelled_at timestamptz;`,
  },
  {
    id: 1003,
    sql: `
      ALTER TABLE http_routes ADD COLUMN options jsonb;
      ALTER TABLE tcp_routes ADD COLUMN options jsonb;`,
  },
  {
    // A fork of the original has tables of these names (contract router.md 7): its rows are taken over.
    id: 1004,
    sql: `
      CREATE TABLE IF NOT EXISTS acme_config (
        id integer PRIMARY KEY, enabled boolean NOT NULL DEFAULT false, contact_email text, directory_url text,
        terms_of_service_agreed boolean NOT NULL DEFAULT false, account_key text,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now());
      ALTER TABLE acme_config
        ADD COLUMN IF NOT EXISTS account_thumbprint text,
        ADD COLUMN IF NOT EXISTS account_url text;
      CREATE TABLE IF NOT EXISTS managed_certificates (
        id uuid PRIMARY KEY DEFAULT uuid_generate_v4(), domain varchar(255) NOT NULL,
        route_id uuid NOT NULL REFERENCES http_routes (id) ON DELETE CASCADE, status text NOT NULL DEFAULT 'pending',
        expires_at timestamptz, last_error text, last_error_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now(),
        deleted_at timestamptz);
      ALTER TABLE managed_certificates
        ADD COLUMN IF NOT EXISTS attempts integer NOT NULL DEFAULT 0,
        ADD COLUMN IF NOT EXISTS tried_at timestamptz,
        ADD COLUMN IF NOT EXISTS next_attempt_at timestamptz NOT NULL DEFAULT now();
      CREATE UNIQUE INDEX IF NOT EXISTS managed_certificates_live_domain_idx
        ON managed_certificates (domain) WHERE deleted_at IS NULL;
      ALTER TABLE http_routes ADD COLUMN IF NOT EXISTS managed_certificate_domain varchar(255);`,
  },
]

async function inTransaction(client: pg.PoolClient, fn: () => Promise<void>): Promise<void> {
  await client.query('BEGIN')
  try {
    await fn()
    await client.query('COMMIT')
  } catch (e) {
    await client.query('ROLLBACK')
    throw e
  }
}

async function appliedIds(client: pg.PoolClient): Promise<ReadonlySet<number>> {
  await client.query('CREATE TABLE IF NOT EXISTS schema_migrations (id bigint PRIMARY KEY)')
  const { rows } = await client.query<{ id: number }>('SELECT id FROM schema_migrations')
  return new Set(rows.map(row => row.id))
}

async function applyBaseline(client: pg.PoolClient): Promise<void> {
  await inTransaction(client, async () => {
    await client.query(baselineSql())
    await client.query(functionsSql())
    await client.query('INSERT INTO schema_migrations (id) SELECT generate_series(1, $1::bigint)', [
      originalMigrationMax,
    ])
  })
}

/** Tables, functions and the queue's own schema. Safe to run by every process at once and again. */
export async function migrate(pool: pg.Pool, log: Logger): Promise<void> {
  const client = await pool.connect()
  try {
    await client.query(
      `SET statement_timeout = ${migrationTimeoutMs}; SET lock_timeout = ${migrationTimeoutMs}`,
    )
    await client.query('SELECT pg_advisory_lock($1)', [migrationLock])
    const applied = await appliedIds(client)
    if (applied.size === 0) {
      await applyBaseline(client)
      log.info({ id: originalMigrationMax }, 'schema created')
    } else if (!applied.has(originalMigrationMax)) {
      throw new FlynnError({
        code: 'schema_too_old',
        status: 500,
        message: `the database has the schema of an older Flynn (migration ${Math.max(...applied)} of ${originalMigrationMax})`,
        remedy: 'restore a backup of Flynn v20190730 or later',
      })
    }
    for (const { id, sql } of migrations) {
      if (applied.has(id)) continue
      await inTransaction(client, async () => {
        await client.query(sql)
        await client.query('INSERT INTO schema_migrations (id) VALUES ($1)', [id])
      })
      log.info({ id }, 'migration applied')
    }
    await runMigrations({ pgPool: pool, schema: queueSchema })
  } finally {
    // The session's limits and its lock end with the connection.
    client.release(true)
  }
}
