// What becomes of access lines: counts per route, and a line in the log of the route's app. Answers the router API's
// statistics and metrics from them and from HAProxy's own counters.
import type { Route } from '../controller/types.ts'
import type { Access } from './access.core.ts'
import { accessText } from './access.core.ts'
import type { AppLog } from './app-log.ts'
import { type BackendRow, parseServerStats, type RouteLabels, renderMetrics } from './metrics.core.ts'
import { Stats } from './stats.core.ts'
import { serverName, type Table } from './table.core.ts'
import type { RouteStats } from './types.ts'

export type TelemetryOptions = {
  readonly table: () => Table
  /** Backend keys to slots of what HAProxy holds. */
  readonly slots: () => Readonly<Record<string, string>>
  /** HAProxy's `show stat` of all servers. */
  readonly serverStats: () => Promise<string>
  readonly appLog: AppLog | undefined
}

/** An HTTP route is known by its id, a TCP route by its port: HAProxy knows nothing else of them. */
export const statsKey = (route: Route): string => (route.type === 'tcp' ? String(route.port) : route.id)

export const addressOf = (route: Route): string =>
  route.type === 'tcp' ? `:${route.port}` : `${route.domain}${route.path ?? '/'}`

function appOf(route: Route): string | undefined {
  return /^controller\/apps\/([0-9a-f-]+)$/.exec(route.parent_ref ?? '')?.[1]
}

export class Telemetry {
  readonly #options: TelemetryOptions
  readonly #stats = new Stats()
  #indexed: Table | undefined
  #routes: ReadonlyMap<string, Route> = new Map()
  #jobs: ReadonlyMap<string, string> = new Map()

  constructor(options: TelemetryOptions) {
    this.#options = options
  }

  /** Takes one line; cheap, because it is called for every request. */
  readonly record = (access: Access): void => {
    this.#index()
    const nowMs = Date.now()
    this.#stats.record(access.key, nowMs / 1000, access)
    const route = this.#routes.get(access.key)
    const app = route && appOf(route)
    const { appLog } = this.#options
    if (app && appLog?.admits(app, nowMs))
      appLog.send(app, nowMs, accessText(access, this.#jobs.get(access.server)))
  }

  /** Each route with its last minute. */
  stats(): readonly RouteStats[] {
    this.#index()
    const now = Date.now() / 1000
    return [...this.#routes].map(([key, route]) => {
      const minute = this.#stats.minute(key, now)
      return {
        id: route.id,
        type: route.type,
        service: route.service,
        address: addressOf(route),
        requests: minute.requests,
        requests_per_second: Math.round(minute.requestsPerSecond * 100) / 100,
        error_rate: Math.round(minute.errorRate * 10_000) / 10_000,
        p50_ms: minute.p50Ms,
        p99_ms: minute.p99Ms,
      }
    })
  }

  async metrics(): Promise<string> {
    this.#index()
    const labels = new Map<string, RouteLabels>()
    for (const [key, route] of this.#routes)
      labels.set(key, { id: route.id, service: route.service, address: addressOf(route) })
    return renderMetrics(labels, this.#stats.totals(), await this.#backends())
  }

  /** HAProxy's servers as instances of services: one may be in several backends. */
  async #backends(): Promise<readonly BackendRow[]> {
    const keys = new Map(Object.entries(this.#options.slots()).map(([key, slot]) => [slot, key]))
    const addrs = new Map<string, string>()
    for (const { instances } of this.#options.table().services.values())
      for (const { addr } of instances.values()) addrs.set(serverName(addr), addr)
    const rows = new Map<string, BackendRow>()
    for (const row of parseServerStats(await this.#options.serverStats())) {
      const service = keys.get(row.slot)?.split(':')[1]
      const addr = addrs.get(row.server)
      if (service === undefined || addr === undefined) continue
      const id = `${service} ${addr}`
      const before = rows.get(id)
      rows.set(id, {
        service,
        addr,
        connections: (before?.connections ?? 0) + row.connections,
        total: (before?.total ?? 0) + row.total,
        failures: (before?.failures ?? 0) + row.failures,
      })
    }
    return [...rows.values()]
  }

  #index(): void {
    const table = this.#options.table()
    if (table === this.#indexed) return
    if (table.routes !== this.#indexed?.routes) {
      this.#routes = new Map([...table.routes.values()].map(r => [statsKey(r), r]))
      this.#stats.keepOnly(new Set(this.#routes.keys()))
    }
    if (table.services !== this.#indexed?.services) {
      const jobs = new Map<string, string>()
      for (const { instances } of table.services.values())
        for (const { addr, meta } of instances.values())
          jobs.set(serverName(addr), meta?.['FLYNN_JOB_ID'] ?? '')
      this.#jobs = jobs
    }
    this.#indexed = table
  }
}
