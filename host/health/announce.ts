// Registrations that the host keeps for others: retried until they work, ended with a DELETE (`end`) or left to their
// TTL (`leave`) when only this daemon goes away. Over the discoverd client; discoverd may be absent at any time.

import type { DiscoverdClient, Register, Registration } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'

export const announceRetryMs = 1_000

export type Announcement = {
  /** Resolves once it is registered, or ended before it ever was. */
  readonly registered: Promise<void>
  update(meta: Readonly<Record<string, string>>): void
  /** Out of discoverd; safe to call twice. */
  end(): Promise<void>
  /** Heartbeats stop, the instance stays until its TTL is over. */
  leave(): void
}

export function announce(
  client: DiscoverdClient,
  options: Register & { readonly log: Logger },
): Announcement {
  const stop = new AbortController()
  const { log, service } = options
  let meta = options.meta ?? {}
  let registration: Registration | undefined
  let ending: Promise<void> | undefined

  const tell = (live: Registration) =>
    live.update(meta).catch((err: unknown) => {
      // The next heartbeat carries it.
      if (!stop.signal.aborted) log.warn({ service, err }, 'metadata could not be announced at once')
    })
  async function begin(): Promise<void> {
    let told = false
    while (!stop.signal.aborted) {
      try {
        const announced = meta
        registration = await client.register({ ...options, meta, signal: stop.signal })
        if (announced !== meta) await tell(registration)
        return
      } catch (err) {
        if (stop.signal.aborted) return
        if (!told) log.warn({ service, addr: options.addr, err }, 'registration failed, trying on')
        told = true
        await sleep(announceRetryMs, stop.signal).catch(() => undefined)
      }
    }
  }
  const registered = begin()
  async function end(): Promise<void> {
    if (!registration) stop.abort()
    await registered
    await registration?.close()
    stop.abort()
  }
  return {
    registered,
    update(next) {
      meta = next
      if (registration) void tell(registration)
    },
    end() {
      ending ??= end()
      return ending
    },
    leave() {
      stop.abort()
    },
  }
}
