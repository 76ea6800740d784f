// One small pool for both process types, and the one table they share.
import pg from 'pg'

const connectionString = process.env.DATABASE_URL
if (!connectionString) {
  console.error('DATABASE_URL is not set; add a database with: flynn resource add postgres')
  process.exit(1)
}

export const pool = new pg.Pool({ connectionString, max: 5, connectionTimeoutMillis: 3000 })
pool.on('error', e => console.error(`database connection lost: ${e.message}`))

// The database may still be starting when we do.
export async function migrate() {
  for (let attempt = 1; ; attempt++) {
    try {
      await pool.query(`CREATE TABLE IF NOT EXISTS entries (
        id bigserial PRIMARY KEY,
        name text NOT NULL,
        message text NOT NULL,
        words integer,
        created_at timestamptz NOT NULL DEFAULT now())`)
      return
    } catch (e) {
      if (e.code === '23505' || e.code === '42P07') return // The other process type made it first.
      if (attempt === 30) throw e
      console.error(`database not ready (${e.message}), trying again`)
      await new Promise(resolve => setTimeout(resolve, 1000))
    }
  }
}
