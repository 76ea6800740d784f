// Wire types of the log aggregator (contract system-apps.md 1.3). Every member of a line but its time may be absent.
import { type Static, Type } from 'typebox'

export const LogStreamName = Type.Union([
  Type.Literal('stdout'),
  Type.Literal('stderr'),
  Type.Literal('init'),
  Type.Literal('unknown'),
])
export type LogStreamName = Static<typeof LogStreamName>

/** One line of output. Members are emitted in this order, empty ones left out. */
export const LogMessage = Type.Object({
  host_id: Type.Optional(Type.String()),
  job_id: Type.Optional(Type.String()),
  msg: Type.Optional(Type.String()),
  process_type: Type.Optional(Type.String()),
  source: Type.Literal('app'),
  stream: LogStreamName,
  timestamp: Type.String(),
})
export type LogMessage = Static<typeof LogMessage>

/** How far the aggregator has read a host's log. `time` is RFC 3339. */
export const HostCursor = Type.Object({ time: Type.String(), seq: Type.Integer({ minimum: 0 }) })
export type HostCursor = Static<typeof HostCursor>

/** By host id. */
export const HostCursors = Type.Record(Type.String(), HostCursor)
export type HostCursors = Static<typeof HostCursors>

/** Messages kept of one app, and the most that `lines` may ask for. */
export const linesMax = 10_000

export type LogOptions = {
  readonly follow?: boolean
  /** The last n lines after filtering; 0 or absent: all of them, or only new ones when following. */
  readonly lines?: number
  readonly jobId?: string
  /** An empty text selects lines of jobs without a process type. */
  readonly processType?: string
  readonly streamTypes?: readonly ('stdout' | 'stderr' | 'init')[]
}
