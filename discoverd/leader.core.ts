// Who leads a service. A pure function of the state in etcd, so every daemon names the same leader without talking.
// Contract discoverd.md 7.
import type { ServiceState } from './state.core.ts'

/** Identifies the set of instances: arrivals raise the youngest index, departures lower the count. */
export function census(instances: ServiceState['instances']): readonly [count: number, youngest: number] {
  let youngest = 0
  for (const i of instances.values()) youngest = Math.max(youngest, i.index)
  return [instances.size, youngest]
}

/** Id of the leader, or undefined. Only registered instances lead. */
export function electLeader(service: ServiceState): string | undefined {
  if (service.leaderType === undefined) return undefined
  const chosen = service.chosen
  const registered = chosen !== undefined && service.instances.has(chosen.id)
  if (service.leaderType === 'manual') return registered ? chosen.id : undefined
  // A leader named in a metadata write of an oldest-leads service stands until instances come or go.
  if (registered) {
    const [count, youngest] = census(service.instances)
    if (chosen.among[0] === count && chosen.among[1] === youngest) return chosen.id
  }
  let oldest: { readonly id: string; readonly index: number } | undefined
  for (const i of service.instances.values()) if (!oldest || i.index < oldest.index) oldest = i
  return oldest?.id
}
