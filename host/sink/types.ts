// Wire types of log sinks on a host (contracts host.md 2.3, 2.7; system-apps.md 2.4) as schemas.
import { type Static, Type } from 'typebox'

export const sinkKinds = ['syslog', 'logaggregator'] as const
export const sinkFormats = ['rfc6587', 'newline', 'prefixed_newline'] as const
export type SinkFormat = (typeof sinkFormats)[number]

export const SinkInput = Type.Object({
  id: Type.Optional(Type.String()),
  kind: Type.Enum([...sinkKinds]),
  config: Type.Object({
    /** Of a syslog sink. */
    url: Type.Optional(Type.String()),
    template: Type.Optional(Type.String()),
    use_ids: Type.Optional(Type.Boolean()),
    insecure: Type.Optional(Type.Boolean()),
    structured_data: Type.Optional(Type.Boolean()),
    format: Type.Optional(Type.Enum([...sinkFormats])),
    /** Of a log aggregator: `<ip>:<port>`. */
    addr: Type.Optional(Type.String()),
  }),
  host_managed: Type.Optional(Type.Boolean()),
})
export type SinkInput = Static<typeof SinkInput>
export type SinkConfig = SinkInput['config']

export type SinkInfo = {
  readonly id: string
  readonly kind: (typeof sinkKinds)[number]
  readonly host_managed?: boolean
  readonly config: SinkConfig
}
