// Runs one stream after the other until told to stop: what the scheduler follows (hosts, formations, volumes, services,
// routers) reconnects by itself, ever more slowly while it fails.
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'

export const reconnectMinMs = 100
export const reconnectMaxMs = 5_000

/** Repeats `stream` until the signal aborts. It calls `alive` when it has got through, which resets the delay. */
export async function follow(options: {
  readonly what: string
  readonly log: Logger
  readonly signal: AbortSignal
  readonly stream: (alive: () => void) => Promise<void>
}): Promise<void> {
  const { what, log, signal } = options
  const delays = backoff({ minMs: reconnectMinMs, maxMs: reconnectMaxMs })
  let failing = false
  const alive = (): void => {
    delays.reset()
    if (failing) log.info({ what }, 'stream is back')
    failing = false
  }
  while (!signal.aborted) {
    try {
      await options.stream(alive)
    } catch (err) {
      if (signal.aborted) return
      if (!failing) log.warn({ err, what }, 'stream lost')
      failing = true
    }
    await sleep(delays.next(), signal).catch(() => undefined)
  }
}
