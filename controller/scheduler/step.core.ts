// One step of the scheduler in the making: a fork of the state whose tables may be written (the values in them never),
// the effects so far, and the event's time and randomness. Used by the scheduler's other cores only.

import { type Random, seededRandom } from '../../pkg/random/random.core.ts'
import { type DraftIndex, forkIndex, reindex } from './index.core.ts'
import type {
  Copy,
  Effect,
  Event,
  Formation,
  Handover,
  Host,
  Job,
  Labels,
  Move,
  Process,
  Router,
  State,
  Volume,
  WireState,
} from './state.core.ts'
import type { ReadonlyTable, Table } from './table.core.ts'

export type Draft = {
  leader: boolean
  loaded: boolean
  steppedMs: number
  readonly hosts: Table<Host>
  readonly formations: Table<Formation>
  /** Written by `setJob` and `dropJob` only. */
  readonly jobs: ReadonlyTable<Job>
  readonly index: DraftIndex
  readonly volumes: Table<Volume>
  readonly routers: Table<Router>
  routed: ReadonlySet<string>
  readonly services: Table<ReadonlySet<string>>
  readonly leaders: Table<string>
  readonly handovers: Map<string, Handover>
  readonly copies: Map<string, Copy>
  readonly moves: Map<string, Move>
  readonly dirty: Set<string>
  readonly strays: Map<string, number>
  readonly emptied: Table<true>
  readonly unlisted: Set<string>
}

export type Step = {
  readonly draft: Draft
  /** `draft.jobs`, to be written. */
  readonly jobs: Table<Job>
  readonly effects: Effect[]
  /** Hosts that can take more than at the step's beginning. */
  readonly freed: Set<string>
  readonly nowMs: number
  readonly random: Random
}

export function openStep(state: State, event: Event): Step {
  const jobs = state.jobs.fork()
  const draft: Draft = {
    leader: state.leader,
    loaded: state.loaded,
    steppedMs: event.nowMs,
    hosts: state.hosts.fork(),
    formations: state.formations.fork(),
    jobs,
    index: forkIndex(state.index),
    volumes: state.volumes.fork(),
    routers: state.routers.fork(),
    routed: state.routed,
    services: state.services.fork(),
    leaders: state.leaders.fork(),
    handovers: new Map(state.handovers),
    copies: new Map(state.copies),
    moves: new Map(state.moves),
    dirty: new Set(state.dirty),
    strays: new Map(state.strays),
    emptied: state.emptied.fork(),
    unlisted: new Set(state.unlisted),
  }
  return {
    draft,
    jobs,
    effects: [],
    freed: new Set(),
    nowMs: event.nowMs,
    random: seededRandom(event.seed),
  }
}

/** Only the leader that has read everything once changes the world or the controller's records. */
export function acting(step: Step): boolean {
  return step.draft.leader && step.draft.loaded
}

/**
 * Writes changed members of a job; `undefined` takes a member out. Returns the job as it is now, which is the same one
 * when nothing changes.
 */
export function setJob(step: Step, job: Job, change: { [K in keyof Job]?: Job[K] | undefined }): Job {
  const known = step.jobs.get(job.uuid)
  const keys = Object.keys(change) as (keyof Job)[]
  if (known === job && keys.every(key => job[key] === change[key])) return job
  const merged: Record<string, unknown> = { ...job }
  for (const key of keys) {
    if (change[key] !== undefined) merged[key] = change[key]
    else if (key in merged) delete merged[key]
  }
  const next = merged as Job
  step.jobs.set(job.uuid, next)
  reindex(step.draft.index, known, next, step.freed)
  touch(step, job.formationKey)
  return next
}

export function dropJob(step: Step, job: Job): void {
  step.jobs.delete(job.uuid)
  reindex(step.draft.index, job, undefined, step.freed)
}

function jobsNamed(step: Step, uuids: Iterable<string>): Job[] {
  const jobs: Job[] = []
  for (const uuid of uuids) {
    const job = step.jobs.get(uuid)
    if (job !== undefined) jobs.push(job)
  }
  return jobs
}

/** All jobs of a formation, ended ones too. */
export function jobsOfFormation(step: Step, key: string): Job[] {
  return jobsNamed(step, step.draft.index.byFormation.of(key))
}

/** Jobs of a host that have not ended. */
export function jobsOfHost(step: Step, hostId: string): Job[] {
  return jobsNamed(step, step.draft.index.byHost.of(hostId))
}

/** Jobs that hold or wait for a volume. */
export function holdersOf(step: Step, volumeId: string): Job[] {
  return jobsNamed(step, step.draft.index.holders.of(volumeId))
}

/** Jobs that something is due for. */
export function movingJobs(step: Step): Job[] {
  return jobsNamed(step, step.draft.index.moving.keys())
}

/** Jobs of all formations of an app, ended ones too. */
export function jobsOfApp(step: Step, appId: string, type: string): Job[] {
  return [...step.draft.index.byFormation.names()]
    .filter(key => key.startsWith(`${appId}:`))
    .flatMap(key => jobsOfFormation(step, key))
    .filter(job => job.type === type)
}

/** The formation is looked at before the step ends. */
export function touch(step: Step, key: string | undefined): void {
  if (key !== undefined) step.draft.dirty.add(key)
}

export function touchAll(step: Step): void {
  for (const key of step.draft.formations.keys()) step.draft.dirty.add(key)
}

/** Tells the controller, once for each state of a job. */
export function record(step: Step, job: Job, state: WireState): Job {
  if (!acting(step) || job.recorded === state) return job
  const next = setJob(step, job, { recorded: state })
  step.effects.push({ kind: 'recordJob', job: next, state })
  return next
}

export function recordVolume(step: Step, volume: Volume, jobUuid?: string): void {
  const { recorded: _before, ...rest } = volume
  if (!acting(step)) {
    step.draft.volumes.set(volume.id, rest)
    return
  }
  step.draft.volumes.set(volume.id, { ...rest, recorded: true })
  step.effects.push({ kind: 'recordVolume', volume: rest, ...(jobUuid === undefined ? {} : { jobUuid }) })
}

/** What the controller calls the job's phase; blocked jobs stay `pending` there (4.4). */
export function wireState(job: Job): WireState {
  switch (job.phase) {
    case 'pending':
    case 'blocked':
      return 'pending'
    case 'starting':
      return 'starting'
    case 'running':
      return 'up'
    case 'stopping':
      return 'stopping'
    case 'stopped':
      return 'down'
  }
}

/** Counts toward its formation: not on its way out. */
export function isActive(job: Job): boolean {
  return job.phase !== 'stopping' && job.phase !== 'stopped'
}

/** No host has been asked for it. */
export function isUnplaced(job: Job): boolean {
  return (job.phase === 'pending' || job.phase === 'blocked') && !job.placing && !job.onHost && !job.uncertain
}

export function tagsMatch(wanted: Labels | undefined, tags: Labels): boolean {
  return Object.entries(wanted ?? {}).every(([key, value]) => tags[key] === value)
}

export function processOf(step: Step, job: Job): Process | undefined {
  if (job.formationKey === undefined) return undefined
  return step.draft.formations.get(job.formationKey)?.processes[job.type]
}

/** Hosts that an omni type belongs on: those that stay and match its tags (4.3). */
export function omniHosts(step: Step, formation: Formation, type: string): readonly Host[] {
  return [...step.draft.hosts.values()].filter(h => !h.shutdown && tagsMatch(formation.tags[type], h.tags))
}
