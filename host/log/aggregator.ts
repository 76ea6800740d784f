// Feeds every log aggregator of the cluster with this host's records (contracts host.md 2.7, system-apps.md 1.2): asks
// it how far it is, sends what it lacks from disk, then what comes. A broken connection starts over from its cursor.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import type { DiscoverdClient } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { LogMux } from './mux.ts'
import { frameMessage, type LogCursor, parseMicros } from './record.core.ts'

export const aggregatorService = 'logaggregator'
export const aggregatorConnectTimeoutMs = 5_000
export const aggregatorWriteTimeoutMs = 1_000
/** Between attempts; the first retries come sooner, because aggregators restart. */
export const aggregatorRetryMs = 10_000
const aggregatorFirstRetryMs = 1_000
const cursorTimeoutMs = 5_000

export type AggregatorOptions = {
  readonly discoverd: DiscoverdClient
  readonly mux: LogMux
  readonly hostId: string
  /** Filled with the addresses that are fed. */
  readonly fed?: Set<string>
  readonly log: Logger
}

type WireCursor = { readonly time: string; readonly seq: number }

/** How far an aggregator has this host's records; undefined when it has none. */
async function cursorAt(host: string, hostId: string, signal: AbortSignal): Promise<LogCursor | undefined> {
  const http = new HttpClient({ url: `http://${host}:80` })
  const all = await http.get<Record<string, WireCursor> | null>('/cursors', {
    signal,
    timeoutMs: cursorTimeoutMs,
    retryMs: 0,
  })
  const mine = all?.[hostId]
  const micros = mine === undefined ? undefined : parseMicros(mine.time)
  return mine === undefined || micros === undefined ? undefined : { micros, seq: mine.seq }
}

async function dial(host: string, port: number, signal: AbortSignal): Promise<Socket> {
  const limit = AbortSignal.any([signal, AbortSignal.timeout(aggregatorConnectTimeoutMs)])
  const socket = connect({ host, port })
  try {
    await once(socket, 'connect', { signal: limit })
    return socket
  } catch (e) {
    socket.destroy()
    throw e
  }
}

/** Sends until the connection breaks or the signal aborts. */
async function feed(options: AggregatorOptions, addr: string, signal: AbortSignal): Promise<void> {
  const split = addr.lastIndexOf(':')
  const host = addr.slice(0, split)
  const socket = await dial(host, Number(addr.slice(split + 1)), signal)
  const broken = new AbortController()
  const limit = AbortSignal.any([signal, broken.signal])
  let failure: Error | undefined
  socket.on('error', e => {
    failure = e
  })
  socket.once('close', () => broken.abort())
  socket.resume()
  try {
    const cursor = await cursorAt(host, options.hostId, limit)
    options.log.info({ addr, cursor }, 'feeding the log aggregator')
    for await (const record of options.mux.all(cursor, limit)) {
      if (socket.write(frameMessage(record.message, ''))) continue
      await once(socket, 'drain', {
        signal: AbortSignal.any([limit, AbortSignal.timeout(aggregatorWriteTimeoutMs)]),
      })
    }
    if (failure) throw failure
  } finally {
    socket.destroy()
  }
}

async function keepFeeding(options: AggregatorOptions, addr: string, signal: AbortSignal): Promise<void> {
  let retryMs = aggregatorFirstRetryMs
  while (!signal.aborted) {
    const startedAt = performance.now()
    try {
      await feed(options, addr, signal)
    } catch (err) {
      if (signal.aborted) return
      options.log.warn({ addr, err, retryMs }, 'log aggregator connection failed')
    }
    if (performance.now() - startedAt > aggregatorRetryMs) retryMs = aggregatorFirstRetryMs
    await sleep(retryMs, signal).catch(() => undefined)
    retryMs = Math.min(aggregatorRetryMs, retryMs * 2)
  }
}

/** Follows the service and feeds each of its instances, until the signal aborts. */
export async function feedAggregators(options: AggregatorOptions, signal: AbortSignal): Promise<void> {
  const feeding = new Map<string, AbortController>()
  for await (const event of options.discoverd.watch(aggregatorService, { signal })) {
    const addr = event.instance?.addr
    if (addr === undefined) continue
    if (event.kind === 'up' && !feeding.has(addr)) {
      const stop = new AbortController()
      feeding.set(addr, stop)
      options.fed?.add(addr)
      void keepFeeding(options, addr, AbortSignal.any([signal, stop.signal]))
    } else if (event.kind === 'down') {
      feeding.get(addr)?.abort()
      feeding.delete(addr)
      options.fed?.delete(addr)
    }
  }
}
