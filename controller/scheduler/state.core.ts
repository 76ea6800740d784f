// What the scheduler knows and what happens to it: plain values, no engine's types. `step` in scheduler.core.ts is
// the only writer; the rim makes events out of the world and carries out effects (contract controller.md 4).

import type { Seed } from '../../pkg/random/random.core.ts'
import { emptyIndex, type JobIndex } from './index.core.ts'
import type { Copy, Move, MoveEffect, MoveHappening } from './move.core.ts'
import { type ReadonlyTable, Table } from './table.core.ts'

export type { Copy, Move, MoveEffect } from './move.core.ts'

export type Labels = Readonly<Record<string, string>>

export type Host = {
  readonly id: string
  readonly tags: Labels
  /** Leaving: nothing is placed here any more. */
  readonly shutdown: boolean
  /** Its jobs move to other hosts; it says so until the drain is cancelled. */
  readonly draining?: boolean
  /** False from its down event until a status request succeeds again. */
  readonly healthy: boolean
  /** Consecutive failed status requests. */
  readonly failures: number
  /** Its jobs have been listed since it was followed; before that nothing is placed on it. */
  readonly synced: boolean
  /** Memory that jobs may ask for in all; absent when the host does not tell. */
  readonly memoryBytes?: number
  /** Thousandths of a core that the host has. */
  readonly cpuMillis?: number
}

/** What a job counts for on its host. */
export type Asks = { readonly memoryBytes: number; readonly cpuMillis: number }

export type VolumeWish = { readonly path: string; readonly deleteOnStop: boolean }

/** The part of a process type that placement looks at. */
export type Process = {
  readonly omni: boolean
  /** discoverd service that must list the job before it counts as up (4.6). */
  readonly service?: string
  readonly volumes: readonly VolumeWish[]
  /** It takes ports of its host: two releases cannot run on one host at a time. */
  readonly hostNetwork?: boolean
  /** Unless the one that stops and the one that starts can listen side by side. */
  readonly sharedPorts?: boolean
  readonly asks: Asks
  readonly args: readonly string[]
}

export type Formation = {
  /** `<app>:<release>` */
  readonly key: string
  readonly appId: string
  readonly releaseId: string
  readonly system: boolean
  /** May never be brought to zero while no other release runs (4.8). */
  readonly critical: boolean
  /** Its jobs pass their volumes on to those of the next release, one at a time (handover.core.ts). */
  readonly handover?: boolean
  /** Its counts are not the controller's: a release that failed was taken back. */
  readonly takenBack?: boolean
  /** The app's meta: what its jobs are recorded with. */
  readonly meta: Labels
  /** Microseconds since 1970: older updates are ignored. */
  readonly updatedAtUs: number
  readonly counts: Readonly<Record<string, number>>
  readonly tags: Readonly<Record<string, Labels>>
  readonly processes: Readonly<Record<string, Process>>
  /** The pending scale request exactly as the controller sent it. */
  readonly scale?: ScaleRequestBody
}
export type ScaleRequestBody = { readonly id: string } & Readonly<Record<string, unknown>>

/** A process type on its way from one release of an app to another. */
export type Handover = {
  readonly appId: string
  readonly type: string
  readonly fromKey: string
  readonly toKey: string
  /** Counts of before. */
  readonly fromCount: number
  readonly toCount: number
  readonly sinceMs: number
}

export type JobPhase = 'pending' | 'blocked' | 'starting' | 'running' | 'stopping' | 'stopped'
/** Why a job is stopped: its host said so, its host or its record on it is gone, or it never started. */
export type JobEnd = 'reported' | 'lost' | 'cancelled'

export type Job = {
  readonly uuid: string
  readonly appId: string
  readonly releaseId: string
  /** Absent for one-off jobs. */
  readonly formationKey?: string
  /** Empty for one-off jobs. */
  readonly type: string
  readonly phase: JobPhase
  readonly system: boolean
  readonly hostId?: string
  /** Omni jobs belong to one host. */
  readonly pinnedHostId?: string
  /** A start request is under way and not answered. */
  readonly placing: boolean
  /** The host has accepted the job. */
  readonly onHost: boolean
  /** The host said that its process runs. */
  readonly hostRunning: boolean
  readonly restarts: number
  /** Time of the last start request. */
  readonly askedMs?: number
  /** Start requests made so far; an answer to an earlier one is recognised by it. */
  readonly attempts: number
  /** Not placed before this time. */
  readonly notBeforeMs: number
  /** The host that refused last, passed over when there is another. */
  readonly refusedBy?: string
  /** The answer of `hostId` was lost: the job may run there, so it is asked again and no other. */
  readonly uncertain: boolean
  readonly blockedBecause?: string
  readonly createdMs: number
  readonly startedMs?: number
  readonly endedMs?: number
  readonly end?: JobEnd
  readonly volumeIds: readonly string[]
  readonly asks: Asks
  readonly args: readonly string[]
  readonly meta: Labels
  readonly exitStatus?: number
  readonly hostError?: string
  /** Waits for routers until this time (4.6). */
  readonly gateUntilMs?: number
  /** Told to leave discoverd; stopped when routers have drained it, at this time at the latest (4.7). */
  readonly drainUntilMs?: number
  /** The stop request is repeated at this time. */
  readonly stopAgainMs?: number
  /** What the controller was last told. */
  readonly recorded?: WireState
}
export type WireState = 'pending' | 'starting' | 'up' | 'stopping' | 'down'

