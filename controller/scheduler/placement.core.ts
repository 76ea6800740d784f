// Where pending jobs go (contract controller.md 4.5, 4.11): a job with a data volume follows its volume, also across
// releases of its app; others go where they may (fit.core.ts) to the host that runs fewest of their kind and would be
// least full. Jobs that differ in nothing stand in one line: what keeps the first keeps them all.
import { chooseHost, type Line } from './choice.core.ts'
import { needOf, whyNone } from './fit.core.ts'
import { waitsForHostPorts, waitsForOldRelease } from './handover.core.ts'
import { lineOf } from './index.core.ts'
import { askStop, finishJob, pushStop } from './job.core.ts'
import { movingTo } from './moves.core.ts'
import type { Event, Formation, Host, Job, Volume } from './state.core.ts'
import { acting, holdersOf, recordVolume, type Step, setJob, touch } from './step.core.ts'

/** A host whose slots are taken is asked again after this. */
export const busyRetryMs = 250
const placeRetryStepMs = 500
const placeRetryMaxMs = 30_000

export function placeRetryMs(attempts: number): number {
  return Math.min(placeRetryStepMs * attempts, placeRetryMaxMs)
}

type VolumePlan =
  | { readonly kind: 'blocked'; readonly why: string; readonly reserved: readonly string[] }
  | { readonly kind: 'ready'; readonly hostId?: string; readonly slots: readonly Slot[] }
/** A volume to attach, or the wish for a new one. */
type Slot =
  | { readonly volume: Volume }
  | { readonly wish: { readonly path: string; readonly deleteOnStop: boolean } }

/** Places every job that is due and can be placed; the others wait, blocked ones with a reason. */
export function placePending(step: Step): void {
  if (!acting(step)) return
  const { waiting } = step.draft.index
  for (const name of [...waiting.names()]) placeLine(step, name)
  step.draft.dirty.clear()
}

/** Time alone changes something too: a slow host is no longer waited for. */
export function lookAgain(step: Step): void {
  for (const name of step.draft.index.waiting.names()) touch(step, name.slice(0, name.indexOf(' ')))
}

function placeLine(step: Step, name: string): void {
  let line: Line | undefined
  let kept: Exclude<Outcome, 'placed'> | undefined
  for (const uuid of step.draft.index.waiting.of(name)) {
    const job = step.jobs.get(uuid)
    // The line is read while jobs leave it.
    if (job === undefined || lineOf(job) !== name || job.notBeforeMs > step.nowMs) continue
    line ??= openLine(step, job)
    if (line === undefined) return
    if (job.uncertain) {
      askAgain(step, job, line.formation)
      continue
    }
    const alike = isPlain(job, line)
    if (kept === undefined || !alike) {
      const outcome = place(step, job, line)
      if (alike && outcome !== 'placed') kept = outcome
    } else if (!line.whole) return
    else wait(step, job, kept)
  }
}

function openLine(step: Step, job: Job): Line | undefined {
  const formation = step.draft.formations.get(job.formationKey ?? '')
  if (formation === undefined) return undefined
  const whole = step.draft.dirty.has(formation.key)
  const hosts = whole
    ? [...step.draft.hosts.values()]
    : [...step.freed].flatMap(id => step.draft.hosts.get(id) ?? [])
  return hosts.length === 0 && !whole ? undefined : { formation, type: job.type, hosts, whole }
}

/** Nothing tells it from the others of its line. */
function isPlain(job: Job, { formation }: Line): boolean {
  const process = formation.processes[job.type]
  return (
    job.refusedBy === undefined &&
    job.volumeIds.length === 0 &&
    (process?.volumes.length ?? 0) === 0 &&
    process?.hostNetwork !== true
  )
}

function askAgain(step: Step, job: Job, formation: Formation): void {
  const host = job.hostId === undefined ? undefined : step.draft.hosts.get(job.hostId)
  if (host === undefined || !host.healthy) return
  const volumes = job.volumeIds.flatMap(id => step.draft.volumes.get(id) ?? [])
  request(step, job, formation, host, volumes)
}

/** `placed`; or it waits its turn; or it cannot run, for a reason; or the hosts that were looked at say nothing new. */
type Outcome = 'placed' | 'later' | 'same' | { readonly why: string; readonly volumeIds: readonly string[] }

function place(step: Step, job: Job, line: Line): Outcome {
  const outcome = tryPlace(step, job, line)
  if (outcome !== 'placed') wait(step, job, outcome)
  return outcome
}

