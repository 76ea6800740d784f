// Volumes that leave a drained host (contract host.md 1.12). One group (what one job holds) at a time: copied while the job
// runs, round after round until little is left; then the job is stopped, the rest is sent, the copy goes into use on the
// target, and the job follows it. What the hosts say of their copies is enough to go on after a crash, and their fences
// (host/volume/moves.ts) are what keeps two jobs apart; this only decides what comes next. Called by the step.
import { drainingHost } from './drain.core.ts'
import { leadsService, stopBudget } from './handover.core.ts'
import { stopJob } from './job.core.ts'
import { chooseTarget, copyKey, isMovable } from './move-target.core.ts'
import type { Copy, Host, Job, Move, Volume } from './state.core.ts'
import {
  acting,
  holdersOf,
  isActive,
  jobsOfFormation,
  processOf,
  recordVolume,
  type Step,
  touch,
} from './step.core.ts'

/** Failed rounds in a row before another target is tried. */
export const failuresMax = 4
/** Switchovers that fail before the primary is stopped all the same: another node takes over by itself then. */
export const switchoversMax = 3
const retryMaxMs = 15_000

export function setMove(step: Step, move: Move, change: { [K in keyof Move]?: Move[K] | undefined }): Move {
  const merged: Record<string, unknown> = { ...move, ...change }
  for (const key of Object.keys(change)) if (merged[key] === undefined) delete merged[key]
  const next = merged as Move
  step.draft.moves.set(move.volumeId, next)
  return next
}

/** The target of a move that has come so far that no job may start on the volume. */
export function movingTo(step: Step, volumeId: string): string | undefined {
  const move = step.draft.moves.get(volumeId)
  return move !== undefined && stages[move.phase].away ? move.to : undefined
}

const stages: Readonly<Record<Move['phase'], { readonly away: boolean }>> = {
  copy: { away: false },
  ready: { away: false },
  stop: { away: true },
  finish: { away: true },
  settle: { away: false },
  undo: { away: true },
}

export function touchHolders(step: Step, volumeId: string): void {
  for (const job of holdersOf(step, volumeId)) touch(step, job.formationKey)
}

/** Begins, goes on with and ends moves; before formations are looked at. */
export function driveMoves(step: Step): void {
  if (!acting(step)) return
  const draining = [...step.draft.hosts.values()].filter(h => h.draining)
  if (draining.length === 0 && step.draft.moves.size === 0 && step.draft.copies.size === 0) return
  adoptCopies(step)
  for (const host of draining) beginMoves(step, host)
  for (const move of [...step.draft.moves.values()]) advance(step, move)
}

// Copies as hosts tell of them ---------------------------------------------------------------------------------------

/** What was under way when nobody led, and what was left over. */
function adoptCopies(step: Step): void {
  for (const copy of [...step.draft.copies.values()]) {
    const volume = step.draft.volumes.get(copy.volumeId)
    const move = step.draft.moves.get(copy.volumeId)
    // It went into use without the source's word, which was away, and nobody came to write it down.
    if (move?.phase === 'undo' && !move.busy && copy.kind === 'active' && copy.hostId === move.to)
      setMove(step, move, { phase: 'finish', failures: 0 })
    if (move !== undefined && !isOvertaken(move, copy)) continue
    step.draft.moves.delete(copy.volumeId)
    if (volume === undefined || (volume.state === 'destroyed' && copy.kind !== 'active')) continue
    if (copy.kind === 'active') adoptActive(step, volume, copy)
    else if (copy.kind === 'retired') adoptRetired(step, volume, copy)
    else adoptIncoming(step, volume, copy)
  }
}

/**
 * Begun before its hosts had told: that it had come further already, that the target has an old copy to be cleared away, or that
 * the source has given the volume up for another target.
 */
function isOvertaken(move: Move, copy: Copy): boolean {
  if (move.busy || copy.kind !== 'retired') return false
  if (move.phase === 'copy' || move.phase === 'ready')
    return copy.hostId === move.from || copy.hostId === move.to
  const elsewhere = copy.committed === true && copy.peer !== undefined && copy.peer !== move.to
  return elsewhere && copy.hostId === move.from && move.phase !== 'settle'
}

/**
 * It went into use there, and whoever saw to that did not come to write it down, or has not been read yet. The host where it
 * is recorded has given it up: it says so, lists it no more (so it is `destroyed` here), or is gone itself.
 */
function adoptActive(step: Step, volume: Volume, copy: Copy): void {
  const before = step.draft.copies.get(copyKey(volume.id, volume.hostId))
  const away =
    before?.kind === 'retired' || volume.state === 'destroyed' || !step.draft.hosts.has(volume.hostId)
  if (!away || volume.decommissioned || volume.hostId === copy.hostId) return
  moveRecord(step, volume, copy.hostId)
}

