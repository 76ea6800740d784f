// Makes one gapless sequence of events out of a stream that breaks and starts over: what is already known is dropped,
// what was missed is synthesised. Pure; driven by client.ts. Contract discoverd.md 13 (watch).
import type { DiscoverdEvent, Instance } from './types.ts'

export type WatchState = {
  readonly instances: ReadonlyMap<string, Instance>
  readonly leader: string | undefined
  readonly metaIndex: number | undefined
  /** What a running replay has shown so far; undefined once `current` has passed. */
  readonly replay: { readonly seen: ReadonlySet<string>; readonly leader: boolean } | undefined
}

export type WatchStep = { readonly state: WatchState; readonly events: readonly DiscoverdEvent[] }

export const newWatch: WatchState = {
  instances: new Map(),
  leader: undefined,
  metaIndex: undefined,
  replay: undefined,
}

/** The stream has (re)connected: everything until `current` is a replay. */
export function connected(state: WatchState): WatchState {
  return { ...state, replay: { seen: new Set(), leader: false } }
}

function sameMeta(a: Instance['meta'], b: Instance['meta']): boolean {
  const left = Object.entries(a ?? {})
  return left.length === Object.keys(b ?? {}).length && left.every(([k, v]) => b?.[k] === v)
}

/** Equal in address, protocol, metadata and age. */
function sameInstance(a: Instance, b: Instance): boolean {
  return a.addr === b.addr && a.proto === b.proto && a.index === b.index && sameMeta(a.meta, b.meta)
}

function onUp(state: WatchState, event: DiscoverdEvent, instance: Instance): WatchStep {
  const known = state.instances.get(instance.id)
  const next: WatchState = {
    ...state,
    instances: new Map(state.instances).set(instance.id, instance),
    replay: state.replay && { ...state.replay, seen: new Set(state.replay.seen).add(instance.id) },
  }
  if (known && sameInstance(known, instance)) return { state: next, events: [] }
  return { state: next, events: [known ? { ...event, kind: 'update' } : { ...event, kind: 'up' }] }
}

function onDown(state: WatchState, event: DiscoverdEvent, id: string): WatchStep {
  if (!state.instances.has(id)) return { state, events: [] }
  const instances = new Map(state.instances)
  instances.delete(id)
  return { state: { ...state, instances }, events: [event] }
}

function onCurrent(state: WatchState, event: DiscoverdEvent): WatchStep {
  const replay = state.replay
  if (!replay) return { state, events: [event] }
  const gone = [...state.instances.values()].filter(i => !replay.seen.has(i.id))
  const lostLeader = !replay.leader && state.leader !== undefined
  const events: DiscoverdEvent[] = gone.map(instance => ({ service: event.service, kind: 'down', instance }))
  if (lostLeader) events.push({ service: event.service, kind: 'leader' })
  const instances = new Map([...state.instances].filter(([id]) => replay.seen.has(id)))
  return {
    state: { ...state, instances, leader: lostLeader ? undefined : state.leader, replay: undefined },
    events: [...events, event],
  }
}

/** Folds one event of the stream; the events returned are what the watcher sees. */
export function received(state: WatchState, event: DiscoverdEvent): WatchStep {
  const instance = event.instance
  switch (event.kind) {
    case 'up':
    case 'update':
      return instance ? onUp(state, event, instance) : { state, events: [] }
    case 'down':
      return instance ? onDown(state, event, instance.id) : { state, events: [] }
    case 'leader': {
      const known = state.replay !== undefined && state.leader === instance?.id
      const replay = state.replay && { ...state.replay, leader: true }
      return { state: { ...state, leader: instance?.id, replay }, events: known ? [] : [event] }
    }
    case 'service_meta': {
      const index = event.service_meta?.index
      const known = state.replay !== undefined && state.metaIndex === index
      return { state: { ...state, metaIndex: index }, events: known ? [] : [event] }
    }
    case 'current':
      return onCurrent(state, event)
  }
}
