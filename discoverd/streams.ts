// Event streams: replay and live events of a service as server-sent events, in one order, with a limit on how far a
// reader may fall behind. Contract discoverd.md 9.
import type { FastifyReply } from 'fastify'
import { startSse } from '../pkg/httpd/httpd.ts'
import { errors } from './errors.ts'
import { replay } from './state.core.ts'
import type { Store } from './store.ts'
import type { DiscoverdEvent, EventKind } from './types.ts'

export const streamsMax = 5_000
/** A reader with this much unread is told so and cut off. */
export const unreadBytesMax = 1024 * 1024
/** How long the farewell to a slow reader may take to leave. */
export const farewellMs = 5_000

export const blockedReaderText = 'discoverd: channel send failed due to blocked receiver'

export type StreamKinds = { readonly kinds: readonly EventKind[]; readonly current: boolean }

export const allKinds: StreamKinds = {
  kinds: ['up', 'update', 'down', 'leader', 'service_meta'],
  current: true,
}
export const instanceKinds: StreamKinds = { kinds: ['up', 'update', 'down'], current: false }
export const leaderKinds: StreamKinds = { kinds: ['leader'], current: false }

export class Streams {
  readonly #store: Store
  readonly #open = new Set<() => void>()

  constructor(store: Store) {
    this.#store = store
  }

  get count(): number {
    return this.#open.size
  }

  /** Answers the request with a stream that lasts until either side closes it. */
  serve(reply: FastifyReply, service: string, wanted: StreamKinds): FastifyReply {
    if (this.#open.size >= streamsMax) throw errors.TOO_MANY({ max: streamsMax, what: 'event streams' })
    let unsubscribe: () => void = () => undefined
    const end = () => writer.close()
    for (const [name, value] of Object.entries(reply.getHeaders()))
      if (value !== undefined) reply.raw.setHeader(name, value)
    const writer = startSse(reply, () => {
      unsubscribe()
      this.#open.delete(end)
    })
    this.#open.add(end)
    const send = (event: DiscoverdEvent) => {
      if (writer.closed || !wanted.kinds.includes(event.kind)) return
      if (reply.raw.writableLength <= unreadBytesMax) {
        writer.send(event)
        return
      }
      writer.error(blockedReaderText)
      writer.close()
      setTimeout(() => reply.raw.destroy(), farewellMs).unref()
    }
    // Nothing is awaited between replay and subscription, so no change can fall in between.
    const state = this.#store.service(service)
    for (const event of state ? replay(state) : []) send(event)
    if (wanted.current && !writer.closed) writer.send({ service, kind: 'current' } satisfies DiscoverdEvent)
    unsubscribe = this.#store.subscribe(service, send)
    if (writer.closed) unsubscribe()
    return reply
  }

  /** Ends all streams cleanly: readers reconnect elsewhere. */
  close(): void {
    for (const end of [...this.#open]) end()
  }
}
