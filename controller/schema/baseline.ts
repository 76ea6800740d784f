// The controller's schema as contract controller.md 3.1 and 3.2 name it: cluster backups are exchanged with the
// original, so tables, columns, keys and lookup rows are those of its migration 49.
import { eventTypes, jobStates, scaleStates, strategies, volumeStates, volumeTypes } from '../types.ts'

export const lookupTables: Readonly<Record<string, readonly string[]>> = {
  deployment_strategies: strategies,
  event_types: eventTypes,
  job_states: jobStates,
  release_types: ['code', 'config'],
  scale_request_states: scaleStates,
  volume_types: volumeTypes,
  volume_states: volumeStates,
  sink_kinds: ['syslog'],
  backup_statuses: ['running', 'complete', 'error'],
}

const times = `created_at timestamptz NOT NULL DEFAULT now(), updated_at timestamptz NOT NULL DEFAULT now()`
const id = (column: string) => `${column} uuid PRIMARY KEY DEFAULT uuid_generate_v4()`

const apps = `
CREATE TABLE apps (
  ${id('app_id')}, name text NOT NULL, release_id uuid, meta jsonb,
  strategy text NOT NULL DEFAULT 'all-at-once' REFERENCES deployment_strategies (name),
  ${times}, deleted_at timestamptz, deploy_timeout integer NOT NULL DEFAULT 30);
CREATE UNIQUE INDEX apps_name_idx ON apps (name) WHERE deleted_at IS NULL;

CREATE TABLE releases (
  ${id('release_id')}, meta jsonb, env jsonb, processes jsonb,
  created_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, app_id uuid REFERENCES apps (app_id),
  CONSTRAINT releases_check CHECK (app_id IS NOT NULL OR deleted_at IS NOT NULL));
CREATE INDEX releases_app_id_idx ON releases (app_id) WHERE deleted_at IS NULL;
ALTER TABLE apps ADD CONSTRAINT apps_release_id_fkey FOREIGN KEY (release_id) REFERENCES releases (release_id);

CREATE TABLE artifacts (
  ${id('artifact_id')}, type text NOT NULL, uri text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz,
  meta jsonb, manifest jsonb, hashes jsonb, size integer, layer_url_template text);
CREATE UNIQUE INDEX artifacts_type_uri_idx ON artifacts (type, uri) WHERE deleted_at IS NULL;

CREATE TABLE release_artifacts (
  release_id uuid NOT NULL REFERENCES releases (release_id),
  artifact_id uuid NOT NULL REFERENCES artifacts (artifact_id),
  created_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, index integer NOT NULL,
  PRIMARY KEY (release_id, artifact_id));
CREATE UNIQUE INDEX release_artifacts_release_id_index_idx
  ON release_artifacts (release_id, index) WHERE deleted_at IS NULL;
`

const formations = `
CREATE TABLE formations (
  app_id uuid NOT NULL REFERENCES apps (app_id), release_id uuid NOT NULL REFERENCES releases (release_id),
  processes jsonb, ${times}, deleted_at timestamptz, tags jsonb,
  CONSTRAINT formations_pkey PRIMARY KEY (app_id, release_id));

CREATE TABLE scale_requests (
  ${id('scale_request_id')}, app_id uuid NOT NULL REFERENCES apps (app_id),
  release_id uuid NOT NULL REFERENCES releases (release_id),
  state text NOT NULL REFERENCES scale_request_states (name),
  old_processes jsonb, new_processes jsonb, old_tags jsonb, new_tags jsonb, ${times});

CREATE TABLE deployments (
  ${id('deployment_id')}, app_id uuid NOT NULL, old_release_id uuid REFERENCES releases (release_id),
  new_release_id uuid NOT NULL REFERENCES releases (release_id),
  strategy text NOT NULL REFERENCES deployment_strategies (name), processes jsonb,
  created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz,
  deploy_timeout integer NOT NULL DEFAULT 30, tags jsonb, deploy_batch_size integer,
  type text NOT NULL REFERENCES release_types (name));
CREATE UNIQUE INDEX isolate_deploys ON deployments (app_id) WHERE finished_at IS NULL;
`

const jobs = `
CREATE TABLE job_cache (
  cluster_id text NOT NULL, app_id uuid NOT NULL REFERENCES apps (app_id),
  release_id uuid NOT NULL REFERENCES releases (release_id), process_type text,
  state text NOT NULL REFERENCES job_states (name), meta jsonb, ${times},
  exit_status integer, host_error text, run_at timestamptz, restarts integer,
  job_id uuid PRIMARY KEY, host_id text, args jsonb);

CREATE TABLE volumes (
  ${id('volume_id')}, host_id text NOT NULL, type text NOT NULL REFERENCES volume_types (name),
  state text NOT NULL REFERENCES volume_states (name), app_id uuid, release_id uuid, job_id uuid, job_type text,
  path text, delete_on_stop boolean NOT NULL DEFAULT false, meta jsonb, ${times}, decommissioned_at timestamptz);

CREATE TABLE job_volumes (
  job_id uuid NOT NULL REFERENCES job_cache (job_id), volume_id uuid NOT NULL REFERENCES volumes (volume_id),
  index integer NOT NULL DEFAULT 0, CONSTRAINT job_volumes_pkey PRIMARY KEY (job_id, volume_id));

CREATE SEQUENCE event_ids;
CREATE TABLE events (
  event_id bigint PRIMARY KEY DEFAULT nextval('event_ids'), app_id uuid REFERENCES apps (app_id),
  object_type text NOT NULL REFERENCES event_types (name), object_id text NOT NULL, unique_id text,
  data jsonb, created_at timestamptz NOT NULL DEFAULT now(), op text);
CREATE INDEX events_object_type_idx ON events (object_type);
CREATE UNIQUE INDEX events_unique_id_idx ON events (unique_id);
`

