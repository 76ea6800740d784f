// The blobstore's tables, in the original's form, because a cluster's backup is a dump of them (contract blobstore.md
// 3). Content is in large objects; a trigger removes one with the row that names it.
import type pg from 'pg'

type Migration = { readonly id: number; readonly statements: readonly string[] }

const migrations: readonly Migration[] = [
  {
    id: 1,
    statements: [
      `CREATE TABLE files (
        file_id oid PRIMARY KEY DEFAULT lo_create(0),
        name text UNIQUE NOT NULL,
        size bigint,
        type text,
        digest text,
        created_at timestamptz NOT NULL DEFAULT now()
      )`,
      `CREATE FUNCTION delete_file() RETURNS trigger AS $$
        BEGIN
          PERFORM lo_unlink(OLD.file_id);
          RETURN NULL;
        END $$ LANGUAGE plpgsql`,
      'CREATE TRIGGER delete_file AFTER DELETE ON files FOR EACH ROW EXECUTE FUNCTION delete_file()',
    ],
  },
  {
    id: 2,
    statements: [
      'CREATE EXTENSION IF NOT EXISTS "uuid-ossp"',
      'DROP TRIGGER delete_file ON files',
      'ALTER TABLE files DROP CONSTRAINT files_pkey, DROP CONSTRAINT files_name_key',
      'ALTER TABLE files RENAME COLUMN file_id TO file_oid',
      'ALTER TABLE files ALTER COLUMN file_oid DROP DEFAULT, ALTER COLUMN file_oid DROP NOT NULL',
      `ALTER TABLE files
        ADD COLUMN file_id uuid PRIMARY KEY DEFAULT uuid_generate_v4(),
        ADD COLUMN external_id uuid,
        ADD COLUMN backend text NOT NULL DEFAULT 'postgres',
        ADD COLUMN sha512 bytea,
        ADD COLUMN sha512_state bytea,
        ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now(),
        ADD COLUMN deleted_at timestamptz`,
      `UPDATE files SET sha512 = decode(digest, 'hex'), updated_at = created_at, type = coalesce(type, '')`,
      'ALTER TABLE files DROP COLUMN digest, ALTER COLUMN backend DROP DEFAULT, ALTER COLUMN type SET NOT NULL',
      'CREATE UNIQUE INDEX files_name_idx ON files (name) WHERE deleted_at IS NULL',
      'CREATE INDEX files_file_oid_idx ON files (file_oid)',
      `CREATE OR REPLACE FUNCTION delete_file() RETURNS trigger AS $$
        BEGIN
          IF NEW.deleted_at IS NOT NULL AND OLD.file_oid IS NOT NULL THEN
            PERFORM lo_unlink(OLD.file_oid);
            NEW.file_oid := NULL;
          END IF;
          RETURN NEW;
        END $$ LANGUAGE plpgsql`,
      'CREATE TRIGGER delete_file BEFORE UPDATE OF deleted_at ON files FOR EACH ROW EXECUTE FUNCTION delete_file()',
    ],
  },
]

/** Any number that only this component takes; keeps two starting processes from migrating at once. */
const migrationLock = 0x626c6f62

/** Brings the schema up to date, all of it or nothing. `upTo` is for tests of single steps. */
export async function migrate(pool: pg.Pool, upTo = Number.POSITIVE_INFINITY): Promise<void> {
  const client = await pool.connect()
  let failed: Error | undefined
  try {
    await client.query('BEGIN')
    await client.query('SELECT pg_advisory_xact_lock($1)', [migrationLock])
    await client.query('CREATE TABLE IF NOT EXISTS schema_migrations (id bigint PRIMARY KEY)')
    const { rows } = await client.query<{ id: number }>('SELECT id FROM schema_migrations')
    const known = new Set(rows.map(row => Number(row.id)))
    for (const { id, statements } of migrations) {
      if (known.has(id) || id > upTo) continue
      for (const statement of statements) await client.query(statement)
      await client.query('INSERT INTO schema_migrations (id) VALUES ($1)', [id])
    }
    await client.query('COMMIT')
  } catch (e) {
    failed = e instanceof Error ? e : new Error(String(e))
    throw e
  } finally {
    // Closing the connection is what undoes a failed transaction even when the server can no longer be asked to.
    client.release(failed)
  }
}
