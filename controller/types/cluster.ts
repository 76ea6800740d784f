// Wire types of what belongs to the cluster as a whole: log sinks, domain migrations, the audit log (contracts
// controller.md 2.14, 2.17, 1.3; system-apps.md 2.1).
import { type Static, Type } from 'typebox'

const Text = Type.String()
const optional = Type.Optional

// Sinks ------------------------------------------------------------------------------------------------------------

export const sinkFormats = ['rfc6587', 'newline', 'prefixed_newline'] as const

export const SyslogConfig = Type.Object({
  /** `syslog://host[:port]` (TCP) or `syslog+tls://host[:port]`. */
  url: Type.String({
    pattern: '^syslog(\\+tls)?://[^/?#\\s]+/?$',
    maxLength: 1_000,
    description: 'syslog://HOST:PORT or syslog+tls://HOST:PORT',
  }),
  /** Go template over the host job, put before each message. */
  template: optional(Type.String({ maxLength: 10_000 })),
  use_ids: optional(Type.Boolean()),
  /** Does not check the server's certificate. */
  insecure: optional(Type.Boolean()),
  structured_data: optional(Type.Boolean()),
  format: optional(Type.Enum([...sinkFormats])),
})
export type SyslogConfig = Static<typeof SyslogConfig>

export const SinkInput = Type.Object({
  id: optional(Text),
  kind: Type.Enum(['syslog']),
  config: SyslogConfig,
})
export type SinkInput = Static<typeof SinkInput>

export type Sink = {
  readonly id: string
  readonly kind: string
  /** Of a host: made by itself, for a log aggregator. */
  readonly host_managed?: boolean
  /** Absent in a stream: the sink was deleted. */
  readonly config?: SyslogConfig
  readonly created_at?: string
  readonly updated_at?: string
}

// Domain migrations ------------------------------------------------------------------------------------------------

export const TlsCert = Type.Object({
  ca_cert: optional(Text),
  cert: optional(Text),
  /** Base64 SHA-256 of the leaf. */
  pin: optional(Text),
  /** Private: taken in, never shown. */
  key: optional(Text),
})
export type TlsCert = Static<typeof TlsCert>

export const DomainMigrationInput = Type.Object({
  id: optional(Text),
  old_domain: Type.String({ minLength: 1, maxLength: 200 }),
  domain: Type.String({
    pattern: '^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*$',
    maxLength: 200,
    description: 'a domain, such as apps.example.com',
  }),
  tls_cert: optional(TlsCert),
})
export type DomainMigrationInput = Static<typeof DomainMigrationInput>

export type DomainMigration = {
  readonly id: string
  readonly old_domain: string
  readonly domain: string
  readonly old_tls_cert?: TlsCert
  readonly tls_cert?: TlsCert
  readonly created_at: string
  readonly finished_at?: string
}

/** Data of a `domain_migration` event. */
export type DomainMigrationEvent = { readonly domain_migration: DomainMigration; readonly error?: string }

// Audit log (ours) -------------------------------------------------------------------------------------------------

export type AuditEntry = {
  readonly id: number
  readonly created_at: string
  /** Who: label or fingerprint of the key, or the fingerprint of the token. */
  readonly actor: string
  /** E-mail address of the token's user. */
  readonly user?: string
  /** From where: the client as the router saw it, else the connection's address. */
  readonly address: string
  readonly request_id: string
  readonly method: string
  readonly path: string
  /** The app that the path names, as it names it. */
  readonly app?: string
  /** A report of the scheduler about what is, not a wish of somebody. */
  readonly report?: boolean
  /** The body with its secrets taken out; absent when there was none or it was too big. */
  readonly body?: unknown
  /** HTTP status of the answer; 101 for an attached job. */
  readonly status: number
  readonly error?: string
}

export type AuditFilter = {
  readonly app?: string
  readonly actor?: string
  readonly method?: string
  /** RFC 3339. */
  readonly since?: string
  readonly until?: string
  readonly beforeId?: number
  /** Only calls that failed, or only those that did not. */
  readonly result?: 'ok' | 'failed'
  /** Reports of the scheduler too. */
  readonly reports?: boolean
  /** Newest first, 1,000 at most; 100 when absent. */
  readonly count?: number
}
