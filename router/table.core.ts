// What this router knows, and what HAProxy should therefore hold: routes and the instances of their services in,
// backends, maps and certificates out. Pure. Selection rules: contract router.md 4.1.

import type { Route } from '../controller/types.ts'
import type { Instance } from '../discoverd/types.ts'
import {
  type HostCertificate,
  type NamedPair,
  namedCertificates,
  namedPairOf,
} from './host-certificates.core.ts'

export type ServiceState = {
  readonly instances: ReadonlyMap<string, Instance>
  readonly leaderId: string | undefined
}

export type Table = {
  readonly routes: ReadonlyMap<string, Route>
  readonly services: ReadonlyMap<string, ServiceState>
}

export const emptyTable: Table = { routes: new Map(), services: new Map() }

export type TableChange =
  | { readonly kind: 'sync'; readonly routes: readonly Route[] }
  | { readonly kind: 'set'; readonly route: Route }
  | { readonly kind: 'remove'; readonly route: Route }
  | { readonly kind: 'service'; readonly service: string; readonly state: ServiceState }
  | { readonly kind: 'forget'; readonly service: string }

const routeKey = (route: Pick<Route, 'type' | 'id'>) => `${route.type}/${route.id}`

/** The table after a change; the one before is left as it was. */
export function changeTable(table: Table, change: TableChange): Table {
  return changeTableBy(table, [change])
}

/** The same for several at once: a router that starts is told of thousands of services, and each copy holds them all. */
export function changeTableBy(table: Table, changes: readonly TableChange[]): Table {
  let routes: Map<string, Route> | undefined
  let services: Map<string, ServiceState> | undefined
  for (const change of changes) {
    switch (change.kind) {
      case 'sync':
        routes = new Map(change.routes.map(r => [routeKey(r), r]))
        break
      case 'set':
        routes ??= new Map(table.routes)
        routes.set(routeKey(change.route), change.route)
        break
      case 'remove':
        routes ??= new Map(table.routes)
        routes.delete(routeKey(change.route))
        break
      case 'service':
        services ??= new Map(table.services)
        services.set(change.service, change.state)
        break
      case 'forget':
        services ??= new Map(table.services)
        services.delete(change.service)
        break
      default:
        change satisfies never
    }
  }
  return { routes: routes ?? table.routes, services: services ?? table.services }
}

/** Names of the services that a table's routes lead to. */
export function routedServices(table: Table): ReadonlySet<string> {
  return new Set([...table.routes.values()].map(r => r.service))
}

/** b: HTTP; s: HTTP of routes that ask for more; n: that with a connection per request; t: TCP. */
export type Flavour = 'b' | 's' | 'n' | 't'

export type Server = {
  readonly name: string
  readonly addr: string
  readonly job: string
  readonly app: string
  /** Connections begin with a PROXY line that names the client. */
  readonly proxy: boolean
}

export type Backend = {
  readonly key: string
  readonly service: string
  readonly flavour: Flavour
  readonly servers: readonly Server[]
}

/** What the frontend needs to know of a route, besides where it leads. */
export type HttpTarget = {
  readonly backend: string
  readonly route: string
  /** s: sticky; r: redirect to https; m: maintenance; l: rate, c: connections, z: body size limited; a: challenges. */
  readonly flags: string
  readonly limits: RouteLimits
  /** Of the ACME account whose challenges are answered here. */
  readonly thumbprint?: string
}

export type RouteLimits = {
  readonly rate: number
  readonly connections: number
  readonly bodyBytes: number
}

/** Stands in the TCP map, where no port is, for where attach connections go: the controller. */
export const attachKey = 0
const attachService = 'controller'

/** Maps hold backend keys; slots of the pool are put in when they are written. */
export type Desired = {
  readonly backends: ReadonlyMap<string, Backend>
  /** `host/path/` to where it leads; `host:port/path/` on additional ports. */
  readonly http: ReadonlyMap<string, HttpTarget>
  readonly tcp: ReadonlyMap<number, string>
  readonly certificates: ReadonlyMap<string, HostCertificate>
}

