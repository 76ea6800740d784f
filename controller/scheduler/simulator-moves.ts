// What hosts of a simulated world do with volumes that move: the same steps in the same order as host/volume/moves.ts, each
// of which may fail or be the last that a host or a scheduler lived to do. Used by simulator.ts only.
import type { World } from './simulator.ts'
import type { SimHost } from './simulator-host.ts'
import type { Copy, Effect, Happening, Volume } from './state.core.ts'

export type SimFence =
  | { readonly kind: 'retired'; readonly peer: string; readonly committed: boolean }
  | { readonly kind: 'incoming'; readonly peer: string; readonly complete: boolean }

type MoveWorld = { readonly world: World; readonly answer: (happening: Happening) => void }

export type SimMoveEffect = Extract<
  Effect,
  { kind: 'movePrimary' | 'copyVolume' | 'finishMove' | 'undoMove' | 'dropCopy' }
>

/** Runs the steps one after the other, each a while after the one before; the first that throws is told. */
function inTurn(
  { world, answer }: MoveWorld,
  volumeId: string,
  steps: readonly (() => Happening | undefined)[],
): void {
  const next = (index: number): void => {
    const run = steps[index]
    if (run === undefined) return
    world.at(world.delayMs(400), () => {
      try {
        if (world.chance(8)) throw new Error('lost')
        const told = run()
        if (told !== undefined) answer(told)
        next(index + 1)
      } catch (e) {
        const message = e instanceof Error ? e.message : String(e)
        const committed = message === 'committed' ? { committed: true } : {}
        answer({ kind: 'moveFailed', volumeId, message, ...committed })
      }
    })
  }
  next(0)
}

function reach({ world }: MoveWorld, id: string): SimHost {
  const host = world.hosts.get(id)
  if (!host?.reachable) throw new Error(`${id} is away`)
  return host
}

function openCopy(target: SimHost, volumeId: string, peer: string): void {
  if (target.volumes.has(volumeId) && target.fences.get(volumeId)?.kind !== 'incoming')
    throw new Error('another volume')
  if (target.volumes.has(volumeId)) return
  target.volumes.add(volumeId)
  target.fences.set(volumeId, { kind: 'incoming', peer, complete: false })
}

function retire(source: SimHost, volumeId: string, target: string): void {
  if (!source.volumes.has(volumeId)) throw new Error('no such volume')
  if (source.holderOf(volumeId)) throw new Error('in use')
  const before = source.fences.get(volumeId)
  if (before?.kind === 'incoming') throw new Error('incoming')
  if (before?.committed && before.peer !== target) throw new Error('committed to another')
  source.fences.set(volumeId, { kind: 'retired', peer: target, committed: before?.committed ?? false })
}

function receiveLast(ctx: MoveWorld, from: string, target: SimHost, volumeId: string): void {
  const fence = target.fences.get(volumeId)
  if (fence?.kind !== 'incoming') throw new Error('not incoming')
  if (fence.complete) return
  if (reach(ctx, from).fences.get(volumeId)?.kind !== 'retired') throw new Error('not retired')
  target.fences.set(volumeId, { ...fence, complete: true })
}

function activate(ctx: MoveWorld, target: SimHost, volumeId: string, force: boolean): void {
  const fence = target.fences.get(volumeId)
  if (fence === undefined && target.volumes.has(volumeId)) return
  if (fence?.kind !== 'incoming' || !fence.complete) throw new Error('incomplete')
  const source = ctx.world.hosts.get(fence.peer)
  if (source?.reachable) {
    const there = source.fences.get(volumeId)
    if (there?.kind !== 'retired' || there.peer !== target.id) throw new Error('not retired for us')
    source.fences.set(volumeId, { ...there, committed: true })
  } else if (!force) throw new Error('the source is away')
  for (const host of ctx.world.hosts.values())
    if (host !== target && host.volumes.has(volumeId) && !host.fences.has(volumeId))
      ctx.world.violations.push(
        `volume ${volumeId} is in use on ${host.id} and goes into use on ${target.id}`,
      )
  target.fences.delete(volumeId)
}

