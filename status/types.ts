// The status document that every component's `/.well-known/status` and the status app answer (contract
// system-apps.md 3).
import { type Static, Type } from 'typebox'

export const Health = Type.Union([Type.Literal('healthy'), Type.Literal('unhealthy')])
export type Health = Static<typeof Health>

export const ComponentStatus = Type.Object({
  status: Health,
  detail: Type.Optional(Type.Unknown()),
  version: Type.Optional(Type.String()),
})
export type ComponentStatus = Static<typeof ComponentStatus>

/** The whole cluster: `detail` has one entry for each component. */
export const ClusterStatus = Type.Object({
  data: Type.Object({
    status: Health,
    detail: Type.Record(Type.String(), ComponentStatus),
    version: Type.Optional(Type.String()),
  }),
})
export type ClusterStatus = Static<typeof ClusterStatus>
