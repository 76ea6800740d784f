// What the router shows of one service, folded from discoverd's events. A reconnect whose listing is empty does not empty the
// service at once: the discoverd that answers may itself have just started, or have lost its lease for a moment, while the
// processes live. A `down` event does. Pure; driven by sources.ts.
import type { DiscoverdEvent, Instance } from '../discoverd/client.ts'
import type { ServiceState } from './table.core.ts'

export type InstancesEvent =
  | DiscoverdEvent
  /** The stream has (re)connected; until `current` it tells what is there. */
  | { readonly kind: 'connected' }
  /** Nothing came up in the time that the last instances are kept. */
  | { readonly kind: 'keptLongEnough' }

export type Instances = {
  readonly known: ReadonlyMap<string, Instance>
  readonly leaderId: string | undefined
  readonly replaying: boolean
  /** Something has been shown, and something other than nothing was last. */
  readonly shownAny: boolean
  /** The last instances are still shown although none is known. */
  readonly keeping: boolean
}

export const noInstances: Instances = {
  known: new Map(),
  leaderId: undefined,
  replaying: true,
  shownAny: false,
  keeping: false,
}

export type InstancesStep = { readonly state: Instances; readonly show: ServiceState | undefined }

function fold(state: Instances, event: InstancesEvent): Instances {
  switch (event.kind) {
    case 'connected':
      return { ...state, replaying: true }
    case 'up':
    case 'update': {
      const { instance } = event
      if (!instance) return state
      return { ...state, known: new Map(state.known).set(instance.id, instance), keeping: false }
    }
    case 'down':
      return { ...state, known: new Map([...state.known].filter(([id]) => id !== event.instance?.id)) }
    case 'leader':
      return { ...state, leaderId: event.instance?.id }
    case 'current': {
      const keeping = state.replaying && state.shownAny && state.known.size === 0
      return { ...state, replaying: false, keeping }
    }
    case 'keptLongEnough':
      return { ...state, keeping: false }
    case 'service_meta':
      return state
  }
}

/** `show` is what the table is to hold from now on; undefined when it stays as it is. */
export function stepInstances(before: Instances, event: InstancesEvent): InstancesStep {
  const state = fold(before, event)
  // Between connection and `current` only a part is known.
  if (state.replaying || state.keeping) return { state, show: undefined }
  if (event.kind === 'keptLongEnough' && !before.keeping) return { state, show: undefined }
  return {
    state: { ...state, shownAny: state.known.size > 0 },
    show: { instances: state.known, leaderId: state.leaderId },
  }
}
