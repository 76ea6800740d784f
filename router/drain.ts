// Servers that take nothing new: waits until nothing is under way on each, says so, and deletes it from HAProxy. What
// counts are connections in use, so upgraded and TCP ones too, in the worker that serves and in those of before a reload.
import { poll, sleep } from '../pkg/clock/clock.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { HaproxyProcess } from './process.ts'
import type { Server } from './table.core.ts'

export const drainPollMinMs = 50
/** Looked at less often the longer it takes: a websocket may stay for hours. */
export const drainPollMaxMs = 1_000
/** A server whose last connections do not end is taken out after this. */
export const drainTimeoutMs = 24 * 60 * 60_000
export const deleteTimeoutMs = 5_000

export type Drained = { readonly service: string; readonly server: Server }
type Retiring = Drained & { readonly slot: string; drained?: boolean }

export type DrainOptions = {
  readonly haproxy: HaproxyProcess
  readonly log: Logger
  readonly onDrained: (drained: Drained) => void
  /** Runs work between two changes of the table, never during one. */
  readonly between: (work: () => Promise<void>) => void
}

export class Drain {
  readonly #options: DrainOptions
  readonly #retiring = new Map<string, Retiring>()
  #closed = false

  constructor(options: DrainOptions) {
    this.#options = options
  }

  /** Slots that no other backend may have yet. */
  get slots(): ReadonlySet<string> {
    return new Set([...this.#retiring.values()].map(r => r.slot))
  }

  /** Takes a server that serves again out of the drain; false when it was not in it. */
  revive(id: string): boolean {
    return this.#retiring.delete(id)
  }

  /** Begins to watch a server that HAProxy gives nothing new. */
  start(id: string, retiring: Retiring): void {
    if (this.#retiring.has(id)) return
    this.#retiring.set(id, retiring)
    void this.#watch(id, retiring)
  }

  close(): void {
    this.#closed = true
  }

  #current(id: string, retiring: Retiring): boolean {
    return !this.#closed && this.#retiring.get(id) === retiring
  }

  async #watch(id: string, retiring: Retiring): Promise<void> {
    const { haproxy, log, onDrained, between } = this.#options
    const begin = performance.now()
    let wait = drainPollMinMs
    while (this.#current(id, retiring)) {
      try {
        if ((await haproxy.connections(id)) === 0) break
      } catch (e) {
        log.debug({ err: e, server: id }, 'drain cannot be watched now')
      }
      if (performance.now() - begin > drainTimeoutMs) break
      await sleep(wait)
      wait = Math.min(wait * 1.1, drainPollMaxMs)
    }
    if (!this.#current(id, retiring)) return
    retiring.drained = true
    // An instance may be in several backends of its service: the last of them counts.
    const { service, server } = retiring
    const busy = [...this.#retiring.values()].some(
      r => !r.drained && r.service === service && r.server.addr === server.addr,
    )
    if (!busy) onDrained({ service, server })
    between(() => this.#delete(id, retiring))
  }

  /** Idle connections keep a server from being deleted: another address closes them. */
  async #delete(id: string, retiring: Retiring): Promise<void> {
    if (!this.#current(id, retiring)) return
    try {
      const runtime = await this.#options.haproxy.runtime()
      await runtime.command(`set server ${id} addr 127.0.0.1 port 1`)
      await poll(async () => /deleted|no such/i.test(await runtime.command(`del server ${id}`)), {
        timeoutMs: deleteTimeoutMs,
        intervalMs: 20,
        what: `${id} to be deleted`,
      })
    } catch (e) {
      this.#options.log.warn({ err: e, server: id }, 'server could not be deleted')
    } finally {
      if (this.#retiring.get(id) === retiring) this.#retiring.delete(id)
    }
  }
}
