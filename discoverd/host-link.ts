// What passes between discoverd and the flynn-host of its node: the host tells the bridge address and the upstream
// resolvers, discoverd tells where it answers. Contract discoverd.md 1.3.
import { sleep } from '../pkg/clock/clock.ts'
import { HttpClient } from '../pkg/http/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import { joinHostPort } from './config.core.ts'
import type { DiscoverdNotification } from './types.ts'

export const networkPauseMs = 200
export const notifyPauseMs = 500
export const hostTimeoutMs = 2_000
/** How often the host is asked whether it still knows us and where the bridge is. */
export const hostCheckMs = 10_000

export type HostNetwork = { readonly dnsAddr: string; readonly resolvers: readonly string[] }

type HostStatus = {
  readonly discoverd?: Partial<DiscoverdNotification> | null
  readonly network?: { readonly subnet?: string; readonly resolvers?: readonly string[] | null } | null
}

export class HostLink {
  readonly #host: HttpClient
  readonly #notifyUrl: string
  readonly #log: Logger

  constructor(options: { readonly hostUrl: string; readonly notifyUrl: string; readonly log: Logger }) {
    this.#host = new HttpClient({ url: options.hostUrl })
    this.#notifyUrl = options.notifyUrl
    this.#log = options.log
  }

  #status(signal: AbortSignal): Promise<HostStatus> {
    return this.#host.get<HostStatus>('/host/status', { retryMs: 0, timeoutMs: hostTimeoutMs, signal })
  }

  /** The host's network, or undefined while it has none. Rejects when the host does not answer. */
  async network(signal: AbortSignal): Promise<HostNetwork | undefined> {
    const { network } = await this.#status(signal)
    const ip = network?.subnet?.split('/')[0]
    if (!ip) return undefined
    return { dnsAddr: joinHostPort(ip, '53'), resolvers: network?.resolvers ?? [] }
  }

  /** Waits until the host has a network. */
  async waitForNetwork(signal: AbortSignal): Promise<HostNetwork> {
    let told = false
    for (;;) {
      try {
        const network = await this.network(signal)
        if (network) return network
      } catch (e) {
        signal.throwIfAborted()
        if (!told) this.#log.info({ err: e }, 'flynn-host does not tell its network yet')
        told = true
      }
      await sleep(networkPauseMs, signal)
    }
  }

  /** Tells the host where we are, until it has heard; nothing when no notify URL is set. */
  async notify(notification: DiscoverdNotification, signal: AbortSignal): Promise<void> {
    if (this.#notifyUrl === '') return
    const url = new URL(this.#notifyUrl)
    const target = new HttpClient({ url: url.origin })
    let told = false
    for (;;) {
      try {
        await target.post(url.pathname, notification, { retryMs: 0, timeoutMs: hostTimeoutMs, signal })
        this.#log.info({ notification }, 'host notified')
        return
      } catch (e) {
        signal.throwIfAborted()
        if (!told) this.#log.warn({ err: e, url: url.href }, 'host not notified yet')
        told = true
        await sleep(notifyPauseMs, signal)
      }
    }
  }

  /** Tells the host again whenever its status shows something else, say after it lost its state. Until aborted. */
  async keepNotified(current: () => DiscoverdNotification, signal: AbortSignal): Promise<void> {
    if (this.#notifyUrl === '') return
    while (!signal.aborted) {
      await sleep(hostCheckMs, signal).catch(() => undefined)
      if (signal.aborted) return
      try {
        const { discoverd } = await this.#status(signal)
        const wanted = current()
        if (
          discoverd?.job_id === wanted.job_id &&
          discoverd.url === wanted.url &&
          discoverd.dns === wanted.dns
        )
          continue
        await this.notify(wanted, signal)
      } catch (e) {
        this.#log.debug({ err: e }, 'host does not answer')
      }
    }
  }
}