export type Volume = {
  readonly id: string
  readonly hostId: string
  readonly appId: string
  readonly releaseId: string
  readonly type: string
  readonly path: string
  readonly deleteOnStop: boolean
  readonly state: 'pending' | 'created' | 'destroyed'
  readonly decommissioned: boolean
  readonly createdMs: number
  /** The controller has a row of it; jobs that hold it can be recorded only then. */
  readonly recorded?: boolean
}

export type Backend = {
  readonly uuid: string
  readonly service: string
  /** `down` until its last request has been answered; then it is forgotten. */
  readonly status: 'up' | 'down'
}
export type Router = {
  readonly id: string
  /** By service and address. */
  readonly backends: ReadonlyMap<string, Backend>
}

export type State = {
  readonly leader: boolean
  /** Hosts, formations, volumes and the controller's job list have all been read once. */
  readonly loaded: boolean
  /** Time of the last step. */
  readonly steppedMs: number
  readonly hosts: ReadonlyTable<Host>
  readonly formations: ReadonlyTable<Formation>
  readonly jobs: ReadonlyTable<Job>
  /** Which jobs belong together; always in step with `jobs`. */
  readonly index: JobIndex
  readonly volumes: ReadonlyTable<Volume>
  readonly routers: ReadonlyTable<Router>
  /** Services with a route whose backends are drained. */
  readonly routed: ReadonlySet<string>
  /** Service name to the jobs that discoverd lists for it. */
  readonly services: ReadonlyTable<ReadonlySet<string>>
  /** Service name to the job that leads it. */
  readonly leaders: ReadonlyTable<string>
  readonly handovers: ReadonlyMap<string, Handover>
  /** By volume and host. */
  readonly copies: ReadonlyMap<string, Copy>
  /** By volume. */
  readonly moves: ReadonlyMap<string, Move>
  /** Formations to look at in this step. */
  readonly dirty: ReadonlySet<string>
  /** Formations that jobs name but the controller does not, and since when. */
  readonly strays: ReadonlyMap<string, number>
  /** Formations that were forgotten because nothing of them was wanted or ran. */
  readonly emptied: ReadonlyTable<true>
  /** Non-empty formations that the last full list did not have. */
  readonly unlisted: ReadonlySet<string>
}

export const emptyState: State = {
  leader: false,
  loaded: false,
  steppedMs: 0,
  hosts: new Table(),
  formations: new Table(),
  jobs: new Table(),
  index: emptyIndex,
  volumes: new Table(),
  routers: new Table(),
  routed: new Set(),
  services: new Table(),
  leaders: new Table(),
  handovers: new Map(),
  copies: new Map(),
  moves: new Map(),
  dirty: new Set(),
  strays: new Map(),
  emptied: new Table(),
  unlisted: new Set(),
}

/** A job as its host describes it. */
export type HostJob = {
  readonly uuid: string
  readonly hostId: string
  readonly status: 'starting' | 'running' | 'done' | 'crashed' | 'failed'
  readonly appId: string
  readonly releaseId: string
  readonly type: string
  readonly formation: boolean
  readonly system: boolean
  readonly meta: Labels
  readonly args: readonly string[]
  readonly volumes: readonly (VolumeWish & { readonly id: string })[]
  readonly createdMs: number
  readonly startedMs?: number
  readonly endedMs?: number
  readonly exitStatus?: number
  readonly error?: string
  readonly asks?: Asks
}

/** A row of the controller's active jobs. */
export type RecordedJob = {
  readonly uuid: string
  readonly appId: string
  readonly releaseId: string
  readonly type: string
  readonly state: WireState
  readonly hostId?: string
  readonly restarts: number
  readonly runAtMs?: number
  readonly updatedMs: number
  readonly meta: Labels
  readonly args: readonly string[]
  readonly volumeIds: readonly string[]
}

