// The host's own state in SQLite: jobs, settings, service states, log positions. One file, two connections: what must
// survive a power cut is written with full sync, log positions (worthless after a power cut) without.
//
// A full disk must not end the daemon, whose lease keeps the host in the cluster: the file and SQLite's log of it have blocks
// beyond what is in them, and a file beside them holds what it takes to make that log anew.
import {
  chmodSync,
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs'
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
CREATE TABLE IF NOT EXISTS room (bytes BLOB NOT NULL) STRICT;
`

/** What can be written on a full disk: some hundred jobs that begin and end. */
export const roomBytes = 8 * 1024 ** 2
/** For the log of a database that was closed, and for the memory that its connections share. */
const reserveBytes = 1024 ** 2
/** SQLite's codes for input and output that failed, a full disk, and a file that cannot be opened. */
const diskFailures = [10, 13, 14]

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

function openBoth(file: string): { readonly durable: DatabaseSync; readonly relaxed: DatabaseSync } {
  const durable = open(file, 'FULL')
  try {
    durable.exec(schema)
    return { durable, relaxed: open(file, 'NORMAL') }
  } catch (e) {
    durable.close()
    throw e
  }
}

const isDiskFailure = (e: unknown) =>
  e instanceof Error && 'errcode' in e && diskFailures.includes(Number(e.errcode) & 0xff)

/** The reserve is given up for it when the disk has no block left. */
function openOnAnyDisk(file: string, reserve: string) {
  try {
    return openBoth(file)
  } catch (e) {
    if (!isDiskFailure(e) || !existsSync(reserve)) throw e
    rmSync(reserve)
    return openBoth(file)
  }
}

/** Log and file keep what they once had: as much is written and deleted. On a disk that has no room for it now it waits. */
function makeRoom(db: DatabaseSync, file: string, reserve: string): void {
  const number = (pragma: string) => Number(Object.values(db.prepare(`PRAGMA ${pragma}`).get() ?? {})[0])
  try {
    if (!existsSync(reserve))
      writeFileSync(reserve, Buffer.alloc(reserveBytes, 1), { mode: 0o600, flush: true })
    const isThere = number('freelist_count') * number('page_size') >= roomBytes / 2
    if (isThere && statSync(`${file}-wal`).size >= roomBytes) return
    // Else the little that there is would be taken for an attempt.
    const { bavail, bsize } = statfsSync(dirname(file))
    if (bavail * bsize < 4 * roomBytes) return
    db.exec(`INSERT INTO room (bytes) VALUES (zeroblob(${roomBytes})); PRAGMA wal_checkpoint(FULL)`)
    db.exec('DELETE FROM room')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOSPC') rmSync(reserve, { force: true })
    else if (!isDiskFailure(e)) throw e
  }
}

/** Opens or makes the database; readable by root only, because job environments hold secrets. */
export function openDatabase(file: string): HostDatabase {
  mkdirSync(dirname(file), { recursive: true })
  // Before SQLite makes it: its companion files get the same mode.
  closeSync(openSync(file, 'a', 0o600))
  chmodSync(file, 0o600)
  const reserve = `${file}-reserve`
  const { durable, relaxed } = openOnAnyDisk(file, reserve)
  makeRoom(durable, file, reserve)
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
