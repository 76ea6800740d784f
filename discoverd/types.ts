// Wire types of service discovery (contract discoverd.md 3.4, 9). Members a peer adds are ignored, wrong types are
// refused at the edge; inside the daemon and in its clients these types are trusted.
import { type Static, Type } from 'typebox'

/** `oldest` (also for every other text) or `manual`. */
export const ServiceConfig = Type.Object({ leader_type: Type.Optional(Type.String()) })
export type ServiceConfig = Readonly<Static<typeof ServiceConfig>>

export type LeaderType = 'oldest' | 'manual'

export const Instance = Type.Object({
  /** Hex md5 of `proto-addr`; `instanceId` of pkg/ids computes it. */
  id: Type.Optional(Type.String()),
  addr: Type.Optional(Type.String()),
  proto: Type.Optional(Type.String()),
  meta: Type.Optional(Type.Union([Type.Record(Type.String(), Type.String()), Type.Null()])),
  index: Type.Optional(Type.Number()),
})
/** An instance as a client may send it, before validation. */
export type InstanceInput = Readonly<Static<typeof Instance>>

/** One registered address of a service. */
export type Instance = {
  readonly id: string
  /** `host:port`, IPv6 hosts in brackets. */
  readonly addr: string
  readonly proto: string
  readonly meta?: Readonly<Record<string, string>>
  /** Orders instances by age: unique, above zero, constant for as long as the instance is registered. */
  readonly index?: number
}

/** What `POST /heartbeats` takes a list of, in our own addition to the contract's interface. */
export const Heartbeat = Type.Object({ service: Type.String(), instance: Instance })
export type HeartbeatInput = Readonly<Static<typeof Heartbeat>>

export type Heartbeat = { readonly service: string; readonly instance: Instance }

/** Why one of the list failed. */
export type HeartbeatFailure = { readonly code: string; readonly message: string }

export const ServiceMeta = Type.Object({
  data: Type.Optional(Type.Unknown()),
  /** Write-only: makes this instance the service's leader in the same step. */
  leader_id: Type.Optional(Type.String()),
  index: Type.Optional(Type.Number()),
})

/** Service metadata; `index` is what the next write must send, 0 to create. */
export type ServiceMeta = {
  readonly data: unknown
  readonly leader_id?: string
  readonly index: number
}

export type EventKind = 'up' | 'update' | 'down' | 'leader' | 'current' | 'service_meta'

/** A change of a service as streams carry it. A `leader` event without an instance means: no leader now. */
export type DiscoverdEvent = {
  readonly service: string
  readonly kind: EventKind
  readonly instance?: Instance
  readonly service_meta?: ServiceMeta
}

/** What discoverd tells flynn-host about itself (contract discoverd.md 1.3). */
export type DiscoverdNotification = {
  readonly job_id: string
  /** `ip:port`, comma separated, without a scheme. */
  readonly url: string
  /** `ip:53`, or empty until DNS answers. */
  readonly dns: string
}

export type RaftLeader = { readonly host: string }

export const discoverdPort = 1111
export const instanceTtlMs = 10_000
