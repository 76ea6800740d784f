// A claim on a piece of work that lasts longer than a database connection: an advisory lock that is taken again when the
// connection was lost. Whoever finds it taken by then, or the work done, leaves it so. Called by deployment.ts.
import pg from 'pg'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import { clientConfig, type PgOptions } from '../../pkg/pg/pg.ts'

/** How long a claim waits for a database that is away; a database that is being deployed comes back within this. */
export const claimDatabaseWaitMs = 180_000
const claimCheckTimeoutMs = 5_000
const claimClass = 4_711_007

/** `over`: there is nothing left to do; another may have done it while the claim was lost. */
export type Hold = 'held' | 'taken' | 'over'

export type Work = {
  /** What is claimed. */
  readonly name: string
  /** Gives a row for as long as there is something to do. */
  readonly open: { readonly text: string; readonly values: readonly unknown[] }
}

export class Claim {
  readonly #database: PgOptions
  readonly #work: Work
  #client: pg.Client | undefined

  constructor(database: PgOptions, work: Work) {
    this.#database = database
    this.#work = work
  }

  /** Takes the claim, or looks whether it still stands. Rejects when the database stays away. */
  async hold(signal: AbortSignal): Promise<Hold> {
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

  async #attempt(): Promise<Hold> {
    const client = this.#client ?? (await this.#lock())
    if (client === undefined) return 'taken'
    const { text, values } = this.#work.open
    const config = { text, values: [...values], query_timeout: claimCheckTimeoutMs } as pg.QueryConfig
    // The lock lives as long as the session does: that this one answers says that it stands.
    const { rowCount } = await client.query(config)
    if (rowCount !== 0) return 'held'
    await this.release()
    return 'over'
  }

  async #lock(): Promise<pg.Client | undefined> {
    const client = new pg.Client(clientConfig(this.#database))
    // A lost connection is met at the next query.
    client.on('error', () => undefined)
    this.#client = client
    await client.connect()
    const { rows } = await client.query<{ held: boolean }>(
      'SELECT pg_try_advisory_lock($1, hashtext($2)) AS held',
      [claimClass, this.#work.name],
    )
    if (rows[0]?.held === true) return client
    await this.release()
    return undefined
  }

  /** Gives the work free. Safe to call twice. */
  async release(): Promise<void> {
    const client = this.#client
    this.#client = undefined
    if (client) await Promise.race([client.end().catch(() => undefined), sleep(1_000)])
  }
}