function wait(step: Step, job: Job, outcome: Exclude<Outcome, 'placed'>): void {
  if (outcome === 'same') return
  if (outcome !== 'later') block(step, job, outcome.why, outcome.volumeIds)
  else if (job.phase === 'blocked') setJob(step, job, { phase: 'pending', blockedBecause: undefined })
}

function tryPlace(step: Step, job: Job, line: Line): Outcome {
  const { formation } = line
  if (waitsForHostPorts(step, job, formation))
    return { why: 'the ports of its host are held by a job of another release', volumeIds: job.volumeIds }
  const plan = planVolumes(step, job, formation)
  if (plan.kind === 'blocked') return { why: plan.why, volumeIds: plan.reserved }
  const reserved = plan.slots.flatMap(s => ('volume' in s ? [s.volume.id] : []))
  const choice = chooseHost(step, job, needOf(job, formation, plan.hostId), line)
  if (choice === 'later') return line.whole ? 'later' : 'same'
  if (!('id' in choice)) return line.whole ? { why: whyNone(choice), volumeIds: reserved } : 'same'
  start(step, job, formation, choice, plan.slots)
  line.alike?.set(choice.id, (line.alike.get(choice.id) ?? 0) + 1)
  return 'placed'
}

function start(step: Step, job: Job, formation: Formation, choice: Host, slots: readonly Slot[]): void {
  dropNewVolumes(step, job)
  const volumes = slots.map(slot => {
    if ('volume' in slot) {
      recordVolume(step, slot.volume, job.uuid)
      return slot.volume
    }
    const made: Volume = {
      id: step.random.uuid(),
      hostId: choice.id,
      appId: job.appId,
      releaseId: job.releaseId,
      type: job.type,
      ...slot.wish,
      state: 'pending',
      decommissioned: false,
      createdMs: step.nowMs,
    }
    recordVolume(step, made, job.uuid)
    return made
  })
  request(step, job, formation, choice, volumes)
}

function request(step: Step, job: Job, formation: Formation, host: Host, volumes: readonly Volume[]): void {
  const next = setJob(step, job, {
    phase: 'pending',
    blockedBecause: undefined,
    hostId: host.id,
    placing: true,
    askedMs: step.nowMs,
    attempts: job.attempts + 1,
    volumeIds: volumes.map(v => v.id),
  })
  step.effects.push({
    kind: 'place',
    hostId: host.id,
    uuid: job.uuid,
    attempt: next.attempts,
    formationKey: formation.key,
    type: job.type,
    volumes,
  })
}

function block(step: Step, job: Job, why: string, volumeIds: readonly string[]): void {
  if (job.phase === 'blocked' && job.blockedBecause === why) return
  setJob(step, job, { phase: 'blocked', blockedBecause: why, volumeIds })
  step.effects.push({ kind: 'note', text: 'job blocked', detail: { job: job.uuid, type: job.type, why } })
}

/** The volumes that the job would get, and where they are; changes nothing. */
export function planVolumes(step: Step, job: Job, formation: Formation): VolumePlan {
  const wishes = formation.processes[job.type]?.volumes ?? []
  if (wishes.length === 0) return { kind: 'ready', slots: [] }
  const slots: Slot[] = []
  let hostId = job.pinnedHostId
  let waits = false
  let target: string | undefined
  for (const wish of wishes) {
    const kept = job.volumeIds
      .flatMap(id => step.draft.volumes.get(id) ?? [])
      .filter(v => v.path === wish.path && v.deleteOnStop === wish.deleteOnStop && usable(v, hostId))
      // A job that came back with its host may have taken what was reserved here.
      .find(v => holders(step, v, job).every(holder => holder.phase === 'stopping'))
    const volume = kept ?? (wish.deleteOnStop ? undefined : findVolume(step, job, wish.path, hostId))
    if (volume === undefined) {
      if (!wish.deleteOnStop && waitsForOldRelease(step, job, formation, wish.path, hostId))
        return { kind: 'blocked', why: 'its volume is held by a job of another release', reserved: [] }
      slots.push({ wish })
      continue
    }
    slots.push({ volume })
    hostId = volume.hostId
    target ??= movingTo(step, volume.id)
    if (holders(step, volume, job).length > 0) waits = true
  }
  const reserved = slots.flatMap(s => ('volume' in s ? [s.volume.id] : []))
  if (target !== undefined)
    return { kind: 'blocked', why: `its volume is moving to host ${target}`, reserved }
  if (waits) return { kind: 'blocked', why: 'its volume is still held by a stopping job', reserved }
  return { kind: 'ready', slots, ...(hostId === undefined ? {} : { hostId }) }
}

