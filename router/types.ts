// What the router tells on its API (contract router.md 3.2). The scheduler listens to backend events to know when a
// new job takes traffic and when an old one has none left.
import type { Route } from '../controller/types.ts'

export const routerApiService = 'router-api'
export const routerHttpService = 'router-http'
export const routerApiPort = 5000

export type RouterBackend = {
  readonly service: string
  /** host:port */
  readonly addr: string
  readonly app: string
  readonly job_id: string
}

export const routerEventTypes = ['set', 'remove', 'backend-up', 'backend-down', 'backend-drained'] as const
export type RouterEventType = (typeof routerEventTypes)[number]

export type RouterEvent = {
  readonly event: RouterEventType
  readonly route?: Route
  readonly backend?: RouterBackend
}

/** One route's last minute on one router, from `GET /routes/stats`. */
export type RouteStats = {
  readonly id: string
  readonly type: 'http' | 'tcp'
  readonly service: string
  /** `domain/path/`, or `:port`. */
  readonly address: string
  readonly requests: number
  readonly requests_per_second: number
  /** Part of the requests that were answered with 500 or above, 0 to 1. */
  readonly error_rate: number
  readonly p50_ms: number
  readonly p99_ms: number
}
