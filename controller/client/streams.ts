// Streams of the controller that go on after a lost connection: events resumed by id, and routes as a full list
// followed by changes (contracts controller.md 2.12, 6.2; router.md 2).
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import { FlynnError } from '../../pkg/errors/errors.ts'
import type { HttpClient } from '../../pkg/http/client.ts'
import type { ControllerEvent, EventType, Route } from '../types.ts'

/** How long a resuming stream tries to get its connection back. */
export const streamOutageMs = 20_000
const reconnectMinMs = 100
const reconnectMaxMs = 2_000

export type EventFilter = {
  /** App id or name. */
  readonly app?: string | undefined
  readonly types?: readonly EventType[] | undefined
  readonly objectId?: string | undefined
}

export type EventStreamOptions = EventFilter & {
  readonly signal?: AbortSignal | undefined
  /** Events after this id are sent first, then live ones. */
  readonly lastId?: number | undefined
  /** Everything stored comes first. */
  readonly past?: boolean | undefined
  /** With `past` or `lastId`: only the newest that many of the stored ones. */
  readonly count?: number | undefined
  /** Called when the subscription stands: what happens from then on will be in the stream. */
  readonly onOpen?: (() => void) | undefined
  /** Ends with the first lost connection instead of resuming. */
  readonly once?: boolean | undefined
}

export function eventQuery(filter: EventFilter): Record<string, string | undefined> {
  return { app_id: filter.app, object_types: filter.types?.join(','), object_id: filter.objectId }
}

function isGone(e: unknown): boolean {
  return e instanceof FlynnError && e.status >= 400 && e.status < 500
}

/** Events as they happen. Resumes after a lost connection; rejects when none could be made for `streamOutageMs`. */
export async function* streamEvents(
  http: HttpClient,
  options: EventStreamOptions,
): AsyncGenerator<ControllerEvent> {
  let lastId = options.lastId ?? 0
  let past = options.past ?? false
  let lostAt: number | undefined
  for (;;) {
    try {
      const stream = http.events<ControllerEvent>('/events', {
        query: {
          ...eventQuery(options),
          past: past ? true : undefined,
          count: past ? options.count : undefined,
        },
        headers: { 'last-event-id': String(lastId) },
        signal: options.signal,
        retryMs: 0,
        onOpen: () => {
          if (lostAt === undefined) options.onOpen?.()
          lostAt = undefined
        },
      })
      for await (const { value } of stream) {
        lastId = value.id
        past = false
        yield value
      }
      if (options.once) return
    } catch (e) {
      if (options.once || options.signal?.aborted || isGone(e)) throw e
      if (lostAt !== undefined && Date.now() - lostAt > streamOutageMs) throw e
    }
    lostAt ??= Date.now()
    await sleep(reconnectMinMs, options.signal)
  }
}

export type RouteChange =
  /** Every route there is: forget those that are not in it. Sent first and after each reconnection. */
  | { readonly kind: 'sync'; readonly routes: readonly Route[] }
  | { readonly kind: 'set'; readonly route: Route }
  | { readonly kind: 'remove'; readonly route: Route }

export type RouteStreamOptions = {
  readonly signal: AbortSignal
  /** Told of each lost connection; the last table stays in force meanwhile. */
  readonly onLost?: (e: unknown) => void
}

/** Routes for ever: subscribes first, lists then, passes changes on, and starts again when the stream is lost. */
export async function* streamRoutes(
  http: HttpClient,
  options: RouteStreamOptions,
): AsyncGenerator<RouteChange> {
  const delays = backoff({ minMs: reconnectMinMs, maxMs: reconnectMaxMs })
  while (!options.signal.aborted) {
    try {
      for await (const change of routesOnce(http, options.signal)) {
        delays.reset()
        yield change
      }
      options.onLost?.(new Error('the controller closed the stream'))
    } catch (e) {
      if (options.signal.aborted) return
      options.onLost?.(e)
    }
    await sleep(delays.next(), options.signal).catch(() => undefined)
  }
}

async function* routesOnce(http: HttpClient, signal: AbortSignal): AsyncGenerator<RouteChange> {
  const pending: ControllerEvent<Route>[] = []
  let wake: () => void = () => undefined
  let ended: { readonly error?: unknown } | undefined
  const stop = new AbortController()
  const opened = Promise.withResolvers<void>()
  const reader = (async () => {
    const events = streamEvents(http, {
      types: ['route', 'route_deletion'],
      signal: AbortSignal.any([signal, stop.signal]),
      once: true,
      onOpen: () => opened.resolve(),
    })
    for await (const event of events) {
      pending.push(event as ControllerEvent<Route>)
      wake()
    }
  })().then(
    () => {
      ended = {}
    },
    (error: unknown) => {
      ended = { error }
      opened.reject(error)
    },
  )
  try {
    await opened.promise
    yield { kind: 'sync', routes: await http.get<Route[]>('/routes', { signal }) }
    for (;;) {
      for (let event = pending.shift(); event; event = pending.shift())
        yield { kind: event.object_type === 'route' ? 'set' : 'remove', route: event.data }
      if (ended?.error !== undefined) throw ended.error
      if (ended) return
      await Promise.race([
        reader,
        new Promise<void>(resolve => {
          wake = resolve
        }),
      ])
    }
  } finally {
    stop.abort()
    await reader
  }
}
