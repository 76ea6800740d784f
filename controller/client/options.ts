// What callers of the controller's client say and are told, besides wire types.
import type * as t from '../types.ts'
import type { ConnectOptions } from './connect.ts'

export type ControllerClientOptions = {
  /** Base URL without a trailing slash; `controllerUrl` inside the cluster. */
  readonly url: string
  /** One key; of a comma list the first is used. */
  readonly key: string
  /** A signed token, which then goes in place of the key. */
  readonly token?: string
  readonly connect?: ConnectOptions
  /** How long calls that say nothing else try again when there is no connection. */
  readonly retryMs?: number
}

export type FormationChange =
  | { readonly kind: 'formation'; readonly formation: t.ExpandedFormation }
  /** Everything stored has been sent; what follows happens now. */
  | { readonly kind: 'current' }
export type VolumeChange =
  | { readonly kind: 'volume'; readonly volume: t.Volume }
  | { readonly kind: 'current' }

export type SinkChange =
  | { readonly kind: 'sink' | 'removed'; readonly sink: t.Sink }
  | { readonly kind: 'current' }

export type LogOptions = {
  readonly follow?: boolean
  readonly lines?: number
  readonly jobId?: string
  /** Present but empty: only jobs without a type. */
  readonly processType?: string
  readonly streamTypes?: readonly string[]
  readonly signal?: AbortSignal
}
