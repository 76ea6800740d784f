// The control loop of a router: changes in, one table, HAProxy and listeners kept to it.
import type { DiscoverdClient } from '../discoverd/client.ts'
import { backoff, sleep } from '../pkg/clock/clock.ts'
import type { Logger } from '../pkg/log/log.ts'
import { backendChanges, watchedBackends } from './backends.core.ts'
import { DataPlane } from './data-plane.ts'
import type { EventHub } from './events.ts'
import type { RouterSettings } from './frontend.core.ts'
import type { Snapshot } from './snapshot.ts'
import { followRoutes, followService } from './sources.ts'
import {
  changeTableBy,
  desiredOf,
  emptyTable,
  httpMapKey,
  routedServices,
  type Table,
  type TableChange,
} from './table.core.ts'
import type { RouterBackend } from './types.ts'

export const applyRetryMinMs = 200
export const applyRetryMaxMs = 5_000
/** How long a starting router waits for controller and discoverd before it serves what it served last. */
export const snapshotAfterMs = 3_000
/** How long a route to a service that was never seen is held back, so that it does not answer 503 at first. */
export const serviceWaitMs = 2_000

/** How often it is looked whether a new day has begun. */
export const ticketLookMs = 600_000

export type RouterOptions = {
  readonly settings: RouterSettings
  readonly discoverd: DiscoverdClient
  readonly hub: EventHub
  readonly snapshot: Snapshot
  readonly log: Logger
  readonly signal: AbortSignal
}

export class Router {
  readonly plane: DataPlane
  readonly #options: RouterOptions
  readonly #watches = new Map<string, AbortController>()
  #table: Table = emptyTable
  /** Not in the table yet. */
  #changes: TableChange[] = []
  #services: ReadonlySet<string> = new Set()
  /** Routed services whose instances nobody has told yet. */
  readonly #unseen = new Set<string>()
  #told: ReadonlyMap<string, RouterBackend> = new Map()
  #synced = false
  #dirty: (() => void) | undefined
  #pending = false
  #incompleteSince: number | undefined
  #serving = Promise.withResolvers<void>()

  constructor(options: RouterOptions) {
    this.#options = options
    this.plane = new DataPlane({
      settings: options.settings,
      log: options.log,
      onDrained: ({ service, server }) => {
        // It only changed its part, as a leader that is one no longer: the instance is up.
        if (this.#told.has(`${service} ${server.addr}`)) return
        options.hub.emit({
          event: 'backend-drained',
          backend: { service, addr: server.addr, app: server.app, job_id: server.job },
        })
      },
    })
  }

  get table(): Table {
    if (this.#changes.length > 0) {
      this.#table = changeTableBy(this.#table, this.#changes)
      this.#changes = []
    }
    return this.#table
  }

  /** Resolves when HAProxy serves the first complete table. */
  get serving(): Promise<void> {
    return this.#serving.promise
  }

  /** Works until the signal aborts. */
  async run(): Promise<void> {
    const { discoverd, log, signal, snapshot } = this.#options
    const onChange = (change: TableChange) => this.#change(change)
    await Promise.all([
      followRoutes({ discoverd, log, signal, onChange }),
      this.#applyLoop(),
      this.#fallBack(),
      this.#rotateTickets(),
    ])
    await snapshot.close()
    await this.plane.close()
  }

  async #rotateTickets(): Promise<void> {
    const { signal } = this.#options
    while (!signal.aborted) {
      await sleep(ticketLookMs, signal).catch(() => undefined)
      await this.plane.rotateTickets()
    }
  }

  /** Serves what was served last when nobody tells what to serve. */
  async #fallBack(): Promise<void> {
    const { log, signal, snapshot } = this.#options
    await sleep(snapshotAfterMs, signal).catch(() => undefined)
    if (this.#synced || signal.aborted) return
    const saved = await snapshot.read()
    if (!saved || this.#synced) return
    log.warn({ routes: saved.routes.size }, 'no controller: serving the table of before')
    // What discoverd has told meanwhile is newer.
    this.#table = { routes: saved.routes, services: new Map([...saved.services, ...this.table.services]) }
    this.#synced = true
    this.#routesChanged()
    this.#wake()
  }

  #change(change: TableChange): void {
    this.#changes.push(change)
    if (change.kind === 'sync') this.#synced = true
    if (change.kind === 'service') this.#unseen.delete(change.service)
    this.#tellRoute(change)
    if (change.kind !== 'service' && change.kind !== 'forget') this.#routesChanged()
    this.#wake()
  }

