// Time and waiting at the rim. Pure cores get time as a value in their events and never import this.
import { setTimeout as delay } from 'node:timers/promises'

/** Waits; rejects at once when the signal aborts. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return delay(ms, undefined, signal ? { signal } : undefined)
}

/** True when the promise settles in time, either way: its failure is its owner's affair. */
export async function settlesWithin(promise: Promise<unknown>, ms: number): Promise<boolean> {
  const { promise: late, resolve } = Promise.withResolvers<false>()
  const yes = () => true as const
  const timer = setTimeout(() => resolve(false), ms)
  try {
    return await Promise.race([promise.then(yes, yes), late])
  } finally {
    clearTimeout(timer)
  }
}

export type PollOptions = {
  readonly timeoutMs: number
  readonly intervalMs?: number
  readonly signal?: AbortSignal | undefined
  /** Completes the sentence "timed out after N ms waiting for ...". */
  readonly what: string
}

/**
 * Calls `probe` until it answers something other than undefined or false; an error counts as "not yet".
 * Rejects at the deadline with the last error as cause.
 */
export async function poll<T>(
  probe: () => Promise<T> | T,
  options: PollOptions,
): Promise<Exclude<T, undefined | false>> {
  const end = Date.now() + options.timeoutMs
  let last: unknown
  for (;;) {
    options.signal?.throwIfAborted()
    try {
      const value = await probe()
      if (value !== undefined && value !== false) return value as Exclude<T, undefined | false>
      last = undefined
    } catch (e) {
      last = e
    }
    if (Date.now() >= end) {
      const why = last instanceof Error ? `: ${last.message}` : ''
      throw new Error(`timed out after ${options.timeoutMs} ms waiting for ${options.what}${why}`, {
        cause: last,
      })
    }
    await sleep(options.intervalMs ?? 50, options.signal)
  }
}

export type BackoffOptions = { readonly minMs: number; readonly maxMs: number; readonly factor?: number }

/** Delays that grow from `minMs` to `maxMs`; `reset` begins anew. */
export function backoff(options: BackoffOptions): { next(): number; reset(): void } {
  let current = options.minMs
  return {
    next() {
      const value = current
      current = Math.min(options.maxMs, current * (options.factor ?? 2))
      return value
    },
    reset() {
      current = options.minMs
    },
  }
}
