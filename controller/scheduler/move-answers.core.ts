// What hosts answer about volumes on their way (moves.core.ts). Called by the step.
import { drainingHost } from './drain.core.ts'
import { chooseTarget, copyKey } from './move-target.core.ts'
import { begin, moveRecord, setMove, switchoversMax, touchHolders } from './moves.core.ts'
import type { Event } from './state.core.ts'
import { holdersOf, isActive, type Step } from './step.core.ts'

/** A round that sent no more than this, or took no longer, is followed by the stop. */
export const smallRoundBytes = 8 * 1024 * 1024
export const shortRoundMs = 700
/** An application that writes faster than we send is stopped after so many rounds all the same. */
export const roundsMax = 8
const retryStepMs = 1_000
const retryMaxMs = 15_000

type Of<K extends Event['kind']> = Extract<Event, { kind: K }>

export function onMoveProgress(step: Step, event: Of<'moveProgress'>): void {
  const move = step.draft.moves.get(event.volumeId)
  if (move !== undefined) setMove(step, move, { underWay: event.bytes })
}

export function onVolumeCopied(step: Step, event: Of<'volumeCopied'>): void {
  const move = step.draft.moves.get(event.volumeId)
  if (move === undefined || move.phase !== 'copy' || move.to !== event.to) return
  const rounds = move.rounds + 1
  const small = event.bytes <= smallRoundBytes || event.tookMs <= shortRoundMs || rounds >= roundsMax
  setMove(step, move, {
    busy: false,
    rounds,
    bytes: move.bytes + event.bytes,
    underWay: undefined,
    failures: 0,
    note: undefined,
    phase: small ? 'ready' : 'copy',
  })
}

export function onPrimaryMoved(step: Step, event: Of<'primaryMoved'>): void {
  const move = step.draft.moves.get(event.volumeId)
  if (move?.phase === 'stop') setMove(step, move, { busy: false, asked: switchoversMax, note: undefined })
}

export function onVolumeMoved(step: Step, event: Of<'volumeMoved'>): void {
  const volume = step.draft.volumes.get(event.volumeId)
  const move = step.draft.moves.get(event.volumeId)
  if (volume === undefined || move === undefined || move.to !== event.to) return
  setMove(step, move, {
    busy: false,
    phase: 'settle',
    failures: 0,
    note: undefined,
    bytes: move.bytes + event.bytes,
  })
  moveRecord(step, volume, event.to)
}

export function onMoveUndone(step: Step, event: Of<'moveUndone'>): void {
  const move = step.draft.moves.get(event.volumeId)
  if (move?.phase !== 'undo') return
  step.draft.moves.delete(event.volumeId)
  for (const hostId of [move.from, move.to]) step.draft.copies.delete(copyKey(event.volumeId, hostId))
  touchHolders(step, event.volumeId)
  const volume = step.draft.volumes.get(event.volumeId)
  if (volume === undefined || move.note === undefined || drainingHost(step, move.from) === undefined) return
  // It failed, and the job is back where it was: somewhere else, and not at once.
  const holder = holdersOf(step, volume.id).find(isActive)
  const avoid = [...new Set([...move.avoid, move.to])]
  const to = chooseTarget(step, [volume], holder, avoid) ?? move.to
  begin(step, volume, { from: move.from, to, phase: 'copy', avoid })
  const again = step.draft.moves.get(volume.id)
  if (again !== undefined) setMove(step, again, { notBeforeMs: step.nowMs + retryMaxMs, note: move.note })
}

export function onCopyDropped(step: Step, event: Of<'copyDropped'>): void {
  const move = step.draft.moves.get(event.volumeId)
  step.draft.copies.delete(copyKey(event.volumeId, event.hostId))
  if (move?.phase === 'settle' && move.from === event.hostId) step.draft.moves.delete(event.volumeId)
}

export function onMoveFailed(step: Step, event: Of<'moveFailed'>): void {
  const move = step.draft.moves.get(event.volumeId)
  if (move === undefined || !move.busy) return
  const failures = move.failures + 1
  // Undoing came too late: the target may be using it.
  const phase = event.committed && move.phase === 'undo' ? 'finish' : move.phase
  const key = copyKey(move.volumeId, move.from)
  if (event.committed)
    step.draft.copies.set(key, {
      ...{ volumeId: move.volumeId, hostId: move.from, peer: move.to },
      kind: 'retired',
      committed: true,
    })
  setMove(step, move, {
    busy: false,
    phase,
    failures,
    underWay: undefined,
    note: event.message,
    notBeforeMs: step.nowMs + Math.min(retryStepMs * failures, retryMaxMs),
  })
  step.effects.push({
    kind: 'note',
    text: 'move of a volume failed',
    detail: {
      volume: event.volumeId,
      phase: move.phase,
      from: move.from,
      to: move.to,
      message: event.message,
    },
  })
}