/**
 * One that was made for a start of which nothing came is not: that start may yet happen on a host that was away, and two
 * hosts would write what one name stands for.
 */
function usable(volume: Volume, hostId: string | undefined): boolean {
  return (
    volume.state === 'created' && !volume.decommissioned && (hostId === undefined || volume.hostId === hostId)
  )
}

/**
 * A volume of the same app, type and path that nobody holds, or that a stopping job is about to give back. Those of
 * the same release come first: a new release takes over the data of the one before it.
 */
function findVolume(step: Step, job: Job, path: string, hostId: string | undefined): Volume | undefined {
  const rank = (v: Volume): number =>
    (holders(step, v, job).length > 0 ? 2 : 0) + (v.releaseId === job.releaseId ? 0 : 1)
  return [...step.draft.volumes.values()]
    .filter(v => v.appId === job.appId && v.type === job.type && v.path === path)
    .filter(v => !v.deleteOnStop && usable(v, hostId))
    .filter(v => holders(step, v, job).every(holder => holder.phase === 'stopping'))
    .sort((a, b) => rank(a) - rank(b) || b.createdMs - a.createdMs)[0]
}

function holders(step: Step, volume: Volume, job: Job): readonly Job[] {
  return holdersOf(step, volume.id).filter(other => other.uuid !== job.uuid)
}

/** The host accepted the job. */
export function onPlaced(step: Step, event: Extract<Event, { kind: 'placed' }>): void {
  const job = step.draft.jobs.get(event.uuid)
  if (job === undefined || job.phase === 'stopped' || job.hostId !== event.hostId) {
    // Given up meanwhile: cancelled, or placed elsewhere because the host seemed dead.
    if (job?.end !== 'reported') askStop(step, event.hostId, event.uuid)
    return
  }
  const next = setJob(step, job, { placing: false, uncertain: false, onHost: true, refusedBy: undefined })
  for (const id of next.volumeIds) {
    const volume = step.draft.volumes.get(id)
    if (volume?.state === 'pending') recordVolume(step, { ...volume, state: 'created' }, job.uuid)
  }
  if (next.phase === 'stopping') pushStop(step, next)
}

/** The host did not accept the job, or did not answer (4.5). */
export function onPlaceFailed(step: Step, event: Extract<Event, { kind: 'placeFailed' }>): void {
  const job = step.draft.jobs.get(event.uuid)
  if (job === undefined || job.phase === 'stopped' || !job.placing || event.attempt !== job.attempts) return
  step.effects.push({
    kind: 'note',
    text: 'start failed',
    detail: { job: job.uuid, host: event.hostId, why: event.why, message: event.message },
  })
  // A busy host has made the volumes already: it is the one to ask again.
  if (event.why === 'uncertain' || (event.why === 'busy' && job.volumeIds.length > 0)) {
    const next = setJob(step, job, {
      placing: false,
      uncertain: true,
      notBeforeMs: step.nowMs + (event.why === 'busy' ? busyRetryMs : placeRetryMs(job.attempts)),
    })
    if (next.phase === 'stopping') pushStop(step, next)
    return
  }
  if (event.why === 'refused') dropNewVolumes(step, job)
  const next = setJob(step, job, {
    placing: false,
    uncertain: false,
    hostId: undefined,
    refusedBy: event.why === 'refused' ? event.hostId : job.refusedBy,
    notBeforeMs: step.nowMs + (event.why === 'busy' ? busyRetryMs : placeRetryMs(job.attempts)),
    ...(event.why === 'refused' ? { volumeIds: job.volumeIds.filter(id => step.draft.volumes.has(id)) } : {}),
  })
  if (next.phase === 'stopping') finishJob(step, next, 'cancelled')
}

/** Volumes made for this start hold nothing yet: the next host gets new ones. */
function dropNewVolumes(step: Step, job: Job): void {
  for (const id of job.volumeIds) {
    const volume = step.draft.volumes.get(id)
    if (volume?.state !== 'pending') continue
    recordVolume(step, { ...volume, state: 'destroyed' })
    step.draft.volumes.delete(id)
    if (acting(step)) step.effects.push({ kind: 'dropVolume', hostId: volume.hostId, volumeId: id })
  }
}