function adoptRetired(step: Step, volume: Volume, copy: Copy): void {
  const to = volume.hostId === copy.hostId ? (copy.peer ?? '') : volume.hostId
  const phase = volume.hostId !== copy.hostId ? 'settle' : goesOn(step, copy) ? 'stop' : 'undo'
  begin(step, volume, { from: copy.hostId, to, phase })
}

function goesOn(step: Step, copy: Copy): boolean {
  return copy.committed === true || drainingHost(step, copy.hostId) !== undefined
}

/** Nobody wants it any more: a drain that goes on would have taken it up. */
function adoptIncoming(step: Step, volume: Volume, copy: Copy): void {
  const source = step.draft.hosts.get(volume.hostId)
  if (source === undefined || (source.draining && volume.hostId !== copy.hostId)) return
  if (step.draft.copies.has(copyKey(volume.id, volume.hostId))) return
  begin(step, volume, { from: volume.hostId, to: copy.hostId, phase: 'undo' })
}

/** The full list of a host: which of its volumes are not simply in use there. */
export function onCopies(step: Step, hostId: string, copies: readonly Copy[]): void {
  for (const [key, copy] of [...step.draft.copies]) if (copy.hostId === hostId) step.draft.copies.delete(key)
  for (const copy of copies) step.draft.copies.set(copyKey(copy.volumeId, hostId), copy)
}

export function moveRecord(step: Step, volume: Volume, hostId: string): void {
  const holder = holdersOf(step, volume.id).find(isActive)
  recordVolume(step, { ...volume, hostId, state: 'created' }, holder?.uuid)
  step.draft.copies.delete(copyKey(volume.id, hostId))
  touchHolders(step, volume.id)
}

// Begin --------------------------------------------------------------------------------------------------------------

type Begin = Pick<Move, 'from' | 'to' | 'phase'> & { readonly avoid?: readonly string[] }

export function begin(step: Step, volume: Volume, { from, to, phase, avoid = [] }: Begin): void {
  step.draft.moves.set(volume.id, {
    ...{ volumeId: volume.id, from, to, phase, avoid },
    busy: false,
    rounds: 0,
    bytes: 0,
    failures: 0,
    notBeforeMs: 0,
  })
  touchHolders(step, volume.id)
}

function isStoppable(step: Step, job: Job): boolean {
  return job.formationKey !== undefined && processOf(step, job)?.omni !== true
}

function beginMoves(step: Step, host: Host): void {
  if (!host.healthy || !host.synced) return
  const mine = [...step.draft.moves.values()].filter(m => m.from === host.id)
  if (mine.some(m => m.phase !== 'settle')) return
  const formations = [...step.draft.formations.values()]
  const volumes = [...step.draft.volumes.values()].filter(
    v => v.hostId === host.id && isMovable(v, formations),
  )
  for (const volume of volumes.sort((a, b) => a.createdMs - b.createdMs || (a.id < b.id ? -1 : 1))) {
    if (step.draft.moves.has(volume.id)) continue
    const holder = holdersOf(step, volume.id).find(j => j.hostId === host.id)
    // A one-off job ends by itself, and an omni job stays with its host.
    if (holder !== undefined && !isStoppable(step, holder)) continue
    const group = holder === undefined ? [volume] : volumes.filter(v => holder.volumeIds.includes(v.id))
    const to = chooseTarget(step, group, holder, [])
    if (to === undefined) continue
    for (const v of group) begin(step, v, { from: host.id, to, phase: 'copy' })
    return
  }
}

// Go on --------------------------------------------------------------------------------------------------------------

function groupOf(step: Step, move: Move): readonly Move[] {
  return [...step.draft.moves.values()].filter(m => m.from === move.from && m.phase !== 'settle')
}

function advance(step: Step, move: Move): void {
  const volume = step.draft.volumes.get(move.volumeId)
  if (volume === undefined || volume.state === 'destroyed') {
    step.draft.moves.delete(move.volumeId)
    return
  }
  if (move.busy || step.nowMs < move.notBeforeMs) return
  switch (move.phase) {
    case 'copy':
    case 'ready':
      advanceCopy(step, move, volume)
      return
    case 'stop':
      advanceStop(step, move)
      return
    case 'finish':
      advanceFinish(step, move)
      return
    case 'settle':
      advanceSettle(step, move)
      return
    case 'undo':
      // Never to be undone without the source: the target may have the only data there is.
      if (!step.draft.hosts.has(move.from)) {
        advanceFinish(step, setMove(step, move, { phase: 'finish' }))
        return
      }
      setMove(step, move, { busy: true })
      step.effects.push({ kind: 'undoMove', volumeId: move.volumeId, from: move.from, to: move.to })
      return
  }
}

