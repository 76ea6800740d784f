// Live events of one process: told by NOTIFY, read once in id order, handed to every subscriber. Ids become visible in
// order (schema/write.ts), so reading "after the last one" misses nothing, also after the connection was lost.
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { type Listener, listen } from '../../pkg/pg/listen.ts'
import type { PgOptions } from '../../pkg/pg/pg.ts'
import type { Db } from '../schema/write.ts'
import type { ControllerEvent } from '../types.ts'
import { toEvent } from './events.ts'

/** Events read at a time. */
export const hubBatchMax = 500
const retryMinMs = 100
const retryMaxMs = 2_000

export type Subscriber = (event: ControllerEvent) => void

export class EventHub {
  readonly #db: Db
  readonly #log: Logger
  readonly #subscribers = new Set<Subscriber>()
  readonly #stop = new AbortController()
  #listener: Listener | undefined
  #lastId = 0
  #wanted = false
  #reading: Promise<void> | undefined

  constructor(db: Db, log: Logger) {
    this.#db = db
    this.#log = log
  }

  /** Resolves when events from now on will be delivered. */
  async start(options: PgOptions): Promise<void> {
    const row = await this.#db
      .selectFrom('events')
      .select(eb => eb.fn.max('event_id').as('id'))
      .executeTakeFirst()
    this.#lastId = row?.id ?? 0
    this.#listener = listen({
      options,
      channel: 'events',
      log: this.#log,
      onMessage: () => this.#read(),
      onListening: () => this.#read(),
    })
    await this.#listener.ready
  }

  /** Of the newest event that subscribers were handed. */
  get lastId(): number {
    return this.#lastId
  }

  /** Every event from now on, in order; returns what ends it. */
  subscribe(subscriber: Subscriber): () => void {
    this.#subscribers.add(subscriber)
    return () => this.#subscribers.delete(subscriber)
  }

  async close(): Promise<void> {
    this.#stop.abort()
    await this.#listener?.close()
    await this.#reading
  }

  #read(): void {
    this.#wanted = true
    this.#reading ??= this.#readAll().finally(() => {
      this.#reading = undefined
      if (this.#wanted && !this.#stop.signal.aborted) this.#read()
    })
  }

  async #readAll(): Promise<void> {
    const delays = backoff({ minMs: retryMinMs, maxMs: retryMaxMs })
    while (this.#wanted && !this.#stop.signal.aborted) {
      this.#wanted = false
      try {
        while (await this.#readBatch());
        delays.reset()
      } catch (err) {
        this.#wanted = true
        this.#log.warn({ err }, 'events could not be read, trying again')
        await sleep(delays.next(), this.#stop.signal).catch(() => undefined)
      }
    }
  }

  /** True when there may be more. */
  async #readBatch(): Promise<boolean> {
    const rows = await this.#db
      .selectFrom('events')
      .selectAll()
      .where('event_id', '>', this.#lastId)
      .orderBy('event_id')
      .limit(hubBatchMax)
      .execute()
    for (const row of rows) {
      this.#lastId = row.event_id
      const event = toEvent(row)
      for (const subscriber of this.#subscribers) subscriber(event)
    }
    return rows.length === hubBatchMax
  }
}
