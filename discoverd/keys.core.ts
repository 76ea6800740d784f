// Where discoverd's state lies in etcd. Every daemon of a cluster reads and writes these keys and no others; all
// values are JSON. Instances hang on the lease of the daemon that receives their heartbeats.

export const prefix = '/discoverd/'

export type Place =
  | { readonly kind: 'service' | 'meta' | 'leader'; readonly service: string }
  | { readonly kind: 'instance'; readonly service: string; readonly id: string }

export const serviceKey = (service: string): string => `${prefix}service/${service}`
export const metaKey = (service: string): string => `${prefix}meta/${service}`
export const leaderKey = (service: string): string => `${prefix}leader/${service}`
export const instancesPrefix = (service: string): string => `${prefix}instance/${service}/`
export const instanceKey = (service: string, id: string): string => `${instancesPrefix(service)}${id}`

/** What a key stands for; undefined for keys that a later version may have put there. */
export function placeOf(key: string): Place | undefined {
  if (!key.startsWith(prefix)) return undefined
  const [kind, service, id, ...rest] = key.slice(prefix.length).split('/')
  if (!service || rest.length > 0) return undefined
  if (kind === 'instance') return id ? { kind, service, id } : undefined
  if (id !== undefined) return undefined
  return kind === 'service' || kind === 'meta' || kind === 'leader' ? { kind, service } : undefined
}

/** `write` makes a value recognisable to its writer when the answer to the write got lost. */
export type ServiceValue = { readonly leader_type: string; readonly write: string }
export type MetaValue = { readonly data: unknown; readonly write: string }
export type LeaderValue = {
  readonly id: string
  /** On a service that elects by age: the set of instances (count, youngest index) the choice was made among. */
  readonly among: readonly [count: number, youngest: number]
}
export type InstanceValue = {
  readonly addr: string
  readonly proto: string
  readonly meta?: Readonly<Record<string, string>>
}
