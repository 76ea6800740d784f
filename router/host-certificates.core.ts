// The certificates that HAProxy should hold, out of those of the routes: each under a name of its own, with all hosts that it
// is for. Pure but for what it remembers of the table before.
import type { Certificate, Route } from '../controller/types.ts'

/** Immutable under its name: other text or other hosts make another name, so the old one serves until the new does. */
export type HostCertificate = {
  readonly name: string
  readonly pem: string
  /** Empty when only a catch-all route has it: then the names in the certificate count. */
  readonly hosts: readonly string[]
}

type PemPair = { readonly pem: string; readonly hash: string }
/** By wire object, because text of ten thousand certificates is too much to read again at each change. */
const pemPairs = new WeakMap<Certificate, PemPair>()

function pemPairOf(certificate: Certificate): PemPair | undefined {
  const { cert, key } = certificate
  if (!cert || !key) return undefined
  const known = pemPairs.get(certificate)
  if (known) return known
  const pem = `${cert.trim()}\n${key.trim()}\n`
  const pair = { pem, hash: textHash(pem) }
  pemPairs.set(certificate, pair)
  return pair
}

export type NamedPair = {
  readonly name: string
  readonly pair: PemPair
  /** Undefined for the catch-all. */
  readonly host: string | undefined
}

/** Undefined for a route that brings no certificate. */
export function namedPairOf(route: Route): NamedPair | undefined {
  const pair = route.certificate && pemPairOf(route.certificate)
  if (!pair) return undefined
  const name = (route.certificate?.id ?? route.id).replaceAll(/[^A-Za-z0-9-]/g, '_')
  const domain = (route.domain ?? '').toLowerCase().replace(/\.$/, '')
  return { name, pair, host: domain === '*' ? undefined : domain }
}

type CertificateHosts = { readonly pair: PemPair; readonly hosts: string[] }

/** By pair: most of ten thousand certificates are what they were before a change. */
const lastNamed = new WeakMap<PemPair, { readonly id: string; readonly certificate: HostCertificate }>()

function namedCertificate(id: string, { pair, hosts }: CertificateHosts): HostCertificate {
  const sorted = hosts.length > 1 ? [...new Set(hosts)].sort() : hosts
  const last = lastNamed.get(pair)
  if (last?.id === id && sameTexts(last.certificate.hosts, sorted)) return last.certificate
  const name = `${id}_${pair.hash}${textHash(sorted.join(' '))}`
  const certificate = { name, pem: pair.pem, hosts: sorted }
  lastNamed.set(pair, { id, certificate })
  return certificate
}

const sameTexts = (a: readonly string[], b: readonly string[]) =>
  a.length === b.length && a.every((text, i) => text === b[i])

type Named = { readonly pairs: readonly NamedPair[]; readonly ids: Set<string>; readonly named: Certificates }
type Certificates = ReadonlyMap<string, HostCertificate>
/** Of the last table: the next has mostly the same, or one more at its end. */
let lastOnes: Named = { pairs: [], ids: new Set(), named: new Map() }

/** By name; the very map of before when nothing else is asked for. */
export function namedCertificates(pairs: readonly NamedPair[]): Certificates {
  const { pairs: known, named } = lastOnes
  const grown = known.length <= pairs.length && known.every((pair, i) => pair === pairs[i])
  if (grown && known.length === pairs.length) return named
  lastOnes = (grown ? appended(lastOnes, pairs) : undefined) ?? allNamed(pairs)
  return lastOnes.named
}

/** Undefined when one of the new names is there already: then its hosts are others. */
function appended({ pairs: known, ids, named }: Named, pairs: readonly NamedPair[]): Named | undefined {
  const fresh = pairs.slice(known.length)
  if (fresh.some(({ name }) => ids.has(name))) return undefined
  const added = allNamed(fresh)
  for (const id of added.ids) ids.add(id)
  return { pairs, ids, named: new Map([...named, ...added.named]) }
}

function allNamed(pairs: readonly NamedPair[]): Named {
  const byId = new Map<string, CertificateHosts>()
  for (const { name, pair, host } of pairs) {
    const entry = byId.get(name) ?? { pair, hosts: [] }
    if (host !== undefined) entry.hosts.push(host)
    byId.set(name, entry)
  }
  const named = new Map<string, HostCertificate>()
  for (const [id, entry] of byId) {
    const certificate = namedCertificate(id, entry)
    named.set(certificate.name, certificate)
  }
  return { pairs, ids: new Set(byId.keys()), named }
}

/** Two FNV-1a sums of 32 bits: tells versions of one certificate apart, which nobody gains from forging. */
function textHash(text: string): string {
  let [a, b] = [0x811c9dc5, 0x01000193]
  for (let i = 0; i < text.length; i++) {
    const code = text.charCodeAt(i)
    a = Math.imul(a ^ code, 0x01000193) >>> 0
    b = Math.imul(b ^ (code + i), 0x85ebca6b) >>> 0
  }
  return a.toString(16).padStart(8, '0') + b.toString(16).padStart(8, '0')
}
