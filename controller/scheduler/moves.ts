// Carries out the steps of volumes on their way between hosts (moves.core.ts): calls of both hosts in the order that makes
// each step safe to repeat from its beginning. The data itself goes from host to host. Called by effects.ts.
import type { HostClient } from '../../host/client.ts'
import type { VolumeInfo } from '../../host/types.ts'
import { describeError, FlynnError, isFlynnError } from '../../pkg/errors/errors.ts'
import type { ExpandedFormation } from '../types.ts'
import { type DatabaseContext, databaseCluster } from '../worker/patroni.ts'
import type { Effect, Happening, MoveEffect } from './state.core.ts'

/** A snapshot waits until what is in the host's memory is on its disk. */
export const snapshotTimeoutMs = 90_000
export const hostStepTimeoutMs = 30_000
/** For the new primary to take writes. */
const switchoverTimeoutMs = 30_000

type Of<K extends MoveEffect['kind']> = Extract<MoveEffect, { kind: K }>

export type MoveContext = {
  readonly signal: AbortSignal
  readonly host: (id: string) => HostClient | undefined
  readonly dispatch: (happening: Happening) => void
  readonly formation: (key: string) => ExpandedFormation | undefined
  readonly database: DatabaseContext
}

export function isMoveEffect(effect: Effect): effect is MoveEffect {
  return ['movePrimary', 'copyVolume', 'finishMove', 'undoMove', 'dropCopy'].includes(effect.kind)
}

export function moveVolume(effect: MoveEffect): string {
  return effect.kind === 'copyVolume' ? effect.volume.id : effect.volumeId
}

/** Does it and tells the core how it went; never rejects. */
export async function runMove(ctx: MoveContext, effect: MoveEffect): Promise<void> {
  try {
    if (effect.kind === 'movePrimary') await movePrimary(ctx, effect)
    else if (effect.kind === 'copyVolume') await copy(ctx, effect)
    else if (effect.kind === 'finishMove') await finish(ctx, effect)
    else if (effect.kind === 'undoMove') await undo(ctx, effect)
    else await drop(ctx, effect)
  } catch (e) {
    if (ctx.signal.aborted) return
    ctx.dispatch({
      kind: 'moveFailed',
      volumeId: moveVolume(effect),
      message: describeError(e),
      ...(isFlynnError(e, 'volume_committed') ? { committed: true } : {}),
    })
  }
}

function hostOf(ctx: MoveContext, id: string): HostClient {
  const host = ctx.host(id)
  if (host === undefined) throw new Error(`host ${id} is not there`)
  return host
}

/** The copy on the target, and the snapshots it has; made anew when nothing of it can be built upon. */
async function openCopy(
  ctx: MoveContext,
  move: { readonly volumeId: string; readonly from: string; readonly to: string },
): Promise<readonly string[]> {
  const call = { signal: ctx.signal, retryMs: 0, timeoutMs: hostStepTimeoutMs }
  const { volumeId: id, from, to } = move
  const [source, target] = [hostOf(ctx, from), hostOf(ctx, to)]
  const [there, here] = await Promise.all([source.volumes(call), target.volumes(call)])
  const snapshots = (list: readonly VolumeInfo[]) => list.filter(v => v.snapshot_of === id).map(v => v.id)
  const origin = there.find(v => v.id === id)
  if (origin === undefined) throw new Error(`host ${from} has no volume ${id}`)
  const make = () =>
    target.createVolume(
      {
        ...{ id, type: 'data', incoming_from: from },
        meta: { ...origin.meta },
        ...(origin.quota_bytes === undefined ? {} : { quota_bytes: origin.quota_bytes }),
      },
      call,
    )
  const known = here.find(v => v.id === id)
  if (known === undefined) {
    await make()
    return []
  }
  if (known.fence?.kind !== 'incoming') throw new Error(`host ${to} has another volume ${id}`)
  const [sent, got] = [snapshots(there), snapshots(here)]
  if (got.length === 0 || got.some(s => sent.includes(s))) return got
  await target.dropCopy(id, 'incoming', call)
  await make()
  return []
}

