// Waiting for discoverd to answer again, once for all watches of a client: a router watches thousands of services, and while
// discoverd is away one question at a time is enough. Used by client.ts.
import { backoff, sleep } from '../pkg/clock/clock.ts'

/** Between a lost stream and the first question, and what it grows to while there is no answer. */
export const reconnectPauseMs = 200
export const reconnectPauseMaxMs = 1_000

type Asking = { readonly answered: Promise<void>; readonly stop: AbortController; waiting: number }

export class Reachable {
  readonly #ask: (signal: AbortSignal) => Promise<void>
  #asking: Asking | undefined

  /** `ask` rejects when nobody answers. */
  constructor(ask: (signal: AbortSignal) => Promise<void>) {
    this.#ask = ask
  }

  /** Resolves when a question asked from now on has been answered, or the signal aborts. Questions end with the last waiter. */
  async wait(signal: AbortSignal | undefined): Promise<void> {
    if (signal?.aborted) return
    const asking = this.#asking ?? this.#begin()
    asking.waiting++
    const given = Promise.withResolvers<void>()
    const giveUp = () => given.resolve()
    signal?.addEventListener('abort', giveUp)
    try {
      await Promise.race([asking.answered, given.promise])
    } finally {
      signal?.removeEventListener('abort', giveUp)
      asking.waiting--
      if (asking.waiting === 0) asking.stop.abort()
    }
  }

  #begin(): Asking {
    const stop = new AbortController()
    const answered = this.#untilAnswered(stop.signal).finally(() => {
      if (this.#asking === asking) this.#asking = undefined
    })
    const asking: Asking = { answered, stop, waiting: 0 }
    this.#asking = asking
    // Nobody who asks anew may join those who are about to stop.
    stop.signal.addEventListener('abort', () => {
      if (this.#asking === asking) this.#asking = undefined
    })
    return asking
  }

  async #untilAnswered(signal: AbortSignal): Promise<void> {
    const delays = backoff({ minMs: reconnectPauseMs, maxMs: reconnectPauseMaxMs })
    while (!signal.aborted) {
      try {
        await sleep(delays.next(), signal)
        await this.#ask(signal)
        return
      } catch {
        // Still away.
      }
    }
  }
}