function dropCopy(host: SimHost, volumeId: string, kind: SimFence['kind']): void {
  if (!host.volumes.has(volumeId)) return
  if (host.fences.get(volumeId)?.kind !== kind) throw new Error('no such copy')
  host.volumes.delete(volumeId)
  host.fences.delete(volumeId)
}

function undo(ctx: MoveWorld, volumeId: string, from: string, to: string) {
  const check = () => {
    const fence = reach(ctx, from).fences.get(volumeId)
    if (fence?.kind === 'retired' && fence.committed) throw new Error('committed')
    return fence
  }
  return [
    () => {
      check()
      dropCopy(reach(ctx, to), volumeId, 'incoming')
      return undefined
    },
    (): Happening => {
      if (check() !== undefined) reach(ctx, from).fences.delete(volumeId)
      return { kind: 'moveUndone', volumeId }
    },
  ]
}

export function simulateMove(ctx: MoveWorld, effect: SimMoveEffect): void {
  if (effect.kind === 'movePrimary') {
    ctx.answer({ kind: 'primaryMoved', volumeId: effect.volumeId })
    return
  }
  if (effect.kind === 'copyVolume') {
    const { volume, from, to } = effect
    inTurn(ctx, volume.id, [
      () => {
        if (!reach(ctx, from).volumes.has(volume.id)) throw new Error('no such volume')
        openCopy(reach(ctx, to), volume.id, from)
        return undefined
      },
      () => {
        if (reach(ctx, from).fences.has(volume.id)) throw new Error('fenced')
        reach(ctx, to)
        const bytes = ctx.world.random.below(30_000_000)
        return { kind: 'volumeCopied', volumeId: volume.id, to, bytes, tookMs: ctx.world.random.below(5_000) }
      },
    ])
  } else if (effect.kind === 'finishMove') {
    const { volumeId, from, to, force } = effect
    const steps = force
      ? []
      : [
          () => void retire(reach(ctx, from), volumeId, to),
          () => {
            const target = reach(ctx, to)
            openCopy(target, volumeId, from)
            receiveLast(ctx, from, target, volumeId)
            return undefined
          },
        ]
    const done = (): boolean => {
      const target = ctx.world.hosts.get(to)
      return target?.volumes.has(volumeId) === true && !target.fences.has(volumeId)
    }
    inTurn(ctx, volumeId, [
      ...(done() ? [] : steps.map(s => () => s() ?? undefined)),
      () => void activate(ctx, reach(ctx, to), volumeId, force),
      () => ({ kind: 'volumeMoved', volumeId, to, bytes: 1 }),
    ])
  } else if (effect.kind === 'undoMove') {
    inTurn(ctx, effect.volumeId, undo(ctx, effect.volumeId, effect.from, effect.to))
  } else {
    const { volumeId, hostId, copy } = effect
    inTurn(ctx, volumeId, [
      () => {
        const host = reach(ctx, hostId)
        if (host.fences.get(volumeId)?.kind === copy) dropCopy(host, volumeId, copy)
        return { kind: 'copyDropped', volumeId, hostId }
      },
    ])
  }
}

/** As a host lists them. */
export function fencedOn(host: SimHost): readonly Copy[] {
  return [...host.fences].map(([volumeId, fence]) => {
    const { kind, peer } = fence
    return { volumeId, hostId: host.id, kind, peer, committed: kind === 'retired' && fence.committed }
  })
}

/** A start that was asked for on a host that does not have the data. */
export function misplaced(world: World, host: SimHost, volume: Volume): readonly string[] {
  if (volume.state !== 'created' || host.volumes.has(volume.id)) return []
  for (const other of world.hosts.values())
    if (other.volumes.has(volume.id) && !other.fences.has(volume.id))
      return [`volume ${volume.id} is on ${other.id}, asked for on ${host.id}`]
  return []
}
