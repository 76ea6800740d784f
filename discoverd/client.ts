// What other components import to find and to announce services: reads, registration with heartbeats, watches that
// survive reconnects, addresses for `*.discoverd` URLs where no discoverd DNS answers. Contract discoverd.md 13.
import { backoff, sleep } from '../pkg/clock/clock.ts'
import { errorTable, FlynnError, isFlynnError } from '../pkg/errors/errors.ts'
import { HttpClient, type RequestOptions } from '../pkg/http/client.ts'
import { makeAgents } from '../pkg/http/request.ts'
import { Heartbeats } from './heartbeats.ts'
import { Reachable } from './reachable.ts'
import { type Register, type Registration, register } from './registration.ts'
import type {
  DiscoverdEvent,
  HeartbeatFailure,
  Instance,
  RaftLeader,
  ServiceConfig,
  ServiceMeta,
} from './types.ts'
import { connected, newWatch, received } from './watch.core.ts'

export { PeerAdmin, peerUrl } from './peer-admin.ts'
export type { Register, Registration } from './registration.ts'
export type { DiscoverdEvent, EventKind, Instance, ServiceConfig, ServiceMeta } from './types.ts'

export const requestTimeoutMs = 5_000
export const callTimeoutMs = 10_000
/** Between two rounds over all servers, and what it grows to. */
export const passPauseMs = 100
export const passPauseMaxMs = 500
/** The server sends a keep-alive every 30 s; a stream silent for longer is taken to be dead. */
export const streamSilenceMaxMs = 45_000

export const discoverdClientErrors = errorTable({
  DISCOVERD_UNREACHABLE: {
    status: 503,
    message: 'no discoverd server answered: {errors}',
    remedy: 'check that discoverd runs on this host and that DISCOVERD names it',
    retry: true,
  },
  NO_INSTANCES: {
    status: 503,
    message: 'discoverd: timed out waiting for instances of {service}',
    remedy: 'check with `flynn-host discover {service}` and the logs of its jobs',
    retry: true,
  },
  NO_LEADER: { status: 503, message: 'service {service} has no leader', retry: true },
})

/** Server URLs from the text of env DISCOVERD; empty and `none` mean the local daemon. */
export function serversFromEnv(text: string | undefined): readonly string[] {
  const entries = (text ?? '')
    .split(',')
    .map(s => s.trim())
    .filter(s => s !== '' && s !== 'none')
    .map(s => (s.startsWith('http') ? s : `http://${s}`).replace(/\/+$/, ''))
  return entries.length > 0 ? entries : ['http://127.0.0.1:1111']
}

export type DiscoverdOptions = {
  /** Text in the form of env DISCOVERD, or a list of URLs. Default: env DISCOVERD. */
  readonly servers?: string | readonly string[]
  readonly callTimeoutMs?: number
}

export type CallOptions = { readonly signal?: AbortSignal | undefined; readonly timeoutMs?: number }

export type WatchOptions = {
  readonly signal?: AbortSignal | undefined
  readonly onState?: (state: 'connected' | 'disconnected', cause?: unknown) => void
}

/** Whether a failed attempt may be made again: everything for idempotent calls, else only what was never sent. */
function mayRetry(e: unknown, idempotent: boolean): boolean {
  if (e instanceof FlynnError) return e.retry
  const code = e instanceof Error && 'code' in e ? String(e.code) : ''
  const unsent = ['ECONNREFUSED', 'EHOSTUNREACH', 'ENETUNREACH', 'ERR_CONNECT_TIMEOUT', 'EAI_AGAIN']
  return idempotent || unsent.includes(code)
}

function reason(e: unknown): string {
  return e instanceof Error ? e.message || String((e as { code?: unknown }).code ?? e.name) : String(e)
}

const path = (service: string, rest = '') => `/services/${encodeURIComponent(service)}${rest}`