function advanceCopy(step: Step, move: Move, volume: Volume): void {
  const target = step.draft.hosts.get(move.to)
  if (drainingHost(step, move.from) === undefined) {
    setMove(step, move, { phase: 'undo' })
    return
  }
  if (target === undefined || target.shutdown || target.draining || move.failures >= failuresMax) {
    retarget(step, move, volume)
    return
  }
  if (move.phase === 'copy') {
    setMove(step, move, { busy: true })
    step.effects.push({ kind: 'copyVolume', volume, from: move.from, to: move.to })
    return
  }
  const group = groupOf(step, move)
  if (group.every(m => m.phase === 'ready')) for (const m of group) setMove(step, m, { phase: 'stop' })
}

/** Another host, if there is one; what came to the first is removed there when it can be. */
function retarget(step: Step, move: Move, volume: Volume): void {
  const holder = holdersOf(step, volume.id).find(j => j.hostId === move.from)
  const avoid = [...new Set([...move.avoid, move.to])]
  const to = chooseTarget(step, [volume], holder, avoid) ?? chooseTarget(step, [volume], holder, [move.to])
  const later = step.nowMs + retryMaxMs
  if (to === undefined) {
    setMove(step, move, { notBeforeMs: later, failures: 0, note: move.note ?? 'no other host can take it' })
    return
  }
  step.effects.push({ kind: 'dropCopy', volumeId: volume.id, hostId: move.to, copy: 'incoming' })
  setMove(step, move, { phase: 'copy', to, avoid, rounds: 0, failures: 0, notBeforeMs: 0 })
}

/** From here on no job starts on the source. The job that runs there ends; the one that follows it waits for the move. */
function advanceStop(step: Step, move: Move): void {
  const copy = step.draft.copies.get(copyKey(move.volumeId, move.from))
  if (drainingHost(step, move.from) === undefined && copy?.committed !== true) {
    setMove(step, move, { phase: 'undo' })
    return
  }
  const there = holdersOf(step, move.volumeId).filter(
    j => j.hostId === move.from && (j.onHost || j.placing || j.uncertain),
  )
  const leader = there.find(j => leadsOthers(step, j))
  if (leader?.formationKey !== undefined && (move.asked ?? 0) < switchoversMax) {
    setMove(step, move, { busy: true, asked: (move.asked ?? 0) + 1 })
    const { formationKey, type, uuid } = leader
    const effect = { kind: 'movePrimary', formationKey, type, uuid, hostId: move.from } as const
    step.effects.push({ ...effect, volumeId: move.volumeId })
    return
  }
  for (const job of there) if (isActive(job) && mayStop(step, job)) stopJob(step, job)
  if (there.length === 0) advanceFinish(step, setMove(step, move, { phase: 'finish' }))
}

/** The primary of a database that has other nodes: it hands over before it is stopped, which takes less time. */
function leadsOthers(step: Step, job: Job): boolean {
  const formation = step.draft.formations.get(job.formationKey ?? '')
  if (!formation?.handover || job.phase !== 'running' || !leadsService(step, formation, job)) return false
  return jobsOfFormation(step, formation.key).some(
    j => j.type === job.type && j.uuid !== job.uuid && j.phase === 'running',
  )
}

/** Databases that replicate lose one node at a time, as in a deployment. */
function mayStop(step: Step, job: Job): boolean {
  const formation = step.draft.formations.get(job.formationKey ?? '')
  return job.phase !== 'running' || formation === undefined || stopBudget(step, formation, job.type) > 0
}

function advanceFinish(step: Step, move: Move): void {
  const source = step.draft.hosts.get(move.from)
  const target = step.draft.hosts.get(move.to)
  const committed = step.draft.copies.get(copyKey(move.volumeId, move.from))?.committed === true
  const wanted = source === undefined || source.draining === true || committed
  // A target that is gone before it had everything is given up; the host refuses that when it had.
  const hopeless = !committed && move.failures >= failuresMax && source !== undefined
  if (
    (!wanted && move.failures > 0) ||
    hopeless ||
    (target === undefined && source !== undefined && !committed)
  ) {
    setMove(step, move, { phase: 'undo' })
    return
  }
  if (target === undefined) return
  setMove(step, move, { busy: true })
  step.effects.push({
    kind: 'finishMove',
    volumeId: move.volumeId,
    from: move.from,
    to: move.to,
    force: source === undefined,
  })
}

/** The old copy stays until the job that has the new one is up. */
function advanceSettle(step: Step, move: Move): void {
  const jobs = holdersOf(step, move.volumeId)
  const settled = jobs.length === 0 || jobs.some(j => j.phase === 'running' && j.hostId !== move.from)
  if (!settled) return
  if (!step.draft.hosts.has(move.from)) {
    step.draft.moves.delete(move.volumeId)
    return
  }
  setMove(step, move, { busy: true })
  step.effects.push({ kind: 'dropCopy', volumeId: move.volumeId, hostId: move.from, copy: 'retired' })
}
