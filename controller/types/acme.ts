// Wire types of automatic certificates (contract router.md 7). The account's key never leaves the database.
import { type Static, Type } from 'typebox'

const Text = Type.String()
const optional = Type.Optional

export const acmeDirectory = 'https://acme-v02.api.letsencrypt.org/directory'
/** Issues certificates that no browser trusts, with far higher limits: for trying out. */
export const acmeStagingDirectory = 'https://acme-staging-v02.api.letsencrypt.org/directory'

/** What is absent stays as it is. */
export const AcmeConfigInput = Type.Object({
  enabled: optional(Type.Boolean()),
  contact_email: optional(Text),
  /** Of the certificate authority. */
  directory_url: optional(Text),
  terms_of_service_agreed: optional(Type.Boolean()),
})
export type AcmeConfigInput = Static<typeof AcmeConfigInput>

export type AcmeConfig = {
  readonly enabled: boolean
  readonly contact_email: string
  readonly directory_url: string
  readonly terms_of_service_agreed: boolean
  readonly has_account_key: boolean
  readonly created_at?: string
  readonly updated_at?: string
}

export const managedCertificateStatuses = ['pending', 'issued', 'failed', 'renewing'] as const
export type ManagedCertificateStatus = (typeof managedCertificateStatuses)[number]

export type ManagedCertificate = {
  readonly id: string
  readonly domain: string
  /** A live http route of the domain. */
  readonly route_id: string
  readonly status: ManagedCertificateStatus
  readonly expires_at?: string
  readonly last_error?: string
  readonly last_error_at?: string
  /** When it is ordered, renewed or tried again next. */
  readonly next_attempt_at?: string
  readonly created_at: string
  readonly updated_at: string
}
