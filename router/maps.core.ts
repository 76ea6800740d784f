// The lines of the maps and of the certificate list, from what is desired and the slots it was given. Pure.
import { files, type RouterSettings } from './frontend.core.ts'
import type { Desired, HostCertificate, HttpTarget, Pool } from './table.core.ts'

export type Layout = {
  readonly desired: Desired
  /** Backend key to slot. */
  readonly slots: Readonly<Record<string, string>>
  readonly pool: Pool
  /** Ports of TCP routes outside the range that is always bound. */
  readonly tcpPorts: readonly number[]
  /** Changed for each reload. */
  readonly generation: string
}

const valuesMade = new WeakMap<HttpTarget, { readonly slot: string | undefined; readonly value: string }>()

/** Made again only when the target or its slot is another one. */
function targetValue(slot: string | undefined, to: HttpTarget): string {
  const known = valuesMade.get(to)
  if (known !== undefined && known.slot === slot) return known.value
  const value = makeTargetValue(slot, to)
  valuesMade.set(to, { slot, value })
  return value
}

/** `slot|route`, and where the route asks for more, `|flags|rate|connections|body bytes` or `|a|thumbprint`. */
function makeTargetValue(slot: string | undefined, to: HttpTarget): string {
  if (to.thumbprint !== undefined) return `${slot}|${to.route}|${to.flags}|${to.thumbprint}`
  const { rate, connections, bodyBytes } = to.limits
  return `${slot}|${to.route}${to.flags ? `|${to.flags}|${rate}|${connections}|${bodyBytes}` : ''}`
}

/** Maps are asked for by the files and by the plan, as they are and as they were: made once for each layout. */
const made = {
  plain: new WeakMap<Layout, Map<string, string>>(),
  wildcard: new WeakMap<Layout, Map<string, string>>(),
}

function mapOf(layout: Layout, wildcards: boolean): ReadonlyMap<string, string> {
  const known = made[wildcards ? 'wildcard' : 'plain']
  const map = known.get(layout) ?? makeMap(layout, wildcards)
  known.set(layout, map)
  return map
}

function makeMap(layout: Layout, wildcards: boolean): Map<string, string> {
  const map = new Map<string, string>()
  for (const [key, to] of layout.desired.http) {
    if (key.startsWith('*') !== wildcards) continue
    // Wildcards stand by the host below which they are, the catch-all by its star.
    const place = key.startsWith('*.') ? key.slice(2) : key
    map.set(place, targetValue(layout.slots[to.backend], to))
  }
  return map
}

/** Routes of whole hosts. */
export function httpMapOf(layout: Layout): ReadonlyMap<string, string> {
  return mapOf(layout, false)
}

/** Routes of wildcards, and the catch-all. */
export function wildcardMapOf(layout: Layout): ReadonlyMap<string, string> {
  return mapOf(layout, true)
}

export function tcpMapOf(layout: Layout): Map<string, string> {
  return new Map([...layout.desired.tcp].map(([port, key]) => [String(port), layout.slots[key] ?? '']))
}

export function renderMap(map: ReadonlyMap<string, string>): string {
  let text = ''
  for (const [key, value] of map) text += `${key} ${value}\n`
  return text
}

export function certificatePath(s: RouterSettings, name: string): string {
  return `${s.dir}/${files.certificates}/${name}.pem`
}

/** One line of the certificate list. */
export function certificateLine(
  s: RouterSettings,
  certificate: Pick<HostCertificate, 'name' | 'hosts'>,
): string {
  const hosts = certificate.hosts.map(h => ` ${h}`).join('')
  return `${certificatePath(s, certificate.name)} [alpn h2,http/1.1]${hosts}`
}

const linesMade = new WeakMap<HostCertificate, { readonly dir: string; readonly line: string }>()

function knownLine(s: RouterSettings, certificate: HostCertificate): string {
  const known = linesMade.get(certificate)
  if (known?.dir === s.dir) return known.line
  const line = `${certificateLine(s, certificate)}\n`
  linesMade.set(certificate, { dir: s.dir, line })
  return line
}

/** The default certificate first: HAProxy gives it to clients that name no host, or one without a certificate. */
export function renderCertificateList(s: RouterSettings, desired: Desired): string {
  let text = `${certificateLine(s, { name: 'default', hosts: [] })}\n`
  for (const certificate of desired.certificates.values()) text += knownLine(s, certificate)
  return text
}
