// Tokens and the hosts behind them, in one SQLite file. A host is known by its name: when it comes from another address, that
// is its address now. Tokens that nobody uses end. Called by api.ts.
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { uuid } from '../pkg/ids/ids.ts'
import { errors } from './errors.ts'
import type { Instance, NewInstance } from './types.ts'

export const tokensMax = 10_000
export const instancesPerTokenMax = 200
/** A token ends this long after the last host asked or registered. */
export const tokenIdleDaysMax = 90
export const busyTimeoutMs = 5_000

const dayMs = 24 * 60 * 60 * 1000

const schema = `
CREATE TABLE IF NOT EXISTS clusters (id TEXT PRIMARY KEY, created_at INTEGER NOT NULL, used_at INTEGER NOT NULL) STRICT;
CREATE INDEX IF NOT EXISTS clusters_used ON clusters (used_at);
CREATE TABLE IF NOT EXISTS instances (
  id TEXT PRIMARY KEY,
  cluster_id TEXT NOT NULL REFERENCES clusters (id) ON DELETE CASCADE,
  name TEXT NOT NULL,
  record TEXT NOT NULL,
  created_at INTEGER NOT NULL,
  UNIQUE (cluster_id, name)
) STRICT;
`

export type Registered = { readonly id: string; readonly isNew: boolean }

export type TokenStore = {
  /** Rejects TOKENS_FULL. */
  createToken(): string
  /** Rejects UNKNOWN_TOKEN or INSTANCES_FULL. */
  register(token: string, host: NewInstance): Registered
  /** Oldest first. Rejects UNKNOWN_TOKEN. */
  instances(token: string): readonly Instance[]
  close(): void
}

type Row = Readonly<Record<string, unknown>>

function toInstance(row: Row): Instance {
  const host = JSON.parse(String(row['record'])) as NewInstance
  return {
    ...host,
    id: String(row['id']),
    cluster_id: String(row['cluster_id']),
    flynn_version: host.flynn_version ?? '',
    ssh_public_keys: host.ssh_public_keys ?? [],
    created_at: new Date(Number(row['created_at'])).toISOString(),
  }
}

/** `file`: path, or `:memory:`. Tokens are secrets: the file is root's. */
export function openStore(file: string, now: () => number = Date.now): TokenStore {
  if (file !== ':memory:') {
    mkdirSync(dirname(file), { recursive: true })
    closeSync(openSync(file, 'a', 0o600))
  }
  const db = new DatabaseSync(file, { timeout: busyTimeoutMs })
  db.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  db.exec(schema)
  const expire = db.prepare('DELETE FROM clusters WHERE used_at < ?')
  const use = db.prepare('UPDATE clusters SET used_at = ? WHERE id = ?')
  const count = db.prepare('SELECT count(*) AS n FROM clusters')
  const countIn = db.prepare('SELECT count(*) AS n FROM instances WHERE cluster_id = ?')
  const insert = db.prepare('INSERT INTO clusters (id, created_at, used_at) VALUES (?, ?, ?)')
  const find = db.prepare('SELECT id FROM instances WHERE cluster_id = ? AND name = ?')
  const list = db.prepare('SELECT * FROM instances WHERE cluster_id = ? ORDER BY created_at, id')
  const update = db.prepare('UPDATE instances SET record = ? WHERE id = ?')
  const add = db.prepare(
    'INSERT INTO instances (id, cluster_id, name, record, created_at) VALUES (?, ?, ?, ?, ?)',
  )

  function requireToken(token: string): void {
    expire.run(now() - tokenIdleDaysMax * dayMs)
    if (use.run(now(), token).changes === 0) throw errors.UNKNOWN_TOKEN({ days: tokenIdleDaysMax })
  }
  return {
    createToken() {
      expire.run(now() - tokenIdleDaysMax * dayMs)
      if (Number(count.get()?.['n']) >= tokensMax) throw errors.TOKENS_FULL({ max: tokensMax })
      const id = uuid()
      insert.run(id, now(), now())
      return id
    },
    register(token, host) {
      requireToken(token)
      const known = find.get(token, host.name)
      if (known) {
        update.run(JSON.stringify(host), String(known['id']))
        return { id: String(known['id']), isNew: false }
      }
      if (Number(countIn.get(token)?.['n']) >= instancesPerTokenMax)
        throw errors.INSTANCES_FULL({ max: instancesPerTokenMax })
      const id = uuid()
      add.run(id, token, host.name, JSON.stringify(host), now())
      return { id, isNew: true }
    },
    instances(token) {
      requireToken(token)
      return list.all(token).map(toInstance)
    },
    close: () => db.close(),
  }
}
