// What the routers counted of routes in the last minute, as one figure for the cluster. Pure.
import type { RouteStats } from '../../router/types.ts'
import type { RouteTraffic } from '../types.ts'

const rounded = (value: number, digits: number) => Number(value.toFixed(digits))

/** Rates add up, errors weigh by requests; of times the slowest router's, which no client has exceeded more often. */
export function mergeStats(
  routeIds: readonly string[],
  routers: readonly (readonly RouteStats[])[],
): readonly RouteTraffic[] {
  return routeIds.map(id => {
    const found = routers.flatMap(stats => stats.filter(s => s.id === id))
    const requests = found.reduce((sum, s) => sum + s.requests, 0)
    const failed = found.reduce((sum, s) => sum + s.requests * s.error_rate, 0)
    return {
      route_id: id,
      requests,
      requests_per_second: rounded(
        found.reduce((sum, s) => sum + s.requests_per_second, 0),
        2,
      ),
      error_rate: requests === 0 ? 0 : rounded(failed / requests, 4),
      p50_ms: Math.max(0, ...found.map(s => s.p50_ms)),
      p99_ms: Math.max(0, ...found.map(s => s.p99_ms)),
      routers: found.length,
    }
  })
}