export type PlaceFailure =
  /** The host said no, or the volume could not be made: try elsewhere. */
  | 'refused'
  /** All its start slots are taken: the same host, a little later. */
  | 'busy'
  /** No answer: the job may have been accepted. */
  | 'uncertain'

export type Happening =
  | { readonly kind: 'tick' }
  | { readonly kind: 'leader'; readonly leader: boolean }
  | { readonly kind: 'loaded' }
  | {
      readonly kind: 'host'
      readonly host: Pick<Host, 'id' | 'tags' | 'shutdown' | 'draining' | 'memoryBytes' | 'cpuMillis'>
    }
  | { readonly kind: 'hostGone'; readonly hostId: string }
  /** `silent`: nothing answered at all, which a machine that runs without its daemon does. */
  | { readonly kind: 'hostProbe'; readonly hostId: string; readonly ok: boolean; readonly silent?: boolean }
  | { readonly kind: 'hostJobs'; readonly hostId: string; readonly jobs: readonly HostJob[] }
  | { readonly kind: 'hostJob'; readonly job: HostJob }
  | { readonly kind: 'hostJobMissing'; readonly hostId: string; readonly uuid: string }
  | {
      readonly kind: 'hostVolumes'
      readonly hostId: string
      readonly ids: readonly string[]
      /** Those whose metadata says that they belong to an app. */
      readonly owned?: readonly Volume[]
      /** Those that are on their way between hosts; they are not among `owned`. */
      readonly fenced?: readonly Copy[]
    }
  | MoveHappening
  | { readonly kind: 'formation'; readonly formation: Formation }
  | { readonly kind: 'formations'; readonly formations: readonly Formation[] }
  | { readonly kind: 'volume'; readonly volume: Volume }
  /** Every volume that the controller has a row of. */
  | { readonly kind: 'recordedVolumes'; readonly ids: readonly string[] }
  | { readonly kind: 'recordedJobs'; readonly jobs: readonly RecordedJob[] }
  | {
      readonly kind: 'service'
      readonly service: string
      readonly jobs: readonly string[]
      readonly leader?: string
    }
  | { readonly kind: 'routed'; readonly services: readonly string[] }
  | { readonly kind: 'router'; readonly routerId: string }
  | { readonly kind: 'routerGone'; readonly routerId: string }
  | {
      readonly kind: 'backend'
      readonly routerId: string
      readonly uuid: string
      readonly service: string
      readonly addr: string
      readonly status: 'up' | 'down' | 'drained'
    }
  | { readonly kind: 'placed'; readonly uuid: string; readonly hostId: string; readonly attempt: number }
  | {
      readonly kind: 'placeFailed'
      readonly uuid: string
      readonly hostId: string
      readonly attempt: number
      readonly why: PlaceFailure
      readonly message: string
    }
  | { readonly kind: 'stopFailed'; readonly uuid: string; readonly hostId: string }

export type Event = Happening & { readonly nowMs: number; readonly seed: Seed }

export type Effect =
  | {
      /** Create the new volumes, then ask the host to start the job; answer `placed` or `placeFailed`. */
      readonly kind: 'place'
      readonly hostId: string
      readonly uuid: string
      readonly attempt: number
      readonly formationKey: string
      readonly type: string
      readonly volumes: readonly Volume[]
    }
  | { readonly kind: 'deregister'; readonly hostId: string; readonly uuid: string }
  /** Ask the host to stop the job; answer `stopFailed` when that fails. */
  | { readonly kind: 'stop'; readonly hostId: string; readonly uuid: string }
  /** Read one job from its host; answer `hostJob` or `hostJobMissing`. */
  | { readonly kind: 'inspect'; readonly hostId: string; readonly uuid: string }
  /** A volume that was made for a start that was refused; nothing is in it. */
  | { readonly kind: 'dropVolume'; readonly hostId: string; readonly volumeId: string }
  | MoveEffect
  | { readonly kind: 'recordJob'; readonly job: Job; readonly state: WireState }
  | { readonly kind: 'recordVolume'; readonly volume: Volume; readonly jobUuid?: string }
  | {
      /** After every earlier record of the formation's jobs. */
      readonly kind: 'finishScale'
      readonly formationKey: string
      readonly request: ScaleRequestBody
      readonly state: 'complete' | 'cancelled'
    }
  | { readonly kind: 'note'; readonly text: string; readonly detail: Readonly<Record<string, unknown>> }

export const formationKey = (appId: string, releaseId: string): string => `${appId}:${releaseId}`