export function flavourOf(route: Route): Flavour {
  if (route.type === 'tcp') return 't'
  if (route.disable_keep_alives) return 'n'
  return flagsOf(route) === '' ? 'b' : 's'
}

export function backendKey(route: Route): string {
  return `${flavourOf(route)}:${route.service}${route.leader ? ':leader' : ''}${route.proxy_protocol ? ':proxy' : ''}`
}

/** A name that HAProxy accepts, the same for the same address. */
export function serverName(addr: string): string {
  return `i_${addr.replaceAll(/[^A-Za-z0-9]/g, '_')}`
}

/** Addresses only: a name that does not resolve would keep HAProxy from starting. */
const addrPattern = /^(\d{1,3}(\.\d{1,3}){3}|\[[0-9a-fA-F:.]+\]):\d{1,5}$/

function servers(route: Route, state: ServiceState | undefined): readonly Server[] {
  const all = [...(state?.instances.values() ?? [])].filter(i => addrPattern.test(i.addr))
  const chosen = route.leader ? all.filter(i => i.id === state?.leaderId) : all
  return chosen
    .map(i => ({
      name: serverName(i.addr),
      addr: i.addr,
      job: i.meta?.['FLYNN_JOB_ID'] ?? '',
      app: i.meta?.['FLYNN_APP_NAME'] ?? '',
      proxy: route.proxy_protocol ?? false,
    }))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
}