export class DiscoverdClient {
  readonly #servers: readonly HttpClient[]
  readonly #agents = makeAgents()
  readonly #callTimeoutMs: number
  /** Also a server that has not read its state yet answers no watch. */
  readonly #reachable = new Reachable(async signal => {
    try {
      const server = this.#servers[this.#preferred % this.#servers.length] as HttpClient
      await server.get(path('discoverd', '/leader'), { retryMs: 0, timeoutMs: requestTimeoutMs, signal })
    } catch (e) {
      if (isFlynnError(e, 'object_not_found')) return
      this.#preferred++
      throw e
    }
  })
  #preferred = 0
  /** Of all that `register` keeps. */
  readonly heartbeats = new Heartbeats((beats, signal) =>
    this.#call((server, o) => server.post<readonly (HeartbeatFailure | null)[]>('/heartbeats', beats, o), {
      signal,
      idempotent: true,
    }),
  )

  constructor(options: DiscoverdOptions = {}) {
    const given = options.servers ?? process.env['DISCOVERD']
    const urls = typeof given === 'object' ? given : serversFromEnv(given)
    this.#servers = urls.map(url => new HttpClient({ url, agents: this.#agents }))
    this.#callTimeoutMs = options.callTimeoutMs ?? callTimeoutMs
  }

  /** Tries the servers in turn, the last good one first, until one answers or the deadline passes. */
  async #call<T>(
    attempt: (server: HttpClient, options: RequestOptions) => Promise<T>,
    options: CallOptions & { readonly idempotent: boolean },
  ): Promise<T> {
    const end = Date.now() + (options.timeoutMs ?? this.#callTimeoutMs)
    const pauses = backoff({ minMs: passPauseMs, maxMs: passPauseMaxMs })
    for (;;) {
      const errors: string[] = []
      for (let n = 0; n < this.#servers.length; n++) {
        const server = this.#servers[this.#preferred % this.#servers.length] as HttpClient
        options.signal?.throwIfAborted()
        const timeoutMs = Math.max(1, Math.min(requestTimeoutMs, end - Date.now()))
        try {
          return await attempt(server, { retryMs: 0, timeoutMs, signal: options.signal })
        } catch (e) {
          options.signal?.throwIfAborted()
          if (!mayRetry(e, options.idempotent)) throw e
          errors.push(reason(e))
          this.#preferred++
          if (Date.now() >= end)
            throw discoverdClientErrors.DISCOVERD_UNREACHABLE({ errors: errors.join('; ') }, { cause: e })
        }
      }
      await sleep(pauses.next(), options.signal)
    }
  }

  #read<T>(url: string, options: CallOptions = {}): Promise<T> {
    return this.#call((server, o) => server.get<T>(url, o), { ...options, idempotent: true })
  }

  async #readOrNothing<T>(url: string, options: CallOptions = {}): Promise<T | undefined> {
    try {
      return await this.#read<T>(url, options)
    } catch (e) {
      if (isFlynnError(e, 'object_not_found')) return undefined
      throw e
    }
  }

  /** Creates a service; rejects with `object_exists` when there is one of that name. */
  async addService(service: string, config: ServiceConfig = {}, options: CallOptions = {}): Promise<void> {
    const body = { leader_type: config.leader_type ?? 'oldest' }
    await this.#call((server, o) => server.put(path(service), body, o), { ...options, idempotent: true })
  }

  /** `addService` where an existing service is as good; its configuration is not changed then. */
  async maybeAddService(
    service: string,
    config: ServiceConfig = {},
    options: CallOptions = {},
  ): Promise<void> {
    try {
      await this.addService(service, config, options)
    } catch (e) {
      if (!isFlynnError(e, 'object_exists')) throw e
    }
  }

  async removeService(service: string, options: CallOptions = {}): Promise<void> {
    await this.#call((server, o) => server.delete(path(service), o), { ...options, idempotent: false })
  }

  /** Names of all services, sorted. */
  services(options: CallOptions = {}): Promise<readonly string[]> {
    return this.#read('/services', options)
  }

  /** Registered instances, oldest first; empty for an unknown service. */
  async instances(service: string, options: CallOptions = {}): Promise<readonly Instance[]> {
    return (await this.#readOrNothing<readonly Instance[]>(path(service, '/instances'), options)) ?? []
  }

  leader(service: string, options: CallOptions = {}): Promise<Instance | undefined> {
    return this.#readOrNothing<Instance>(path(service, '/leader'), options)
  }

  /** Makes an instance the leader of a service whose leader type is `manual`. */
  async setLeader(service: string, instanceId: string, options: CallOptions = {}): Promise<void> {
    const body = { id: instanceId }
    await this.#call((server, o) => server.put(path(service, '/leader'), body, o), {
      ...options,
      idempotent: true,
    })
  }

  getMeta(service: string, options: CallOptions = {}): Promise<ServiceMeta | undefined> {
    return this.#readOrNothing<ServiceMeta>(path(service, '/meta'), options)
  }

  /**
   * Compare-and-set: `index` 0 creates, else it must be the index last read. Answers what is stored now.
   * Rejects with `object_exists` or `precondition_failed` when somebody else was first.
   */
  setMeta(service: string, meta: ServiceMeta, options: CallOptions = {}): Promise<ServiceMeta> {
    return this.#call((server, o) => server.put<ServiceMeta>(path(service, '/meta'), meta, o), {
      ...options,
      idempotent: false,
    })
  }

  /** One registration or heartbeat; `register` does this for as long as the instance lives. */
  async putInstance(service: string, instance: Instance, options: CallOptions = {}): Promise<void> {
    await this.#call((server, o) => server.put(path(service, `/instances/${instance.id}`), instance, o), {
      ...options,
      idempotent: true,
    })
  }

  async deleteInstance(service: string, id: string, options: CallOptions = {}): Promise<void> {
    await this.#call((server, o) => server.delete(path(service, `/instances/${id}`), o), {
      ...options,
      idempotent: true,
    })
  }

  /** Registers an instance and keeps it registered until closed. Resolves when it is registered for the first time. */
  register(options: Register): Promise<Registration> {
    return register(this, options)
  }

  /**
   * All events of a service, from the present state on, until the signal aborts: reconnects by itself, shows each change
   * once, and `current` after each (re)connection when everything registered has been shown.
   */
  async *watch(service: string, options: WatchOptions = {}): AsyncGenerator<DiscoverdEvent> {
    let state = newWatch
    while (!options.signal?.aborted) {
      let cause: unknown
      try {
        const server = this.#servers[this.#preferred % this.#servers.length] as HttpClient
        let open = false
        for await (const { value } of server.events<DiscoverdEvent>(path(service), {
          retryMs: 0,
          headersTimeoutMs: callTimeoutMs,
          idleTimeoutMs: streamSilenceMaxMs,
          signal: options.signal,
        })) {
          if (!open) {
            open = true
            state = connected(state)
            options.onState?.('connected')
          }
          const step = received(state, value)
          state = step.state
          yield* step.events
        }
      } catch (e) {
        cause = e
        this.#preferred++
      }
      if (options.signal?.aborted) return
      options.onState?.('disconnected', cause)
      await this.#reachable.wait(options.signal)
    }
  }

  /** Instances of a service, waiting for the first one to register if there is none yet. */
  async instancesWithTimeout(
    service: string,
    timeoutMs: number,
    signal?: AbortSignal,
  ): Promise<readonly Instance[]> {
    const limit = AbortSignal.any([AbortSignal.timeout(timeoutMs), ...(signal ? [signal] : [])])
    const found: Instance[] = []
    let replayed = false
    for await (const event of this.watch(service, { signal: limit })) {
      if (event.kind === 'up' && event.instance) found.push(event.instance)
      if (event.kind === 'current') replayed = true
      if (replayed && found.length > 0) return found
    }
    signal?.throwIfAborted()
    throw discoverdClientErrors.NO_INSTANCES({ service })
  }

  /**
   * For processes that have no discoverd DNS: replaces the host of `http://SERVICE.discoverd/...` or
   * `http://leader.SERVICE.discoverd/...` by an instance's address. A port in the URL wins over the instance's;
   * other URLs are returned as they are. Rejects with NO_INSTANCES or NO_LEADER.
   */
  async resolve(url: string, options: CallOptions = {}): Promise<string> {
    const parsed = new URL(url)
    const match = /^(leader\.)?([a-z0-9-]+)\.discoverd\.?$/i.exec(parsed.hostname)
    if (!match?.[2]) return url
    const service = match[2].toLowerCase()
    const addr = match[1] ? await this.leaderAddr(service, options) : await this.someAddr(service, options)
    const split = addr.lastIndexOf(':')
    const explicitPort = /^[a-z+]+:\/\/[^/?#]*:\d+(?:[/?#]|$)/i.test(url)
    const host = explicitPort ? `${addr.slice(0, split)}:${parsed.port || '80'}` : addr
    return url.replace(/^([a-z+]+:\/\/(?:[^@/?#]*@)?)[^/?#]*/i, (_, head: string) => head + host)
  }

  /** `host:port` of a random instance. */
  async someAddr(service: string, options: CallOptions = {}): Promise<string> {
    const instances = await this.instances(service, options)
    const one = instances[Math.floor(Math.random() * instances.length)]
    if (!one) throw discoverdClientErrors.NO_INSTANCES({ service })
    return one.addr
  }

  /** `host:port` of the leader. */
  async leaderAddr(service: string, options: CallOptions = {}): Promise<string> {
    const leader = await this.leader(service, options)
    if (!leader) throw discoverdClientErrors.NO_LEADER({ service })
    return leader.addr
  }

  /** `http://host:port` of the leader: fits `HttpClient`'s `url` function. */
  async leaderUrl(service: string, scheme = 'http'): Promise<string> {
    return `${scheme}://${await this.leaderAddr(service)}`
  }

  /** `http://host:port` of a random instance: fits `HttpClient`'s `url` function. */
  async instanceUrl(service: string, scheme = 'http'): Promise<string> {
    return `${scheme}://${await this.someAddr(service)}`
  }

  /** `ip:port` of every discoverd that has a consensus member beside it. */
  raftPeers(options: CallOptions = {}): Promise<readonly string[]> {
    return this.#read('/raft/peers', options)
  }

  raftLeader(options: CallOptions = {}): Promise<RaftLeader> {
    return this.#read('/raft/leader', options)
  }

  /** Ends connections; registrations and watches must be closed before. */
  async close(): Promise<void> {
    this.#agents.close()
  }
}