const resources = `
CREATE TABLE providers (
  ${id('provider_id')}, name text NOT NULL UNIQUE, url text NOT NULL UNIQUE, ${times}, deleted_at timestamptz);

CREATE TABLE resources (
  ${id('resource_id')}, provider_id uuid NOT NULL REFERENCES providers (provider_id), external_id text NOT NULL,
  env jsonb, created_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz,
  UNIQUE (provider_id, external_id));

CREATE TABLE app_resources (
  app_id uuid NOT NULL REFERENCES apps (app_id), resource_id uuid NOT NULL REFERENCES resources (resource_id),
  created_at timestamptz NOT NULL DEFAULT now(), deleted_at timestamptz, PRIMARY KEY (app_id, resource_id));
CREATE INDEX app_resources_resource_id_idx ON app_resources (resource_id);

CREATE TABLE sinks (
  ${id('sink_id')}, kind text NOT NULL REFERENCES sink_kinds (name), config jsonb NOT NULL,
  ${times}, deleted_at timestamptz);

CREATE TABLE backups (
  ${id('backup_id')}, status text NOT NULL REFERENCES backup_statuses (name), sha512 text, size bigint, error text,
  ${times}, completed_at timestamptz, deleted_at timestamptz);

CREATE TABLE domain_migrations (
  ${id('migration_id')}, old_domain text NOT NULL, domain text NOT NULL, old_tls_cert jsonb, tls_cert jsonb,
  created_at timestamptz NOT NULL DEFAULT now(), finished_at timestamptz);

CREATE TABLE que_jobs (
  priority smallint NOT NULL DEFAULT 100, run_at timestamptz NOT NULL DEFAULT now(), job_id bigserial NOT NULL,
  job_class text NOT NULL, args json NOT NULL DEFAULT '[]', error_count integer NOT NULL DEFAULT 0, last_error text,
  queue text NOT NULL DEFAULT '', locked_until timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (queue, priority, run_at, job_id));
COMMENT ON TABLE que_jobs IS '3';
`

const routes = `
CREATE TABLE http_routes (
  ${id('id')}, parent_ref varchar(255) NOT NULL, service varchar(255) NOT NULL CHECK (service <> ''),
  domain varchar(255) NOT NULL CHECK (domain <> ''), sticky boolean NOT NULL DEFAULT false, ${times},
  deleted_at timestamptz, path text NOT NULL DEFAULT '/', leader boolean NOT NULL DEFAULT false,
  drain_backends boolean NOT NULL DEFAULT true, port integer NOT NULL DEFAULT 0 CHECK (port > -1 AND port < 65535),
  disable_keep_alives boolean NOT NULL DEFAULT false);
CREATE UNIQUE INDEX http_routes_domain_port_path_key ON http_routes (domain, port, path) WHERE deleted_at IS NULL;

CREATE TABLE tcp_routes (
  ${id('id')}, parent_ref varchar(255) NOT NULL, service varchar(255) NOT NULL CHECK (service <> ''),
  port integer NOT NULL CHECK (port > 0 AND port < 65535), ${times}, deleted_at timestamptz,
  leader boolean NOT NULL DEFAULT false, drain_backends boolean NOT NULL DEFAULT true);
CREATE UNIQUE INDEX tcp_routes_port_key ON tcp_routes (port) WHERE deleted_at IS NULL;

CREATE TABLE certificates (
  ${id('id')}, cert text NOT NULL, key text NOT NULL, cert_sha256 bytea NOT NULL, ${times}, deleted_at timestamptz);
CREATE UNIQUE INDEX certificates_cert_sha256_key ON certificates (cert_sha256) WHERE deleted_at IS NULL;

CREATE TABLE route_certificates (
  http_route_id uuid NOT NULL REFERENCES http_routes (id) ON DELETE CASCADE,
  certificate_id uuid NOT NULL REFERENCES certificates (id) ON DELETE RESTRICT,
  PRIMARY KEY (http_route_id, certificate_id));
`

function lookups(): string {
  return Object.entries(lookupTables)
    .map(([table, rows]) => {
      const values = rows.map(row => `('${row}')`).join(', ')
      return `CREATE TABLE ${table} (name text PRIMARY KEY);\nINSERT INTO ${table} (name) VALUES ${values};`
    })
    .join('\n')
}

/** Tables of an empty database; `functionsSql` comes after. */
export function baselineSql(): string {
  return [
    'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";',
    'CREATE EXTENSION IF NOT EXISTS pgcrypto;',
    'CREATE SEQUENCE name_ids MAXVALUE 4294967295;',
    lookups(),
    apps,
    formations,
    jobs,
    resources,
    routes,
  ].join('\n')
}
