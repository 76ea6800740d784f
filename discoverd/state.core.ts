// Discovery state as a fold over etcd's history: (state, changes of one revision) -> (state, events in the order that
// streams must show them). Pure, so that every daemon computes the same. Contract discoverd.md 5-9.
// Invariant: a service's instances are iterated in index order, because new ones always have the highest index.
import {
  type InstanceValue,
  type LeaderValue,
  type MetaValue,
  type Place,
  placeOf,
  type ServiceValue,
} from './keys.core.ts'
import { electLeader } from './leader.core.ts'
import type { DiscoverdEvent, Instance, ServiceMeta } from './types.ts'

export type StoredInstance = Instance & {
  readonly index: number
  /** Lease of the daemon that owns it. */
  readonly lease: string
  /** etcd revision of the last write; what a guarded delete compares. */
  readonly revision: number
}

export type ServiceState = {
  readonly name: string
  /** Undefined: no such service, only left-overs that no one sees. */
  readonly leaderType: string | undefined
  readonly meta: ServiceMeta | undefined
  readonly chosen: LeaderValue | undefined
  readonly instances: ReadonlyMap<string, StoredInstance>
  readonly leader: string | undefined
}

export type State = { readonly revision: number; readonly services: ReadonlyMap<string, ServiceState> }

export type Step = { readonly state: State; readonly events: readonly DiscoverdEvent[] }

/** The part of an etcd change that the fold needs. */
export type KeyChange =
  | {
      readonly type: 'put'
      readonly key: string
      readonly value: { toString(): string }
      readonly createRevision: number
      readonly modRevision: number
      readonly lease: string
    }
  | { readonly type: 'delete'; readonly key: string }

export const emptyState: State = { revision: 0, services: new Map() }

function emptyService(name: string): ServiceState {
  return {
    name,
    leaderType: undefined,
    meta: undefined,
    chosen: undefined,
    instances: new Map(),
    leader: undefined,
  }
}

/** An instance as it goes over the wire. */
export function toInstance(stored: StoredInstance): Instance {
  const { id, addr, proto, meta, index } = stored
  return { id, addr, proto, ...(meta && Object.keys(meta).length > 0 ? { meta } : {}), index }
}

/** Equal in the sense of contract 3.4: address, protocol, metadata. */
export function equalInstances(a: InstanceValue, b: InstanceValue): boolean {
  const left = Object.entries(a.meta ?? {})
  const right = b.meta ?? {}
  return (
    a.addr === b.addr &&
    a.proto === b.proto &&
    left.length === Object.keys(right).length &&
    left.every(([k, v]) => right[k] === v)
  )
}

type Draft = {
  service: ServiceState
  readonly before: ServiceState
  readonly ups: DiscoverdEvent[]
  readonly downs: StoredInstance[]
  /** The leader was named in this revision: shown even when it stays the same. */
  named: boolean
}

function putInstance(
  draft: Draft,
  id: string,
  change: Extract<KeyChange, { type: 'put' }>,
  value: InstanceValue,
): void {
  const known = draft.service.instances.get(id)
  const stored: StoredInstance = {
    id,
    ...value,
    index: change.createRevision,
    lease: change.lease,
    revision: change.modRevision,
  }
  const instances = new Map(draft.service.instances)
  if (known && known.index !== stored.index) instances.delete(id)
  instances.set(id, stored)
  draft.service = { ...draft.service, instances }
  if (known && equalInstances(known, stored)) return
  draft.ups.push({
    service: draft.service.name,
    kind: known ? 'update' : 'up',
    instance: toInstance(stored),
  })
}

function applyPut(draft: Draft, place: Place, change: Extract<KeyChange, { type: 'put' }>): void {
  const parsed: unknown = JSON.parse(change.value.toString())
  switch (place.kind) {
    case 'service':
      draft.service = { ...draft.service, leaderType: (parsed as ServiceValue).leader_type }
      break
    case 'meta':
      draft.service = {
        ...draft.service,
        meta: { data: (parsed as MetaValue).data, index: change.modRevision },
      }
      break
    case 'leader':
      draft.service = { ...draft.service, chosen: parsed as LeaderValue }
      draft.named = true
      break
    case 'instance':
      putInstance(draft, place.id, change, parsed as InstanceValue)
  }
}

function applyDelete(draft: Draft, place: Place): void {
  switch (place.kind) {
    case 'service':
      draft.service = { ...draft.service, leaderType: undefined }
      break
    case 'meta':
      draft.service = { ...draft.service, meta: undefined }
      break
    case 'leader':
      draft.service = { ...draft.service, chosen: undefined }
      break
    case 'instance': {
      const known = draft.service.instances.get(place.id)
      if (!known) return
      const instances = new Map(draft.service.instances)
      instances.delete(place.id)
      draft.service = { ...draft.service, instances }
      draft.downs.push(known)
    }
  }
}