async function pull(
  ctx: MoveContext,
  move: { readonly volumeId: string; readonly from: string; readonly to: string },
  snapshot: string,
): Promise<number> {
  let done: number | undefined
  for await (const progress of hostOf(ctx, move.to).pullSnapshot(
    move.volumeId,
    { host_id: move.from, snapshot_id: snapshot },
    { signal: ctx.signal },
  )) {
    if (progress.snapshot !== undefined) done = progress.bytes
    else ctx.dispatch({ kind: 'moveProgress', volumeId: move.volumeId, bytes: progress.bytes })
  }
  if (done === undefined) throw new Error(`host ${move.to} did not receive all of it`)
  return done
}

async function copy(ctx: MoveContext, { volume, from, to }: Of<'copyVolume'>): Promise<void> {
  const move = { volumeId: volume.id, from, to }
  const haves = await openCopy(ctx, move)
  const call = { signal: ctx.signal, retryMs: 0, timeoutMs: snapshotTimeoutMs }
  const snapshot = await hostOf(ctx, from).markVolume(volume.id, haves, call)
  const began = performance.now()
  const bytes = await pull(ctx, move, snapshot.id)
  const tookMs = performance.now() - began
  ctx.dispatch({ kind: 'volumeCopied', volumeId: volume.id, to, bytes, tookMs })
}

async function movePrimary(ctx: MoveContext, effect: Of<'movePrimary'>): Promise<void> {
  const release = ctx.formation(effect.formationKey)?.release
  if (release === undefined) throw new Error('the formation of the database is unknown')
  const cluster = databaseCluster(ctx.database, release, effect.type)
  await cluster.leaveNode(`${effect.hostId}-${effect.uuid}`, switchoverTimeoutMs)
  ctx.dispatch({ kind: 'primaryMoved', volumeId: effect.volumeId })
}

async function finish(ctx: MoveContext, effect: Of<'finishMove'>): Promise<void> {
  const { volumeId, from, to, force } = effect
  const call = { signal: ctx.signal, retryMs: 0, timeoutMs: snapshotTimeoutMs }
  const target = hostOf(ctx, to)
  let bytes = 0
  const there = await target.volume(volumeId, call).catch(orMissing)
  // It had come that far already when the answer was lost.
  const done = there !== undefined && there.fence === undefined
  if (!force && !done) {
    const fence = await hostOf(ctx, from).retireVolume(volumeId, to, call)
    await openCopy(ctx, effect)
    if (fence.kind === 'retired') bytes = await pull(ctx, effect, fence.snapshot)
  }
  if (!done) await target.activateVolume(volumeId, { ...call, force })
  ctx.dispatch({ kind: 'volumeMoved', volumeId, to, bytes })
}

/** Only with the source at hand: until it says so, what the target has may be the only data there is. */
async function undo(ctx: MoveContext, { volumeId, from, to }: Of<'undoMove'>): Promise<void> {
  const call = { signal: ctx.signal, retryMs: 0, timeoutMs: hostStepTimeoutMs }
  const source = hostOf(ctx, from)
  const { fence } = await source.volume(volumeId, call)
  if (fence?.kind === 'retired' && fence.committed)
    throw new FlynnError({
      code: 'volume_committed',
      status: 409,
      message: `volume ${volumeId} has moved to host ${to}`,
    })
  const target = ctx.host(to)
  if (target !== undefined) await target.dropCopy(volumeId, 'incoming', call).catch(orMissing)
  await source.unretireVolume(volumeId, call)
  ctx.dispatch({ kind: 'moveUndone', volumeId })
}

async function drop(ctx: MoveContext, { volumeId, hostId, copy: kind }: Of<'dropCopy'>): Promise<void> {
  const call = { signal: ctx.signal, retryMs: 0, timeoutMs: hostStepTimeoutMs }
  try {
    await hostOf(ctx, hostId).dropCopy(volumeId, kind, call)
  } catch (e) {
    // No such copy there: somebody was quicker.
    if (!(e instanceof FlynnError) || (e.status !== 404 && e.code !== 'conflict')) throw e
  }
  ctx.dispatch({ kind: 'copyDropped', volumeId, hostId })
}

function orMissing(e: unknown): undefined {
  if (e instanceof FlynnError && e.status === 404) return undefined
  throw e
}
