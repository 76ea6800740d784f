// The lines of the maps and of the certificate list, from what is desired and the slots it was given. Pure.
import { files, type RouterSettings } from './frontend.core.ts'
import type { HostCertificate } from './host-certificates.core.ts'
import type { Desired, HttpTarget, Pool } from './table.core.ts'

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

type Maps = { readonly plain: Map<string, string>; readonly wildcard: Map<string, string> }

/** Maps are asked for by the files and by the plan, as they are and as they were: made once for each layout. */
const mapsMade = new WeakMap<Layout, Maps>()

function mapsOf(layout: Layout): Maps {
  const known = mapsMade.get(layout) ?? makeMaps(layout)
  mapsMade.set(layout, known)
  return known
}

function makeMaps(layout: Layout): Maps {
  const plain = new Map<string, string>()
  const wildcard = new Map<string, string>()
  for (const [key, to] of layout.desired.http) {
    const value = targetValue(layout.slots[to.backend], to)
    // Wildcards stand by the host below which they are, the catch-all by its star.
    if (key.startsWith('*')) wildcard.set(key.startsWith('*.') ? key.slice(2) : key, value)
    else plain.set(key, value)
  }
  return { plain, wildcard }
}

/** Routes of whole hosts. */
export function httpMapOf(layout: Layout): ReadonlyMap<string, string> {
  return mapsOf(layout).plain
}

/** Routes of wildcards, and the catch-all. */
export function wildcardMapOf(layout: Layout): ReadonlyMap<string, string> {
  return mapsOf(layout).wildcard
}

export function tcpMapOf(layout: Layout): Map<string, string> {
  return new Map([...layout.desired.tcp].map(([port, key]) => [String(port), layout.slots[key] ?? '']))
}

export type MapDifference = {
  readonly added: ReadonlyMap<string, string>
  readonly changed: ReadonlyMap<string, string>
  readonly deleted: readonly string[]
}

type Known = { readonly before: ReadonlyMap<string, string>; readonly difference: MapDifference }
/** The file asks for it and then the plan. */
const differencesMade = new WeakMap<ReadonlyMap<string, string>, Known>()

export function mapDifference(
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): MapDifference {
  const known = differencesMade.get(after)
  if (known?.before === before) return known.difference
  const added = new Map<string, string>()
  const changed = new Map<string, string>()
  for (const [key, value] of after) {
    const old = before.get(key)
    if (old === undefined) added.set(key, value)
    else if (old !== value) changed.set(key, value)
  }
  const deleted = after.size - added.size === before.size ? [] : [...before.keys()].filter(k => !after.has(k))
  const difference = { added, changed, deleted }
  differencesMade.set(after, { before, difference })
  return difference
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

const listsMade = new WeakMap<Desired['certificates'], { readonly dir: string; readonly text: string }>()

/** The default certificate first: HAProxy gives it to clients that name no host, or one without a certificate. */
export function renderCertificateList(s: RouterSettings, { certificates }: Desired): string {
  const known = listsMade.get(certificates)
  if (known?.dir === s.dir) return known.text
  let text = `${certificateLine(s, { name: 'default', hosts: [] })}\n`
  for (const certificate of certificates.values()) text += knownLine(s, certificate)
  listsMade.set(certificates, { dir: s.dir, text })
  return text
}
