// The host's own state in SQLite: jobs, settings, service states, log positions. One file, two connections: what must
// survive a power cut is written with full sync, log positions (worthless after a power cut) without.
import { chmodSync, closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'

export const busyTimeoutMs = 5_000

const schema = `
CREATE TABLE IF NOT EXISTS jobs (
  id TEXT PRIMARY KEY,
  record TEXT NOT NULL,
  listed INTEGER NOT NULL,
  cleaned INTEGER NOT NULL DEFAULT 0,
  created_at TEXT NOT NULL
) STRICT;
CREATE INDEX IF NOT EXISTS jobs_listed ON jobs (listed, created_at);
CREATE TABLE IF NOT EXISTS settings (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS service_states (
  job_id TEXT NOT NULL, port INTEGER NOT NULL, state TEXT NOT NULL, PRIMARY KEY (job_id, port)
) STRICT;
CREATE TABLE IF NOT EXISTS log_positions (
  job_id TEXT NOT NULL, stream TEXT NOT NULL, position INTEGER NOT NULL, PRIMARY KEY (job_id, stream)
) STRICT;
CREATE TABLE IF NOT EXISTS log_files (app TEXT PRIMARY KEY, bytes INTEGER NOT NULL) STRICT;
`

export type HostDatabase = {
  /** Every commit is on disk when the call returns. */
  readonly durable: DatabaseSync
  /** Commits survive the end of this process, not a power cut. */
  readonly relaxed: DatabaseSync
  getSetting<T>(key: string): T | undefined
  /** `undefined` removes. */
  setSetting(key: string, value: unknown): void
  close(): void
}

function open(file: string, synchronous: 'FULL' | 'NORMAL'): DatabaseSync {
  const db = new DatabaseSync(file, { timeout: busyTimeoutMs })
  db.exec(`PRAGMA journal_mode = WAL; PRAGMA synchronous = ${synchronous}; PRAGMA foreign_keys = ON`)
  return db
}

/** Opens or makes the database; readable by root only, because job environments hold secrets. */
export function openDatabase(file: string): HostDatabase {
  mkdirSync(dirname(file), { recursive: true })
  // Before SQLite makes it: its companion files get the same mode.
  closeSync(openSync(file, 'a', 0o600))
  chmodSync(file, 0o600)
  const durable = open(file, 'FULL')
  durable.exec(schema)
  const relaxed = open(file, 'NORMAL')
  const get = durable.prepare('SELECT value FROM settings WHERE key = ?')
  const set = durable.prepare(
    'INSERT INTO settings (key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value',
  )
  const remove = durable.prepare('DELETE FROM settings WHERE key = ?')
  let closed = false
  return {
    durable,
    relaxed,
    getSetting<T>(key: string) {
      const row = get.get(key)
      return row === undefined ? undefined : (JSON.parse(String(row['value'])) as T)
    },
    setSetting(key, value) {
      if (value === undefined) remove.run(key)
      else set.run(key, JSON.stringify(value))
    },
    close() {
      if (closed) return
      closed = true
      relaxed.close()
      durable.close()
    },
  }
}

/** All or nothing on one connection. */
export function transaction<T>(db: DatabaseSync, work: () => T): T {
  db.exec('BEGIN IMMEDIATE')
  try {
    const result = work()
    db.exec('COMMIT')
    return result
  } catch (e) {
    db.exec('ROLLBACK')
    throw e
  }
}
