// Row types of the controller's tables for kysely (contract controller.md 3.1). Times are RFC 3339 text (pkg/pg).
// Unset maps and lists may be SQL NULL or, in rows of the original, JSON null: both arrive as null.
import type { ColumnType, Generated } from 'kysely'
import type {
  JobState,
  ManagedCertificateStatus,
  Processes,
  ProcessTags,
  ProcessType,
  RouteOptions,
  ScaleRequest,
  Strategy,
  SyslogConfig,
  TlsCert,
  Volume,
} from '../types.ts'

/** Read as parsed JSON, written as JSON text: arrays would otherwise become PostgreSQL arrays. */
type Json<T> = ColumnType<T | null, string | null, string | null>
type StringMap = Readonly<Record<string, string>>
type Time = ColumnType<string, string | undefined, string>
type OptionalTime = ColumnType<string | null, string | null | undefined, string | null>

type AppsTable = {
  app_id: Generated<string>
  name: string
  release_id: string | null
  meta: Json<StringMap>
  strategy: Strategy
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
  deploy_timeout: number
}

type ReleasesTable = {
  release_id: Generated<string>
  meta: Json<StringMap>
  env: Json<StringMap>
  processes: Json<Readonly<Record<string, ProcessType>>>
  created_at: Time
  deleted_at: OptionalTime
  app_id: string | null
}

type ArtifactsTable = {
  artifact_id: Generated<string>
  type: string
  uri: string
  created_at: Time
  deleted_at: OptionalTime
  meta: Json<StringMap>
  manifest: Json<unknown>
  hashes: Json<StringMap>
  size: number | null
  layer_url_template: string | null
}

type ReleaseArtifactsTable = {
  release_id: string
  artifact_id: string
  created_at: Time
  deleted_at: OptionalTime
  index: number
}

type FormationsTable = {
  app_id: string
  release_id: string
  processes: Json<Processes>
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
  tags: Json<ProcessTags>
}

type ScaleRequestsTable = {
  scale_request_id: Generated<string>
  app_id: string
  release_id: string
  state: ScaleRequest['state']
  old_processes: Json<Processes>
  new_processes: Json<Processes>
  old_tags: Json<ProcessTags>
  new_tags: Json<ProcessTags>
  created_at: Time
  updated_at: Time
}

type DeploymentsTable = {
  deployment_id: Generated<string>
  app_id: string
  old_release_id: string | null
  new_release_id: string
  strategy: Strategy
  processes: Json<Processes>
  created_at: Time
  finished_at: OptionalTime
  deploy_timeout: number
  tags: Json<ProcessTags>
  deploy_batch_size: number | null
  type: 'code' | 'config'
  /** Ours (migration 1002): somebody asked for its end. */
  cancelled_at: OptionalTime
}

type JobCacheTable = {
  /** Empty while unplaced. */
  cluster_id: string
  app_id: string
  release_id: string
  process_type: string | null
  state: JobState
  meta: Json<StringMap>
  created_at: Time
  updated_at: Time
  exit_status: number | null
  host_error: string | null
  run_at: OptionalTime
  restarts: number | null
  job_id: string
  host_id: string | null
  args: Json<readonly string[]>
}

type VolumesTable = {
  volume_id: Generated<string>
  host_id: string
  type: Volume['type']
  state: Volume['state']
  app_id: string | null
  release_id: string | null
  job_id: string | null
  job_type: string | null
  path: string | null
  delete_on_stop: boolean
  meta: Json<StringMap>
  created_at: Time
  updated_at: Time
  decommissioned_at: OptionalTime
}

type EventsTable = {
  event_id: Generated<number>
  app_id: string | null
  object_type: string
  object_id: string
  unique_id: string | null
  data: Json<unknown>
  created_at: Time
  op: string | null
}

type ProvidersTable = {
  provider_id: Generated<string>
  name: string
  url: string
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
}

type ResourcesTable = {
  resource_id: Generated<string>
  provider_id: string
  external_id: string
  env: Json<StringMap>
  created_at: Time
  deleted_at: OptionalTime
}

type RouteColumns = {
  id: Generated<string>
  parent_ref: string
  service: string
  port: number
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
  leader: boolean
  drain_backends: boolean
  options: Json<RouteOptions>
}

type CertificatesTable = {
  id: Generated<string>
  cert: string
  key: string
  cert_sha256: Buffer
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
}

type SinksTable = {
  sink_id: Generated<string>
  kind: string
  config: ColumnType<SyslogConfig, string, string>
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
}

type DomainMigrationsTable = {
  migration_id: Generated<string>
  old_domain: string
  domain: string
  old_tls_cert: Json<TlsCert>
  tls_cert: Json<TlsCert>
  created_at: Time
  finished_at: OptionalTime
}

/** Ours (migration 1002). */
type AuditTable = {
  audit_id: Generated<number>
  created_at: Time
  actor: string
  user_email: string | null
  address: string
  request_id: string
  method: string
  path: string
  app: string | null
  report: boolean
  body: Json<unknown>
  status: number
  error: string | null
}

/** One row, id 1 (migration 1004). */
type AcmeConfigTable = {
  id: number
  enabled: boolean
  contact_email: string | null
  directory_url: string | null
  terms_of_service_agreed: boolean
  /** PKCS#8 PEM. */
  account_key: string | null
  /** RFC 7638, of the key. */
  account_thumbprint: string | null
  /** Unset until the authority of `directory_url` knows the key and the address. */
  account_url: string | null
  created_at: Time
  updated_at: Time
}

/** Migration 1004. */
type ManagedCertificatesTable = {
  id: Generated<string>
  domain: string
  route_id: string
  status: ManagedCertificateStatus
  expires_at: OptionalTime
  last_error: string | null
  last_error_at: OptionalTime
  created_at: Time
  updated_at: Time
  deleted_at: OptionalTime
  /** Since the last success. */
  attempts: Generated<number>
  tried_at: OptionalTime
  next_attempt_at: Time
}

export type Tables = {
  acme_config: AcmeConfigTable
  managed_certificates: ManagedCertificatesTable
  audit_log: AuditTable
  sinks: SinksTable
  domain_migrations: DomainMigrationsTable
  apps: AppsTable
  releases: ReleasesTable
  artifacts: ArtifactsTable
  release_artifacts: ReleaseArtifactsTable
  formations: FormationsTable
  scale_requests: ScaleRequestsTable
  deployments: DeploymentsTable
  job_cache: JobCacheTable
  job_volumes: { job_id: string; volume_id: string; index: number }
  volumes: VolumesTable
  events: EventsTable
  providers: ProvidersTable
  resources: ResourcesTable
  app_resources: { app_id: string; resource_id: string; created_at: Time; deleted_at: OptionalTime }
  http_routes: RouteColumns & {
    domain: string
    sticky: boolean
    path: string
    disable_keep_alives: boolean
    managed_certificate_domain: string | null
  }
  tcp_routes: RouteColumns
  certificates: CertificatesTable
  route_certificates: { http_route_id: string; certificate_id: string }
  schema_migrations: { id: number }
}
