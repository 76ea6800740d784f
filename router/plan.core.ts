// From what HAProxy holds to what it should hold, without a reload: pure, a list of named steps in a safe order. New
// servers before the routes that lead to them; routes away before the servers that they led to. New certificates before
// the old ones of the same names go.

import type { HostCertificate } from './host-certificates.core.ts'
import { httpMapOf, type Layout, mapDifference, tcpMapOf, wildcardMapOf } from './maps.core.ts'
import type { Backend, Flavour, Server } from './table.core.ts'

export type MapName = 'http' | 'wildcard' | 'tcp'
type ServerAt = {
  readonly slot: string
  readonly flavour: Flavour
  readonly server: Server
  readonly service: string
}

export type Step =
  | ({ readonly kind: 'add-server' } & ServerAt)
  /** Takes no new connections; what is under way goes on. Removed when the last of it has ended. */
  | ({ readonly kind: 'retire-server' } & ServerAt)
  | { readonly kind: 'add-map'; readonly map: MapName; readonly key: string; readonly value: string }
  | { readonly kind: 'set-map'; readonly map: MapName; readonly key: string; readonly value: string }
  | { readonly kind: 'delete-map'; readonly map: MapName; readonly key: string }
  | { readonly kind: 'add-certificate'; readonly certificate: HostCertificate }
  | { readonly kind: 'delete-certificate'; readonly certificate: HostCertificate }

export type Plan = { readonly reload: string } | { readonly steps: readonly Step[] }

const slotsOf = new WeakMap<Layout, ReadonlyMap<string, Backend>>()

/** Made once for each layout: the plan asks for it twice, and for that of before. */
function serversBySlot(layout: Layout): ReadonlyMap<string, Backend> {
  const known = slotsOf.get(layout) ?? makeServersBySlot(layout)
  slotsOf.set(layout, known)
  return known
}

function makeServersBySlot(layout: Layout): ReadonlyMap<string, Backend> {
  const bySlot = new Map<string, Backend>()
  for (const backend of layout.desired.backends.values()) {
    const slot = layout.slots[backend.key]
    if (slot !== undefined) bySlot.set(slot, backend)
  }
  return bySlot
}

function mapSteps(
  map: MapName,
  before: ReadonlyMap<string, string>,
  after: ReadonlyMap<string, string>,
): Step[] {
  const { added, changed, deleted } = mapDifference(before, after)
  return [
    ...[...added].map(([key, value]): Step => ({ kind: 'add-map', map, key, value })),
    ...[...changed].map(([key, value]): Step => ({ kind: 'set-map', map, key, value })),
    ...deleted.map((key): Step => ({ kind: 'delete-map', map, key })),
  ]
}

function poolsDiffer(a: Layout, b: Layout): boolean {
  return a.pool.b !== b.pool.b || a.pool.s !== b.pool.s || a.pool.n !== b.pool.n || a.pool.t !== b.pool.t
}

/** Servers of `layout` that `other` does not have. */
function serversOnlyIn(layout: Layout, other: Layout): ServerAt[] {
  const there = serversBySlot(other)
  const found: ServerAt[] = []
  for (const [slot, { flavour, service, servers }] of serversBySlot(layout)) {
    if (servers.length === 0) continue
    const known = new Set(there.get(slot)?.servers.map(s => s.name))
    for (const server of servers) if (!known.has(server.name)) found.push({ slot, flavour, server, service })
  }
  return found
}

/** What takes no new request once HAProxy holds `after`. */
export function retiredServers(before: Layout, after: Layout): readonly ServerAt[] {
  return serversOnlyIn(before, after)
}

function certificatesOnlyIn(layout: Layout, other: Layout): HostCertificate[] {
  if (layout.desired.certificates === other.desired.certificates) return []
  return [...layout.desired.certificates.values()].filter(c => !other.desired.certificates.has(c.name))
}

/** Steps that change HAProxy in place, or the reason why it must read its files anew. */
export function planChange(before: Layout, after: Layout): Plan {
  if (poolsDiffer(before, after)) return { reload: 'the pool of backends grew' }
  if (before.tcpPorts.join() !== after.tcpPorts.join()) return { reload: 'other TCP ports' }
  return {
    steps: [
      ...serversOnlyIn(after, before).map((s): Step => ({ kind: 'add-server', ...s })),
      ...certificatesOnlyIn(after, before).map(
        (certificate): Step => ({ kind: 'add-certificate', certificate }),
      ),
      ...mapSteps('http', httpMapOf(before), httpMapOf(after)),
      ...mapSteps('wildcard', wildcardMapOf(before), wildcardMapOf(after)),
      ...mapSteps('tcp', tcpMapOf(before), tcpMapOf(after)),
      ...certificatesOnlyIn(before, after).map(
        (certificate): Step => ({ kind: 'delete-certificate', certificate }),
      ),
      ...serversOnlyIn(before, after).map((s): Step => ({ kind: 'retire-server', ...s })),
    ],
  }
}
