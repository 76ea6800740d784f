// What `flynn route add` and `route update` can ask of the routers beyond the original's options, and the columns in which
// `flynn route` tells what came of it.
import type { ManagedCertificate, Route, RouteInput, RouteTraffic } from '../controller/types.ts'
import { UsageError } from './usage.ts'

export const askable = {
  'auto-tls': { type: 'boolean' },
  'redirect-https': { type: 'boolean' },
  maintenance: { type: 'boolean' },
  'proxy-protocol': { type: 'boolean' },
  'max-body': { type: 'string' },
  'rate-limit': { type: 'string' },
  'connection-limit': { type: 'string' },
} as const

export const revocable = {
  ...askable,
  'no-auto-tls': { type: 'boolean' },
  'no-redirect-https': { type: 'boolean' },
  'no-maintenance': { type: 'boolean' },
  'no-proxy-protocol': { type: 'boolean' },
} as const

type Name = keyof typeof askable
type Args = { flag(name: Name): boolean; text(name: Name): string | undefined }
type Revoked = 'auto-tls' | 'redirect-https' | 'maintenance' | 'proxy-protocol'

function either(args: Args, name: Revoked, revokes: Revokes): boolean | undefined {
  const off = revokes(`no-${name}`)
  if (args.flag(name) && off) throw new UsageError(`--${name} and --no-${name} exclude each other`)
  return args.flag(name) ? true : off ? false : undefined
}

/** Whether an option that takes something away was given; not all commands have them. */
type Revokes = (name: `no-${Revoked}`) => boolean

function whole(args: Args, name: Name): number | undefined {
  const text = args.text(name)
  if (text === undefined) return undefined
  if (!/^\d{1,10}$/.test(text)) throw new UsageError(`--${name} wants a whole number, 0 for no limit`)
  return Number(text)
}

/** The fields that the options name. `domain`: of the route. */
export function askedFields(
  args: Args,
  domain: string | undefined,
  revokes: Revokes = () => false,
): Partial<RouteInput> {
  const auto = either(args, 'auto-tls', revokes)
  const fields = {
    managed_certificate_domain: auto === undefined ? undefined : auto ? (domain ?? '').toLowerCase() : '',
    redirect_https: either(args, 'redirect-https', revokes),
    maintenance: either(args, 'maintenance', revokes),
    proxy_protocol: either(args, 'proxy-protocol', revokes),
    max_body_bytes: whole(args, 'max-body'),
    rate_limit: whole(args, 'rate-limit'),
    connection_limit: whole(args, 'connection-limit'),
  }
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined))
}

export const askableHelp = `  --auto-tls               a certificate from the cluster's ACME account, renewed by itself
  --redirect-https         send plain requests to https
  --maintenance            answer every request with 503
  --proxy-protocol         begin connections to the app with a PROXY line
  --max-body=<bytes>       longest request body, 0 for any
  --rate-limit=<n>         requests a second from one client on one router, 0 for any
  --connection-limit=<n>   requests in progress on one router, 0 for any
  --no-auto-tls            no longer
  --no-redirect-https      no longer
  --no-maintenance         no longer
  --no-proxy-protocol      no longer`

/** `auto`, `manual` or `none`, and of an automatic certificate how it stands. */
export function tlsColumn(route: Route, managed: ManagedCertificate | undefined): string {
  if (route.type === 'tcp') return ''
  if (!route.managed_certificate_domain) return route.certificate ? 'manual' : 'none'
  if (managed === undefined) return 'auto'
  return managed.status === 'issued' && managed.expires_at
    ? `auto until ${managed.expires_at.slice(0, 10)}`
    : `auto ${managed.status}`
}

export const trafficHead = ['REQ/S', 'ERRORS', 'P99']

/** Empty when no router told. */
export function trafficColumns(traffic: RouteTraffic | undefined): readonly string[] {
  if (traffic === undefined || traffic.routers === 0) return ['', '', '']
  if (traffic.requests === 0) return ['0', '', '']
  const errors = `${Number((traffic.error_rate * 100).toFixed(2))}%`
  return [traffic.requests_per_second.toFixed(1), errors, `${Math.round(traffic.p99_ms)}ms`]
}

/** One line for each automatic certificate that could not be had. */
export function certificateTroubles(managed: readonly ManagedCertificate[]): readonly string[] {
  return managed
    .filter(m => m.last_error !== undefined && m.status !== 'issued')
    .map(
      m =>
        `certificate of ${m.domain}: ${m.last_error}; tried again at ${m.next_attempt_at?.slice(0, 19)}Z, or at once with: flynn route update http/${m.route_id} --auto-tls`,
    )
}
