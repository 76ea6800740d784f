// What a host's log sinks lack of the controller's (contract system-apps.md 2.3). Pure. Called by sinks.ts.
import type { Sink } from '../types.ts'

export type HostSink = {
  readonly id: string
  readonly host_managed?: boolean
  readonly config?: unknown
}

export type SinkStep =
  | { readonly kind: 'put'; readonly sink: Sink }
  | { readonly kind: 'remove'; readonly id: string }

/** JSON with its keys in order: the two sides may store them in different ones. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_key, v: unknown) =>
    typeof v === 'object' && v !== null && !Array.isArray(v)
      ? Object.fromEntries(Object.entries(v).sort(([a], [b]) => (a < b ? -1 : 1)))
      : v,
  )
}

/** Steps that bring a host's sinks to the wanted ones; those that it made by itself are left alone. */
export function planSinks(wanted: readonly Sink[], present: readonly HostSink[]): readonly SinkStep[] {
  const own = new Map(present.filter(s => s.host_managed !== true).map(s => [s.id, s]))
  const puts = wanted.flatMap((sink): SinkStep[] => {
    const known = own.get(sink.id)
    const same = known !== undefined && canonical(known.config) === canonical(sink.config)
    return same ? [] : [{ kind: 'put', sink }]
  })
  const ids = new Set(wanted.map(s => s.id))
  const removals = [...own.keys()].filter(id => !ids.has(id)).map((id): SinkStep => ({ kind: 'remove', id }))
  return [...puts, ...removals]
}
