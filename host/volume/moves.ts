// A volume on its way from one host to another (contract host.md 1.12, 4.4). The scheduler says what happens next
// (controller/scheduler/moves.core.ts); what keeps two jobs from ever writing to two copies is here, on disk, at both ends:
//   source: in use -> retired (no job may start on it, read-only, last snapshot taken) -> committed (never in use again)
//   target: incoming (no job may start on it) -> complete (has the last snapshot) -> in use
// The target goes into use only after the source has committed to that, and a source that has committed never comes back.
import { FlynnError } from '../../pkg/errors/errors.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { HostClient } from '../client.ts'
import type { TransferStream, Volume, VolumeStore } from '../container/types.ts'
import { hostErrors } from '../errors.ts'
import { hostApiPort, type PullCoordinate, type VolumeFence } from '../types.ts'
import { fenceText, type VolumeFences } from './fences.ts'

/** Snapshots of moves are called so; others are the operator's. */
export const moveSnapshotPrefix = 'move-'
/** A stream on which nothing comes for so long is given up. */
export const streamSilenceMaxMs = 60_000
/** Transfers of one host at a time, in each direction. */
export const transfersMax = 4
const commitTimeoutMs = 5_000

function fencedError(volume: string, fence: VolumeFence | undefined): FlynnError {
  return hostErrors.VOLUME_FENCED({ volume, how: fence === undefined ? 'in use' : fenceText(fence) })
}

export type VolumeMovesOptions = {
  readonly volumes: VolumeStore
  readonly fences: VolumeFences
  /** The active job a volume is bound to. */
  readonly boundTo: (volume: string) => string | undefined
  readonly hostId: string
  readonly authKey: string
  /** Address of another host of the cluster. */
  readonly addressOf: (hostId: string) => string | undefined
  readonly log: Logger
}

export type Pulled = { readonly snapshot: Volume; readonly bytes: number }

export class VolumeMoves {
  readonly #o: VolumeMovesOptions
  readonly #pulls = new Map<string, AbortController>()
  #sending = 0

  constructor(options: VolumeMovesOptions) {
    this.#o = options
  }