const domainPattern = /^(\*|(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*)$/
const pathPattern = /^\/[^\s|"']*$/

/** `host/path/` or `host:port/path/`, or undefined for a domain or path that no request can have (one bad route must not stop the rest). */
export function httpMapKey(route: Route): string | undefined {
  const domain = (route.domain ?? '').toLowerCase().replace(/\.$/, '')
  const path = route.path || '/'
  if (!domainPattern.test(domain) || !pathPattern.test(path)) return undefined
  const clean = `${path}/`.replaceAll(/\/{2,}/g, '/')
  return `${domain}${route.port ? `:${route.port}` : ''}${clean}`
}

const limit = (value: number | undefined) => (value && value > 0 ? Math.floor(value) : 0)

function limitsOf(route: Route): RouteLimits {
  return {
    rate: limit(route.rate_limit),
    connections: limit(route.connection_limit),
    bodyBytes: limit(route.max_body_bytes),
  }
}

function flagsOf(route: Route): string {
  const { rate, connections, bodyBytes } = limitsOf(route)
  return [
    route.sticky ? 's' : '',
    route.redirect_https ? 'r' : '',
    route.maintenance ? 'm' : '',
    rate ? 'l' : '',
    connections ? 'c' : '',
    bodyBytes ? 'z' : '',
  ].join('')
}

function httpTarget(route: Route): HttpTarget {
  return { backend: backendKey(route), route: route.id, flags: flagsOf(route), limits: limitsOf(route) }
}

/** What a route says by itself. Made once: with ten thousand routes it is most of what a change of one takes. */
type Part = {
  readonly backend: string
  /** Undefined for TCP, and for a domain or path that no request can have. */
  readonly http: { readonly key: string; readonly target: HttpTarget } | undefined
  readonly certificate: NamedPair | undefined
}
/** By wire object, which is never changed. */
const parts = new WeakMap<Route, Part>()

function partOf(route: Route): Part {
  const known = parts.get(route)
  if (known) return known
  const key = route.type === 'http' ? httpMapKey(route) : undefined
  const part = {
    backend: backendKey(route),
    http: key === undefined ? undefined : { key, target: httpTarget(route) },
    certificate: key === undefined ? undefined : namedPairOf(route),
  }
  parts.set(route, part)
  return part
}

/** What HAProxy should hold for a table. */
export function desiredOf(table: Table): Desired {
  const backends = new Map<string, Backend>()
  const http = new Map<string, HttpTarget>()
  const tcp = new Map<number, string>()
  const certificates: NamedPair[] = []
  for (const route of table.routes.values()) {
    const { backend, http: place, certificate } = partOf(route)
    if (route.type === 'tcp') {
      if (!route.port) continue
      tcp.set(route.port, backend)
    } else {
      if (place === undefined) continue
      http.set(place.key, place.target)
      if (certificate) certificates.push(certificate)
    }
    addBackend(backends, backend, route, table)
    if (route.service === attachService && !route.leader) {
      const raw = { ...route, type: 'tcp' as const }
      tcp.set(attachKey, backendKey(raw))
      addBackend(backends, backendKey(raw), raw, table)
    }
  }
  const challenges = challengePlaces(table)
  for (const [key, target] of challenges) http.set(key, target)
  if (challenges.size > 0) backends.set(challengeBackend.key, challengeBackend)
  return { backends, http, tcp, certificates: namedCertificates(certificates) }
}

const thumbprintPattern = /^[A-Za-z0-9_-]{43}$/
/** Has no servers: HAProxy answers by itself there. */
const challengeBackend: Backend = {
  key: 's:acme-challenge',
  service: 'acme-challenge',
  flavour: 's',
  servers: [],
}
const noLimits: RouteLimits = { rate: 0, connections: 0, bodyBytes: 0 }

/**
 * The place of a domain with an automatic certificate where the authority asks for its challenges (RFC 8555 8.3). The
 * answer to each is its token and the account's thumbprint, so every router knows it without being told of any.
 */
function challengePlaces(table: Table): ReadonlyMap<string, HttpTarget> {
  const places = new Map<string, HttpTarget>()
  for (const {
    id,
    domain,
    managed_certificate_domain: managed,
    acme_thumbprint: thumbprint,
  } of table.routes.values()) {
    if (managed === undefined || thumbprint === undefined || !thumbprintPattern.test(thumbprint)) continue
    if (!domainPattern.test(managed) || managed !== domain?.toLowerCase()) continue
    const target = { backend: challengeBackend.key, route: id, flags: 'a', limits: noLimits, thumbprint }
    places.set(`${managed}/.well-known/acme-challenge/`, target)
  }
  return places
}

function addBackend(into: Map<string, Backend>, key: string, route: Route, table: Table): void {
  if (into.has(key)) return
  const found = servers(route, table.services.get(route.service))
  into.set(key, { key, service: route.service, flavour: flavourOf(route), servers: found })
}

/**
 * Slots by backend key: a key keeps its slot, new keys take the lowest free one. Slots in `busy`, and those that another
 * key had until now, are left alone: their old servers still take requests while the change is carried out.
 */
export function assignSlots(
  previous: Readonly<Record<string, string>>,
  backends: Iterable<Pick<Backend, 'key' | 'flavour'>>,
  busy: ReadonlySet<string>,
): Record<string, string> {
  const assigned: Record<string, string> = {}
  const fresh: Pick<Backend, 'key' | 'flavour'>[] = []
  const taken = new Set([...busy, ...Object.values(previous)])
  for (const backend of backends) {
    const slot = previous[backend.key]
    if (slot === undefined) fresh.push(backend)
    else assigned[backend.key] = slot
  }
  const next: Record<Flavour, number> = { b: 1, s: 1, n: 1, t: 1 }
  for (const { key, flavour } of fresh) {
    while (taken.has(`${flavour}${next[flavour]}`)) next[flavour]++
    assigned[key] = `${flavour}${next[flavour]++}`
  }
  return assigned
}

/** An empty backend takes 11 kB of HAProxy's memory (evidence/router.md). */
const poolGrowth = 1.25
const poolSpare = 64

export type Pool = Readonly<Record<Flavour, number>>

/** The pool that holds every assigned slot; one that is too small gets a quarter more than is needed, and some. */
export function poolFor(pool: Pool, slots: Readonly<Record<string, string>>): Pool {
  const needed: Record<Flavour, number> = { b: 0, s: 0, n: 0, t: 0 }
  for (const slot of Object.values(slots)) {
    const flavour = slot.charAt(0) as Flavour
    needed[flavour] = Math.max(needed[flavour], Number(slot.slice(1)))
  }
  const size = (flavour: Flavour) =>
    needed[flavour] <= pool[flavour] ? pool[flavour] : Math.ceil(needed[flavour] * poolGrowth) + poolSpare
  return { b: size('b'), s: size('s'), n: size('n'), t: size('t') }
}