function instanceEvents(draft: Draft): readonly DiscoverdEvent[] {
  const { name } = draft.service
  const downs = draft.downs
    .toSorted((a, b) => a.index - b.index)
    .map((i): DiscoverdEvent => ({ service: name, kind: 'down', instance: toInstance(i) }))
  return [...draft.ups, ...downs]
}

/** Elects anew, then metadata before leader (contract 9). A service that was removed shows no leader event. */
function closingEvents(draft: Draft): readonly DiscoverdEvent[] {
  const { before } = draft
  const leader = electLeader(draft.service)
  draft.service = { ...draft.service, leader }
  const { name, meta, leaderType, instances } = draft.service
  const events: DiscoverdEvent[] = []
  if (meta && meta.index !== before.meta?.index)
    events.push({ service: name, kind: 'service_meta', service_meta: meta })
  const named = draft.named && leader !== undefined
  if (leaderType !== undefined && (leader !== before.leader || named)) {
    const instance = leader === undefined ? undefined : instances.get(leader)
    events.push({ service: name, kind: 'leader', ...(instance ? { instance: toInstance(instance) } : {}) })
  }
  return events
}

function isEmpty(service: ServiceState): boolean {
  return service.leaderType === undefined && !service.meta && !service.chosen && service.instances.size === 0
}

/** Folds all changes of one revision. */
export function applyChanges(state: State, changes: readonly KeyChange[], revision: number): Step {
  const drafts = new Map<string, Draft>()
  for (const change of changes) {
    const place = placeOf(change.key)
    if (!place) continue
    let draft = drafts.get(place.service)
    if (!draft) {
      const before = state.services.get(place.service) ?? emptyService(place.service)
      draft = { service: before, before, ups: [], downs: [], named: false }
      drafts.set(place.service, draft)
    }
    if (change.type === 'put') applyPut(draft, place, change)
    else applyDelete(draft, place)
  }
  const services = new Map(state.services)
  const events = [...drafts.values()].flatMap(instanceEvents)
  for (const draft of drafts.values()) {
    events.push(...closingEvents(draft))
    if (isEmpty(draft.service)) services.delete(draft.service.name)
    else services.set(draft.service.name, draft.service)
  }
  return { state: { revision, services }, events }
}

/** The state that a complete listing describes; instances enter in index order. */
export function fromListing(puts: readonly Extract<KeyChange, { type: 'put' }>[], revision: number): State {
  const byAge = puts.toSorted((a, b) => a.createRevision - b.createRevision)
  return applyChanges(emptyState, byAge, revision).state
}

function serviceDiff(before: ServiceState, after: ServiceState): readonly DiscoverdEvent[] {
  const service = after.name
  const events: DiscoverdEvent[] = []
  for (const i of after.instances.values()) {
    const known = before.instances.get(i.id)
    const same = known && known.index === i.index
    if (same && equalInstances(known, i)) continue
    events.push({ service, kind: same ? 'update' : 'up', instance: toInstance(i) })
  }
  const downs: DiscoverdEvent[] = []
  for (const i of before.instances.values())
    if (!after.instances.has(i.id)) downs.push({ service, kind: 'down', instance: toInstance(i) })
  events.push(...downs)
  if (after.meta && after.meta.index !== before.meta?.index)
    events.push({ service, kind: 'service_meta', service_meta: after.meta })
  if (after.leader !== before.leader && after.leaderType !== undefined) {
    const leader = after.leader === undefined ? undefined : after.instances.get(after.leader)
    events.push({ service, kind: 'leader', ...(leader ? { instance: toInstance(leader) } : {}) })
  }
  return events
}

/** Events that lead from one state to another when the history between them is lost. */
export function diffStates(before: State, after: State): readonly DiscoverdEvent[] {
  const names = new Set([...before.services.keys(), ...after.services.keys()])
  return [...names].flatMap(name =>
    serviceDiff(
      before.services.get(name) ?? emptyService(name),
      after.services.get(name) ?? emptyService(name),
    ),
  )
}

/** What a new subscriber sees first: instances by age, leader, metadata (contract 9). */
export function replay(service: ServiceState): readonly DiscoverdEvent[] {
  const { name, instances, leader, meta } = service
  const events = [...instances.values()].map(
    (i): DiscoverdEvent => ({ service: name, kind: 'up', instance: toInstance(i) }),
  )
  const leading = leader === undefined ? undefined : instances.get(leader)
  if (leading) events.push({ service: name, kind: 'leader', instance: toInstance(leading) })
  if (meta) events.push({ service: name, kind: 'service_meta', service_meta: meta })
  return events
}
