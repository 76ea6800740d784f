// What is known of volumes on their way between hosts, what happens to them, and what hosts are asked. Part of the state
// (state.core.ts); moves.core.ts decides.
import type { Volume } from './state.core.ts'

/** A volume's data on a host where it is not simply in use, as that host tells (host/volume/moves.ts). */
export type Copy = {
  readonly volumeId: string
  readonly hostId: string
  /** `active`: in use on a host where it is not recorded. */
  readonly kind: 'retired' | 'incoming' | 'active'
  /** The host at the other end. */
  readonly peer?: string
  /** Of a retired one: the data is the target's for good. */
  readonly committed?: boolean
}

/** A volume that leaves a drained host (moves.core.ts). */
export type Move = {
  readonly volumeId: string
  readonly from: string
  readonly to: string
  readonly phase: 'copy' | 'ready' | 'stop' | 'finish' | 'settle' | 'undo'
  /** A host works at it. */
  readonly busy: boolean
  readonly rounds: number
  /** Sent in all rounds that are over, and in the one that is under way. */
  readonly bytes: number
  readonly underWay?: number
  /** In a row. */
  readonly failures: number
  readonly notBeforeMs: number
  /** How often its database was asked to make another node the primary. */
  readonly asked?: number
  /** Targets that failed. */
  readonly avoid: readonly string[]
  /** Why it failed last. */
  readonly note?: string
}

export type MoveHappening =
  | { readonly kind: 'moveProgress'; readonly volumeId: string; readonly bytes: number }
  | {
      readonly kind: 'volumeCopied'
      readonly volumeId: string
      readonly to: string
      readonly bytes: number
      readonly tookMs: number
    }
  | { readonly kind: 'volumeMoved'; readonly volumeId: string; readonly to: string; readonly bytes: number }
  /** The job that holds the volume is not the primary of its database any more. */
  | { readonly kind: 'primaryMoved'; readonly volumeId: string }
  | { readonly kind: 'moveUndone'; readonly volumeId: string }
  | { readonly kind: 'copyDropped'; readonly volumeId: string; readonly hostId: string }
  | {
      readonly kind: 'moveFailed'
      readonly volumeId: string
      readonly message: string
      /** The source has given the volume up for ever. */
      readonly committed?: boolean
    }

export type MoveEffect =
  /** One round of copying while the job runs; answer `volumeCopied` or `moveFailed`. */
  | { readonly kind: 'copyVolume'; readonly volume: Volume; readonly from: string; readonly to: string }
  | {
      /** Retire the source, send the rest, put the copy into use; answer `volumeMoved` or `moveFailed`. */
      readonly kind: 'finishMove'
      readonly volumeId: string
      readonly from: string
      readonly to: string
      /** The source is gone for good. */
      readonly force: boolean
    }
  | {
      /** Make another node the primary; answer `primaryMoved` or `moveFailed`. */
      readonly kind: 'movePrimary'
      readonly volumeId: string
      readonly formationKey: string
      readonly type: string
      readonly hostId: string
      readonly uuid: string
    }
  /** Drop the copy, then let the source be used again; answer `moveUndone` or `moveFailed`. */
  | { readonly kind: 'undoMove'; readonly volumeId: string; readonly from: string; readonly to: string }
  | {
      /** Answer `copyDropped` or `moveFailed`. */
      readonly kind: 'dropCopy'
      readonly volumeId: string
      readonly hostId: string
      readonly copy: 'retired' | 'incoming'
    }
