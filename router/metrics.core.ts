// What Prometheus scrapes from a router, as text: per route from the access lines, per backend from HAProxy. Pure.
import { boundsMs, type Totals } from './stats.core.ts'

export type RouteLabels = {
  readonly id: string
  readonly service: string
  /** Domain and path, or the TCP port. */
  readonly address: string
}

export type BackendRow = {
  readonly service: string
  readonly addr: string
  readonly connections: number
  readonly total: number
  readonly failures: number
}

/** Bounds that are told, in milliseconds: each is one of those that are counted. */
const toldMs = [5, 25, 100, 500, 2_500, 10_000, 60_000].map(ms => boundsMs.findLast(b => b <= ms) ?? ms)

const escaped = (text: string) => text.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')

function labels(pairs: Readonly<Record<string, string | number>>): string {
  return Object.entries(pairs)
    .map(([name, value]) => `${name}="${escaped(String(value))}"`)
    .join(',')
}

function heading(name: string, type: string, help: string): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}`
}

function durations(of: string, totals: Totals): readonly string[] {
  const name = 'flynn_router_request_duration_seconds'
  const requests = totals.times.reduce((a, b) => a + b, 0)
  const lines = toldMs.map(ms => {
    const at = boundsMs.indexOf(ms)
    const count = totals.times.subarray(0, at + 1).reduce((a, b) => a + b, 0)
    return `${name}_bucket{${of},le="${ms / 1000}"} ${count}`
  })
  lines.push(`${name}_bucket{${of},le="+Inf"} ${requests}`)
  return [...lines, `${name}_sum{${of}} ${totals.durationMs / 1000}`, `${name}_count{${of}} ${requests}`]
}

export function renderMetrics(
  routes: ReadonlyMap<string, RouteLabels>,
  totals: ReadonlyMap<string, Totals>,
  backends: readonly BackendRow[],
): string {
  const requests: string[] = []
  const bytes: string[] = []
  const times: string[] = []
  for (const [key, counted] of totals) {
    const route = routes.get(key)
    if (!route) continue
    const of = labels({ route: route.id, service: route.service, address: route.address })
    counted.classes.forEach((count, i) => {
      if (count > 0)
        requests.push(`flynn_router_requests_total{${of},class="${i === 0 ? 'tcp' : `${i}xx`}"} ${count}`)
    })
    bytes.push(`flynn_router_bytes_total{${of},direction="in"} ${counted.bytesIn}`)
    bytes.push(`flynn_router_bytes_total{${of},direction="out"} ${counted.bytesOut}`)
    times.push(...durations(of, counted))
  }
  const perBackend = (name: string, value: (b: BackendRow) => number) =>
    backends.map(b => `${name}{${labels({ service: b.service, addr: b.addr })}} ${value(b)}`)
  const lines = [
    heading('flynn_router_routes', 'gauge', 'Routes that this router serves.'),
    `flynn_router_routes ${routes.size}`,
    heading('flynn_router_requests_total', 'counter', 'Requests by route and class of status.'),
    ...requests,
    heading('flynn_router_bytes_total', 'counter', 'Bytes of requests (in) and answers (out) by route.'),
    ...bytes,
    heading('flynn_router_request_duration_seconds', 'histogram', 'Time until the answer had been sent.'),
    ...times,
    heading('flynn_router_backend_connections', 'gauge', 'Requests and connections in progress by backend.'),
    ...perBackend('flynn_router_backend_connections', b => b.connections),
    heading('flynn_router_backend_requests_total', 'counter', 'Requests and connections sent to a backend.'),
    ...perBackend('flynn_router_backend_requests_total', b => b.total),
    heading('flynn_router_backend_failures_total', 'counter', 'Failed connections and broken answers.'),
    ...perBackend('flynn_router_backend_failures_total', b => b.failures),
  ]
  return `${lines.join('\n')}\n`
}

/** Rows of `show stat -1 4 -1` by slot and server name; columns are found by their names. */
export function parseServerStats(csv: string): readonly {
  readonly slot: string
  readonly server: string
  readonly connections: number
  readonly total: number
  readonly failures: number
}[] {
  const [head = '', ...rows] = csv.split('\n').filter(line => line !== '')
  const columns = head.replace(/^#\s*/, '').split(',')
  const at = (name: string) => columns.indexOf(name)
  const [slot, server, scur, stot, econ, eresp] = ['pxname', 'svname', 'scur', 'stot', 'econ', 'eresp'].map(
    at,
  )
  return rows.map(row => {
    const cells = row.split(',')
    const value = (i: number | undefined) => Number(cells[i ?? -1] ?? 0) || 0
    return {
      slot: cells[slot ?? -1] ?? '',
      server: cells[server ?? -1] ?? '',
      connections: value(scur),
      total: value(stot),
      failures: value(econ) + value(eresp),
    }
  })
}
