// LISTEN on one channel over a connection of its own, made anew when it breaks or falls silent. Notifications that
// were sent while it was away are lost, so `onListening` is where the caller reads what it missed.
import pg from 'pg'
import { backoff, sleep } from '../clock/clock.ts'
import type { Logger } from '../log/log.ts'
import { clientConfig, type PgOptions } from './pg.ts'

/** How often the connection is tried; a primary that vanished without a word shows itself here. */
export const probeIntervalMs = 10_000
export const probeTimeoutMs = 5_000
const reconnectMinMs = 100
const reconnectMaxMs = 2_000

export type ListenOptions = {
  readonly options: PgOptions
  readonly channel: string
  readonly log: Logger
  readonly onMessage: (payload: string) => void
  /** Called after each (re)connection, once LISTEN is in force. */
  readonly onListening: () => void
}

export type Listener = {
  /** Resolves when LISTEN is in force for the first time. */
  readonly ready: Promise<void>
  /** Safe to call twice. */
  close(): Promise<void>
}

async function session(options: ListenOptions, stop: AbortSignal, opened: () => void): Promise<void> {
  const client = new pg.Client({ ...clientConfig(options.options), query_timeout: probeTimeoutMs })
  const lost = new AbortController()
  client.on('error', e => lost.abort(e))
  client.on('end', () => lost.abort(new Error('connection ended')))
  client.on('notification', m => options.onMessage(m.payload ?? ''))
  try {
    await client.connect()
    await client.query(`LISTEN ${client.escapeIdentifier(options.channel)}`)
    opened()
    options.onListening()
    const over = AbortSignal.any([stop, lost.signal])
    while (!over.aborted) {
      await sleep(probeIntervalMs, over).catch(() => undefined)
      if (!over.aborted) await client.query('SELECT 1')
    }
    if (!stop.aborted) throw lost.signal.reason
  } finally {
    // A connection whose other end is gone answers no goodbye.
    await Promise.race([client.end().catch(() => undefined), sleep(1_000)])
  }
}

export function listen(options: ListenOptions): Listener {
  const stop = new AbortController()
  const ready = Promise.withResolvers<void>()
  ready.promise.catch(() => undefined)
  const delays = backoff({ minMs: reconnectMinMs, maxMs: reconnectMaxMs })
  const running = (async () => {
    while (!stop.signal.aborted) {
      try {
        await session(options, stop.signal, () => {
          delays.reset()
          ready.resolve()
        })
      } catch (err) {
        if (stop.signal.aborted) break
        options.log.warn({ err, channel: options.channel }, 'notifications lost, connecting again')
        await sleep(delays.next(), stop.signal).catch(() => undefined)
      }
    }
    ready.reject(new Error('closed'))
  })()
  return {
    ready: ready.promise,
    async close() {
      stop.abort()
      await running
    },
  }
}
