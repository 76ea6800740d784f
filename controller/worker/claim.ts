// A claim on a piece of work that lasts longer than a database connection: an advisory lock that is taken again when the
// connection was lost. Whoever finds it taken by then leaves the work to the other. Called by deployment.ts.
import pg from 'pg'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import { clientConfig, type PgOptions } from '../../pkg/pg/pg.ts'

/** How long a claim waits for a database that is away; a database that is being deployed comes back within this. */
export const claimDatabaseWaitMs = 180_000
const claimCheckTimeoutMs = 5_000
const claimClass = 4_711_007

export class Claim {
  readonly #database: PgOptions
  readonly #name: string
  #client: pg.Client | undefined

  constructor(database: PgOptions, name: string) {
    this.#database = database
    this.#name = name
  }

  /** True when the work is ours now. Rejects when the database stays away. */
  async hold(signal: AbortSignal): Promise<boolean> {
    const deadline = Date.now() + claimDatabaseWaitMs
    const delays = backoff({ minMs: 100, maxMs: 2_000 })
    for (;;) {
      signal.throwIfAborted()
      try {
        return await this.#attempt()
      } catch (e) {
        await this.release()
        if (Date.now() >= deadline) throw e
        await sleep(delays.next(), signal)
      }
    }
  }

  async #attempt(): Promise<boolean> {
    if (this.#client !== undefined) {
      // The lock lives as long as the session does.
      await this.#client.query({ text: 'SELECT 1', query_timeout: claimCheckTimeoutMs } as pg.QueryConfig)
      return true
    }
    const client = new pg.Client(clientConfig(this.#database))
    // A lost connection is met at the next query.
    client.on('error', () => undefined)
    this.#client = client
    await client.connect()
    const { rows } = await client.query<{ held: boolean }>(
      'SELECT pg_try_advisory_lock($1, hashtext($2)) AS held',
      [claimClass, this.#name],
    )
    if (rows[0]?.held === true) return true
    await this.release()
    return false
  }

  /** Gives the work free. Safe to call twice. */
  async release(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    if (client) await Promise.race([client.end().catch(() => undefined), sleep(1_000)])
  }
}
