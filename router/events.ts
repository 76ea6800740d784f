// Fans the router's events out to the listeners of its API, and replays the backends that are up to a new one
// (contract router.md 3.2).
import type { SseWriter } from '../pkg/sse/sse.ts'
import type { RouterBackend, RouterEvent, RouterEventType } from './types.ts'

export class EventHub {
  readonly #listeners = new Map<SseWriter, ReadonlySet<RouterEventType>>()
  readonly #up = new Map<string, RouterBackend>()

  subscribe(writer: SseWriter, types: ReadonlySet<RouterEventType>): void {
    if (types.has('backend-up')) {
      for (const backend of this.#up.values())
        writer.send({ event: 'backend-up', backend } satisfies RouterEvent)
    }
    this.#listeners.set(writer, types)
  }

  unsubscribe(writer: SseWriter): void {
    this.#listeners.delete(writer)
  }

  emit(event: RouterEvent): void {
    const key = event.backend && `${event.backend.service} ${event.backend.addr}`
    if (key && event.backend) {
      if (event.event === 'backend-up') this.#up.set(key, event.backend)
      else this.#up.delete(key)
    }
    for (const [writer, types] of this.#listeners) if (types.has(event.event)) writer.send(event)
  }

  close(): void {
    for (const writer of this.#listeners.keys()) writer.close()
  }
}
