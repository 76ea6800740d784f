// Wire types of routes, certificates, providers, resources, volumes and events (contracts controller.md 2.10-2.13,
// router.md 3.3).
import { type Static, Type } from 'typebox'

const Text = Type.String()
const StringMap = Type.Record(Type.String(), Type.String())
const optional = Type.Optional

// Routes -----------------------------------------------------------------------------------------------------------

export const tcpPortMin = 3000
export const tcpPortMax = 3500

/** HAProxy computes with these; 2^31-1 is also over 2 GB for a body. */
export const routeLimitMax = 2_147_483_647

export const CertificateInput = Type.Object({ id: optional(Text), cert: optional(Text), key: optional(Text) })

/** What a route may ask of the routers beyond the original's fields; absent, false and 0 mean no. */
export const RouteOptions = Type.Object({
  /** Plain HTTP requests are sent to https. */
  redirect_https: optional(Type.Boolean()),
  /** Every request is answered with 503 and Retry-After, whatever the backends do. */
  maintenance: optional(Type.Boolean()),
  /** Longer request bodies get 413, bodies of unknown length 411. */
  max_body_bytes: optional(Type.Integer({ minimum: 0, maximum: routeLimitMax })),
  /** Requests a second from one client address to this route on one router; 429 above. */
  rate_limit: optional(Type.Integer({ minimum: 0, maximum: routeLimitMax })),
  /** Requests in progress on this route in one router, upgraded ones included; 429 above. */
  connection_limit: optional(Type.Integer({ minimum: 0, maximum: routeLimitMax })),
  /** Connections to the backend begin with a PROXY protocol v1 line. HTTP and TCP routes. */
  proxy_protocol: optional(Type.Boolean()),
})
export type RouteOptions = Static<typeof RouteOptions>

export const RouteInput = Type.Object({
  type: optional(Type.Enum(['http', 'tcp'])),
  id: optional(Text),
  parent_ref: optional(Text),
  service: optional(Text),
  port: optional(Type.Integer()),
  leader: optional(Type.Boolean()),
  domain: optional(Text),
  certificate: optional(CertificateInput),
  tls_cert: optional(Text),
  tls_key: optional(Text),
  sticky: optional(Type.Boolean()),
  path: optional(Text),
  drain_backends: optional(Type.Boolean()),
  disable_keep_alives: optional(Type.Boolean()),
  /** The route's domain: its certificate comes from the cluster's ACME account and is renewed. Empty: no longer. */
  managed_certificate_domain: optional(Text),
  ...RouteOptions.properties,
})
export type RouteInput = Static<typeof RouteInput>

export type Certificate = {
  readonly id?: string
  readonly routes?: readonly string[]
  readonly cert?: string
  readonly key?: string
  readonly created_at: string
  readonly updated_at: string
}

export type Route = {
  readonly type: 'http' | 'tcp'
  /** Bare uuid; paths and tables show `<type>/<id>`. */
  readonly id: string
  /** `controller/apps/<app uuid>` */
  readonly parent_ref?: string
  readonly service: string
  readonly port?: number
  readonly leader: boolean
  readonly created_at: string
  readonly updated_at: string
  readonly domain?: string
  readonly certificate?: Certificate
  readonly tls_cert?: string
  readonly tls_key?: string
  readonly sticky?: boolean
  readonly path?: string
  readonly drain_backends?: boolean
  readonly disable_keep_alives?: boolean
  readonly managed_certificate_domain?: string
  /** With it a router answers every HTTP-01 challenge of the domain (RFC 8555 8.1): `<token>.<thumbprint>`. */
  readonly acme_thumbprint?: string
} & Readonly<RouteOptions>

/** What all routers together counted of a route in the last minute. */
export type RouteTraffic = {
  readonly route_id: string
  readonly requests: number
  readonly requests_per_second: number
  /** Part of the requests that were answered with 500 or above, 0 to 1. */
  readonly error_rate: number
  /** Of the slowest router. */
  readonly p50_ms: number
  readonly p99_ms: number
  /** Routers that answered and have the route. */
  readonly routers: number
}

/** `<type>/<id>`, the form that people see and paths use. */
export function formattedRouteId(route: { readonly type: string; readonly id: string }): string {
  return `${route.type}/${route.id}`
}

export function routeParentRef(appId: string): string {
  return `controller/apps/${appId}`
}

// Providers and resources ------------------------------------------------------------------------------------------

export const ProviderInput = Type.Object({
  id: optional(Text),
  name: Type.String({ minLength: 1 }),
  url: Type.String({
    minLength: 1,
    pattern: '^[a-z][a-z0-9+.-]*:',
    description: 'a whole URL, such as http://name-api.discoverd/databases',
  }),
})
export type ProviderInput = Static<typeof ProviderInput>

export type Provider = {
  readonly id: string
  readonly name: string
  readonly url: string
  readonly created_at: string
  readonly updated_at: string
}

export const ResourceRequest = Type.Object({
  /** App ids or names. */
  apps: optional(Type.Array(Text)),
  /** Handed to the provider as it is. */
  config: optional(Type.Unknown()),
})
export type ResourceRequest = Static<typeof ResourceRequest>

export const ResourceInput = Type.Object({
  id: optional(Text),
  provider: optional(Text),
  external_id: Type.String({ minLength: 1 }),
  env: optional(StringMap),
  apps: optional(Type.Array(Text)),
})
export type ResourceInput = Static<typeof ResourceInput>

export type Resource = {
  readonly id: string
  /** Provider id. */
  readonly provider: string
  readonly external_id: string
  readonly env?: Readonly<Record<string, string>>
  /** App uuids. */
  readonly apps?: readonly string[]
  readonly created_at: string
}

// Volumes ----------------------------------------------------------------------------------------------------------

export const volumeTypes = ['data', 'squashfs', 'ext2'] as const
export const volumeStates = ['pending', 'created', 'destroyed'] as const

export const Volume = Type.Object({
  id: Text,
  host_id: Text,
  type: Type.Enum([...volumeTypes]),
  state: Type.Enum([...volumeStates]),
  app: optional(Text),
  release: optional(Text),
  /** Bare uuid of the job it is attached to. */
  job: optional(Text),
  job_type: optional(Text),
  path: optional(Text),
  delete_on_stop: optional(Type.Boolean()),
  meta: optional(StringMap),
  created_at: optional(Text),
  updated_at: optional(Text),
  decommissioned_at: optional(Text),
})
export type Volume = Static<typeof Volume>

// Events -----------------------------------------------------------------------------------------------------------

export const eventTypes = [
  'app',
  'app_deletion',
  'app_garbage_collection',
  'app_release',
  'artifact',
  'cluster_backup',
  'deployment',
  'domain_migration',
  'job',
  'key',
  'key_deletion',
  'managed_certificate',
  'provider',
  'release',
  'release_deletion',
  'resource',
  'resource_app_deletion',
  'resource_deletion',
  'route',
  'route_deletion',
  'scale',
  'scale_request',
  'scale_request_cancelation',
  'sink',
  'sink_deletion',
  'volume',
] as const
export type EventType = (typeof eventTypes)[number]

export type ControllerEvent<Data = unknown> = {
  readonly id: number
  readonly app?: string
  readonly object_type: EventType
  readonly object_id: string
  readonly data: Data
  readonly created_at: string
}

/** One JSON object of an app's log (2.15). */
export type LogMessage = {
  readonly host_id?: string
  readonly job_id?: string
  readonly msg?: string
  readonly process_type?: string
  readonly source?: string
  readonly stream?: string
  readonly timestamp: string
}
