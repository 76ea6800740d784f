// The scheduler as a pure function: `step(state, event)` gives the next state, the effects to carry out and the time
// to wake up at. No clock, no randomness, no I/O: both come with the event (contract controller.md 4).
// Called by the rim (main.ts) and by the simulator, which replays any run from its seed.
import { rectify, stopStrays, syncFormations, updateFormation } from './formation.core.ts'
import { onService, settleHandovers } from './handover.core.ts'
import { onHost, onHostGone, onHostJobMissing, onHostJobs, onHostProbe } from './hosts.core.ts'
import { reportJob, settleJobs, stopRetryMs, wakeJobs } from './job.core.ts'
import {
  onCopyDropped,
  onMoveFailed,
  onMoveProgress,
  onMoveUndone,
  onPrimaryMoved,
  onVolumeCopied,
  onVolumeMoved,
} from './move-answers.core.ts'
import { driveMoves } from './moves.core.ts'
import { lookAgain, onPlaced, onPlaceFailed, placePending } from './placement.core.ts'
import { catchUp, onRecordedJobs, pruneJobs } from './records.core.ts'
import type { Effect, Event, State } from './state.core.ts'
import { acting, openStep, type Step, setJob, touchAll } from './step.core.ts'
import { onHostVolumes, onRecordedVolumes, onVolume } from './volumes.core.ts'

export type StepResult = {
  readonly state: State
  readonly effects: readonly Effect[]
  /** A `tick` is wanted at this time, unless another event comes first. */
  readonly wakeAtMs?: number
}

/** One event in, the next state and what to do about it out. */
export function step(state: State, event: Event): StepResult {
  const current = openStep(state, event)
  const before = acting(current)
  apply(current, event)
  if (!before && acting(current)) catchUp(current)
  wakeJobs(current, state.steppedMs)
  settleJobs(current)
  settleHandovers(current)
  driveMoves(current)
  rectify(current)
  placePending(current)
  const next: State = current.draft
  const wakeAtMs = wakeTime(next, event.nowMs)
  return { state: next, effects: current.effects, ...(wakeAtMs === undefined ? {} : { wakeAtMs }) }
}

type Handlers = { readonly [K in Event['kind']]: (s: Step, event: Extract<Event, { kind: K }>) => void }

const handlers: Handlers = {
  tick: s => {
    pruneJobs(s)
    lookAgain(s)
  },
  leader: onLeader,
  loaded: s => {
    s.draft.loaded = true
    touchAll(s)
  },
  host: onHost,
  hostGone: (s, event) => onHostGone(s, event.hostId),
  hostProbe: (s, event) => onHostProbe(s, event),
  hostJobs: onHostJobs,
  hostJob: (s, event) => reportJob(s, event.job),
  hostJobMissing: onHostJobMissing,
  hostVolumes: onHostVolumes,
  recordedVolumes: onRecordedVolumes,
  formation: (s, event) => updateFormation(s, event.formation),
  formations: (s, event) => {
    syncFormations(s, event.formations)
    stopStrays(s)
  },
  volume: onVolume,
  recordedJobs: (s, event) => onRecordedJobs(s, event.jobs),
  service: onService,
  routed: (s, event) => {
    s.draft.routed = new Set(event.services)
  },
  router: (s, event) => {
    if (!s.draft.routers.has(event.routerId))
      s.draft.routers.set(event.routerId, { id: event.routerId, backends: new Map() })
  },
  routerGone: (s, event) => {
    s.draft.routers.delete(event.routerId)
  },
  backend: onBackend,
  placed: onPlaced,
  placeFailed: onPlaceFailed,
  stopFailed: onStopFailed,
  moveProgress: onMoveProgress,
  volumeCopied: onVolumeCopied,
  primaryMoved: onPrimaryMoved,
  volumeMoved: onVolumeMoved,
  moveUndone: onMoveUndone,
  copyDropped: onCopyDropped,
  moveFailed: onMoveFailed,
}

function apply(s: Step, event: Event): void {
  const handle = handlers[event.kind] as (s: Step, event: Event) => void
  handle(s, event)
}

function onLeader(s: Step, event: Extract<Event, { kind: 'leader' }>): void {
  s.draft.leader = event.leader
  // Another may have gone on with them meanwhile: the hosts tell how far they are.
  s.draft.moves.clear()
  touchAll(s)
}

function onBackend(s: Step, event: Extract<Event, { kind: 'backend' }>): void {
  const { routerId, uuid, service, addr, status } = event
  const backends = new Map(s.draft.routers.get(routerId)?.backends)
  const key = `${service} ${addr}`
  if (status === 'drained') backends.delete(key)
  else backends.set(key, { uuid, service, status })
  s.draft.routers.set(routerId, { id: routerId, backends })
}

function onStopFailed(s: Step, event: Extract<Event, { kind: 'stopFailed' }>): void {
  const job = s.draft.jobs.get(event.uuid)
  s.effects.push({ kind: 'inspect', hostId: event.hostId, uuid: event.uuid })
  if (job?.phase === 'stopping' && job.hostId === event.hostId)
    setJob(s, job, { stopAgainMs: s.nowMs + stopRetryMs })
}

function wakeTime(state: State, nowMs: number): number | undefined {
  let wake: number | undefined
  const consider = (atMs: number | undefined): void => {
    if (atMs !== undefined && atMs > nowMs && (wake === undefined || atMs < wake)) wake = atMs
  }
  for (const uuid of state.index.moving.keys()) {
    const job = state.jobs.get(uuid)
    if (job === undefined) continue
    if (job.phase === 'pending' || job.phase === 'blocked') consider(job.notBeforeMs)
    consider(job.gateUntilMs)
    consider(job.drainUntilMs)
    consider(job.stopAgainMs)
  }
  return wake
}