  #known(id: string): Volume {
    const volume = this.#o.volumes.get(id)
    if (!volume) throw hostErrors.UNKNOWN_VOLUME({ id })
    return volume
  }

  #snapshots(volume: string): readonly Volume[] {
    return this.#o.volumes.list().filter(v => v.snapshotOf === volume)
  }

  // Source ----------------------------------------------------------------------------------------------------------

  /** A snapshot to send. Those of earlier rounds go, but for `keep`, which the receiver has. */
  async mark(id: string, keep: readonly string[]): Promise<Volume> {
    const { volumes, fences } = this.#o
    this.#known(id)
    if (fences.get(id) !== undefined) throw fencedError(id, fences.get(id))
    const others = this.#snapshots(id).filter(s => !s.id.startsWith(moveSnapshotPrefix))
    if (others.length > 0)
      throw hostErrors.VOLUME_HAS_SNAPSHOTS({ volume: id, snapshots: others.map(s => s.id).join(', ') })
    for (const old of this.#snapshots(id)) if (!keep.includes(old.id)) await volumes.destroy(old.id)
    return volumes.mark(id, `${moveSnapshotPrefix}${uuid()}`)
  }

  /** No job gets it any more, and nothing is written to it; the fence names the last snapshot. Repeatable. */
  async retire(id: string, target: string): Promise<VolumeFence> {
    const { volumes, fences, boundTo, log } = this.#o
    this.#known(id)
    const job = boundTo(id)
    if (job !== undefined) throw hostErrors.VOLUME_BOUND({ volume: id, job })
    const before = fences.get(id)
    if (before?.kind === 'incoming' || (before?.committed && before.target !== target))
      throw fencedError(id, fences.get(id))
    const snapshot = before?.snapshot ?? `${moveSnapshotPrefix}${uuid()}`
    const fence = { kind: 'retired', target, snapshot, committed: before?.committed ?? false } as const
    // From here on, whatever happens, no job starts on it.
    fences.set(id, fence)
    if (!volumes.get(snapshot)) {
      await volumes.setReadonly(id, true)
      await volumes.mark(id, snapshot)
      log.info({ volume: id, target, snapshot }, 'volume retired')
    }
    return fence
  }

  /** Jobs may use it again. Rejects VOLUME_COMMITTED when the copy on the target may be in use. Repeatable. */
  async unretire(id: string): Promise<void> {
    const { volumes, fences, log } = this.#o
    this.#known(id)
    const fence = fences.get(id)
    if (fence?.kind === 'incoming') throw fencedError(id, fence)
    if (fence?.committed) throw hostErrors.VOLUME_COMMITTED({ volume: id, target: fence.target })
    if (fence !== undefined) {
      await volumes.setReadonly(id, false)
      fences.set(id, undefined)
      log.info({ volume: id }, 'volume is in use here again')
    }
    for (const old of this.#snapshots(id))
      if (old.id.startsWith(moveSnapshotPrefix)) await volumes.destroy(old.id)
  }

  /** The target asks: from now on the data is there and only there. Repeatable. */
  commit(id: string, target: string): void {
    const { fences } = this.#o
    this.#known(id)
    const fence = fences.get(id)
    if (fence?.kind !== 'retired' || fence.target !== target)
      throw hostErrors.VOLUME_NOT_RETIRED({ volume: id, target })
    if (!fence.committed) fences.set(id, { ...fence, committed: true })
  }

  /** The stream of a snapshot; `final` when a retired volume has nothing more. The newest of `haves` that is known is left out. */
  send(
    snapshotId: string,
    haves: readonly string[],
  ): { readonly transfer: TransferStream; readonly final: boolean } {
    const { volumes, fences } = this.#o
    const snapshot = this.#known(snapshotId)
    if (snapshot.snapshotOf === undefined) throw hostErrors.NOT_A_SNAPSHOT({ volume: snapshotId })
    if (this.#sending >= transfersMax) throw hostErrors.TRANSFERS_FULL({ max: transfersMax })
    const base = haves.findLast(h => h !== snapshotId && volumes.get(h)?.snapshotOf === snapshot.snapshotOf)
    const fence = fences.get(snapshot.snapshotOf)
    const final = fence?.kind === 'retired' && fence.snapshot === snapshotId
    const transfer = volumes.send(snapshotId, base)
    this.#sending++
    transfer.stream.once('close', () => {
      this.#sending--
      transfer.stop()
    })
    return { transfer, final }
  }

  // Target ----------------------------------------------------------------------------------------------------------

  /** Gets a snapshot of the same volume from another host. Rejects, and keeps what it had, unless all of it came. */
  async pull(
    id: string,
    from: PullCoordinate,
    signal: AbortSignal,
    onBytes: (bytes: number) => void = () => undefined,
  ): Promise<Pulled> {
    const { volumes, fences, addressOf, authKey, log } = this.#o
    this.#known(id)
    const fence = fences.get(id)
    if (fence?.kind !== 'incoming') throw hostErrors.VOLUME_NOT_INCOMING({ volume: id })
    const there = volumes.get(from.snapshot_id)
    if (there && fence.complete) return { snapshot: there, bytes: 0 }
    const address = addressOf(from.host_id)
    if (address === undefined) throw hostErrors.UNKNOWN_PEER({ id: from.host_id })
    if (this.#pulls.has(id)) throw hostErrors.VOLUME_PULLING({ volume: id })
    if (this.#pulls.size >= transfersMax) throw hostErrors.TRANSFERS_FULL({ max: transfersMax })
    const stop = new AbortController()
    this.#pulls.set(id, stop)
    const limit = AbortSignal.any([signal, stop.signal])
    const source = new HostClient({ url: `http://${address}:${hostApiPort}`, authKey })
    const began = performance.now()
    try {
      const haves = this.#snapshots(id).map(s => s.id)
      const { body, final } = await source.sendSnapshot(from.snapshot_id, haves, {
        signal: limit,
        silenceMaxMs: streamSilenceMaxMs,
      })
      let seen = 0
      body.on('data', (chunk: Buffer) => {
        seen += chunk.length
        onBytes(seen)
      })
      body.pause()
      const bytes = await volumes.receive(id, body, limit)
      const snapshot = this.#known(from.snapshot_id)
      if (final) fences.set(id, { ...fence, complete: true })
      for (const old of this.#snapshots(id)) if (old.id !== snapshot.id) await volumes.destroy(old.id)
      log.info(
        { volume: id, from, bytes, ms: Math.round(performance.now() - began), final },
        'snapshot received',
      )
      return { snapshot, bytes }
    } finally {
      this.#pulls.delete(id)
    }
  }

  /**
   * The copy goes into use, once the source has given its own up for ever. `force`: the source is gone for good, and what is
   * here is complete.
   */
  async activate(id: string, { force = false } = {}): Promise<void> {
    const { volumes, fences, hostId, log } = this.#o
    this.#known(id)
    const fence = fences.get(id)
    if (fence === undefined) return
    if (fence.kind !== 'incoming') throw fencedError(id, fences.get(id))
    if (!fence.complete) throw hostErrors.VOLUME_INCOMPLETE({ volume: id, source: fence.source })
    try {
      await this.#askCommit(id, fence.source)
    } catch (e) {
      if (!force || e instanceof FlynnError) throw e
      log.warn(
        { volume: id, source: fence.source, err: e },
        'the source of a volume is gone, going on without it',
      )
    }
    await volumes.mount(id)
    fences.set(id, undefined)
    log.info({ volume: id, source: fence.source, host: hostId }, 'volume has moved here')
    for (const old of this.#snapshots(id)) await volumes.destroy(old.id)
  }

  async #askCommit(id: string, sourceId: string): Promise<void> {
    const { addressOf, authKey, hostId } = this.#o
    const address = addressOf(sourceId)
    if (address === undefined) throw new Error(`host ${sourceId} is not known any more`)
    const source = new HostClient({ url: `http://${address}:${hostApiPort}`, authKey })
    await source.commitVolume(id, hostId, { timeoutMs: commitTimeoutMs, retryMs: 0 })
  }

  /** Removes a copy that is fenced so, whatever it has. Rejects when it is another kind of copy by now. */
  async drop(id: string, kind: VolumeFence['kind']): Promise<void> {
    const { volumes, fences, log } = this.#o
    this.#known(id)
    const fence = fences.get(id)
    if (fence?.kind !== kind) throw hostErrors.VOLUME_NOT_FENCED({ volume: id, kind })
    this.#pulls.get(id)?.abort(hostErrors.VOLUME_FENCED({ volume: id, how: 'removed' }))
    for (const old of this.#snapshots(id)) await volumes.destroy(old.id)
    await volumes.destroy(id)
    fences.set(id, undefined)
    log.info({ volume: id, kind }, 'copy of a volume removed')
  }
}