  #wake(): void {
    this.#pending = true
    this.#dirty?.()
  }

  #tellRoute(change: TableChange): void {
    const { hub, log } = this.#options
    if (change.kind !== 'set' && change.kind !== 'remove') return
    const { certificate: _secret, tls_key: _key, ...route } = change.route
    if (route.type === 'http' && httpMapKey(route) === undefined) {
      log.warn({ route: route.id, domain: route.domain, path: route.path }, 'route matches no request')
    }
    hub.emit({ event: change.kind, route })
  }

  #routesChanged(): void {
    const table = this.table
    this.#services = routedServices(table)
    this.#unseen.clear()
    for (const service of this.#services) if (!table.services.has(service)) this.#unseen.add(service)
    for (const service of this.#services) if (!this.#watches.has(service)) this.#follow(service)
    for (const [service, stop] of this.#watches) {
      if (this.#services.has(service)) continue
      stop.abort()
      this.#watches.delete(service)
      this.#changes.push({ kind: 'forget', service })
    }
  }

  #follow(service: string): void {
    const stop = new AbortController()
    this.#watches.set(service, stop)
    const { discoverd, log } = this.#options
    const signal = AbortSignal.any([this.#options.signal, stop.signal])
    followService(service, { discoverd, log, signal, onChange: change => this.#change(change) }).catch(e => {
      if (!signal.aborted) log.error({ err: e, service }, 'service watch ended')
      if (this.#watches.get(service) === stop) this.#watches.delete(service)
    })
  }

  /** Milliseconds to wait for the first state of services that were never seen: they would be served as empty. */
  #missing(): number {
    if (!this.#synced) return Number.POSITIVE_INFINITY
    if (this.#unseen.size === 0) {
      this.#incompleteSince = undefined
      return 0
    }
    this.#incompleteSince ??= performance.now()
    return Math.max(0, serviceWaitMs - (performance.now() - this.#incompleteSince))
  }

  /** Resolves at the next change, after `ms`, or at the end. */
  async #woken(ms: number): Promise<void> {
    const { signal } = this.#options
    const stop = new AbortController()
    const both = AbortSignal.any([signal, stop.signal])
    this.#dirty = () => stop.abort()
    // Timers take no more than 2^31 - 1 milliseconds.
    await sleep(Math.min(ms, 2_147_483_647), both).catch(() => undefined)
    this.#dirty = undefined
  }

  async #applyLoop(): Promise<void> {
    const { log, signal, snapshot } = this.#options
    const delays = backoff({ minMs: applyRetryMinMs, maxMs: applyRetryMaxMs })
    while (!signal.aborted) {
      const wait = this.#pending ? this.#missing() : Number.POSITIVE_INFINITY
      if (wait > 0) {
        await this.#woken(wait)
        continue
      }
      this.#pending = false
      const table = this.table
      try {
        this.#tellDown(table)
        await this.plane.apply(desiredOf(table))
        this.#tellUp(table)
        snapshot.save(table)
        delays.reset()
        this.#serving.resolve()
      } catch (e) {
        log.error({ err: e }, 'HAProxy does not hold the table, trying again')
        this.#pending = true
        await sleep(delays.next(), signal).catch(() => undefined)
      }
    }
  }

  #tellDown(table: Table): void {
    const told = new Map(this.#told)
    for (const { kind, backend } of backendChanges(this.#told, watchedBackends(table))) {
      if (kind !== 'down') continue
      this.#options.hub.emit({ event: 'backend-down', backend })
      told.delete(`${backend.service} ${backend.addr}`)
    }
    this.#told = told
  }

  /** Told only when HAProxy holds them: the scheduler counts on it before it stops an old job. */
  #tellUp(table: Table): void {
    const now = watchedBackends(table)
    for (const { kind, backend } of backendChanges(this.#told, now)) {
      if (kind === 'up') this.#options.hub.emit({ event: 'backend-up', backend })
    }
    this.#told = now
  }
}
