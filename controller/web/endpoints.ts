// Every endpoint of the controller's API in one table: the bodies that requests are checked against, the query that they
// may carry, and a line for people. The OpenAPI document, the audit log and the fuzz test are made from it; a test holds
// it against the routes that are served.
import type { TSchema } from 'typebox'
import * as t from '../types.ts'

export type Endpoint = {
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  /** As the server registers it; `:name` is a parameter. */
  readonly path: string
  readonly summary: string
  readonly body?: TSchema
  /** Query parameters and what they mean. */
  readonly query?: Readonly<Record<string, string>>
  /** What a 200 carries. `stream`: events when the client accepts them. */
  readonly answer: 'object' | 'list' | 'empty' | 'text' | 'stream'
  readonly schema?: TSchema
  /** The scheduler tells what is; nobody wishes for anything. */
  readonly report?: boolean
  /** Served without a key. */
  readonly free?: boolean
}

type Extra = Omit<Partial<Endpoint>, 'method' | 'path' | 'summary' | 'answer'>

function row(call: string, answer: Endpoint['answer'], summary: string, extra: Extra = {}): Endpoint {
  const [method, path] = call.split(' ')
  return { method: method as Endpoint['method'], path: path ?? '', answer, summary, ...extra }
}

const since = { since: 'RFC 3339 time; with Accept: text/event-stream what changed since, then what changes' }
const eventFilter = {
  app_id: 'id or name of an app',
  object_types: 'comma list of event types',
  object_id: 'id of the object',
}

const apps: readonly Endpoint[] = [
  row('POST /apps', 'object', 'Create an app', { body: t.AppInput, schema: t.App }),
  row('GET /apps', 'list', 'List apps, newest first', { schema: t.App }),
  row('GET /apps/:app', 'object', 'An app by id or name', { schema: t.App }),
  row('POST /apps/:app', 'object', 'Change meta, strategy or deploy timeout', {
    body: t.AppUpdate,
    schema: t.App,
  }),
  row('POST /apps/:app/meta', 'object', 'The same as POST /apps/:app', { body: t.AppUpdate, schema: t.App }),
  row('DELETE /apps/:app', 'empty', 'Delete an app; done when its app_deletion event comes'),
  row('POST /apps/:app/gc', 'empty', 'Delete old slug releases; done when its event comes'),
  row('GET /apps/:app/log', 'stream', 'Log lines of an app', {
    query: {
      follow: 'true: go on with what comes',
      job_id: 'only of this job',
      lines: 'newest lines, 0 to 10000',
      process_type: 'only of this type; empty: of jobs without one',
      stream_types: 'comma list of stdout, stderr, init',
    },
  }),
  row('GET /apps/:app/layers/:id', 'object', 'Whether the blobstore has a layer'),
  row('PUT /apps/:app/layers/:id', 'empty', 'Upload a layer (application/octet-stream)'),
]

const releases: readonly Endpoint[] = [
  row('POST /artifacts', 'object', 'Register an image', { body: t.ArtifactInput }),
  row('GET /artifacts', 'list', 'List artifacts, newest first'),
  row('GET /artifacts/:id', 'object', 'An artifact'),
  row('POST /releases', 'object', 'Create a release', { body: t.ReleaseInput }),
  row('GET /releases', 'list', 'List releases of all apps, newest first'),
  row('GET /releases/:id', 'object', 'A release'),
  row('GET /apps/:app/releases', 'list', 'List releases of an app, newest first'),
  row('DELETE /apps/:app/releases/:release', 'empty', 'Delete a release; done when its event comes'),
  row('GET /apps/:app/release', 'object', 'The current release; empty 404 when there is none'),
  row('PUT /apps/:app/release', 'object', 'Set the current release; starts nothing', { body: t.IdInput }),
]

const running: readonly Endpoint[] = [
  row('PUT /apps/:app/formations/:release', 'object', 'Set process counts and tags, merged per type', {
    body: t.FormationInput,
  }),
  row('GET /apps/:app/formations/:release', 'object', 'A formation', {
    query: { expand: 'true: with app, release, artifacts and pending scale request' },
  }),
  row('DELETE /apps/:app/formations/:release', 'empty', 'Stop everything of a release'),
  row('GET /apps/:app/formations', 'list', 'Formations of an app'),
  row('GET /formations', 'stream', 'Formations of all apps', {
    query: { active: 'true: those with processes', ...since },
  }),
  row('PUT /apps/:app/scale/:release', 'object', 'Ask for counts or tags, or tell the end of a request', {
    body: t.ScaleRequestInput,
  }),
  row('POST /apps/:app/jobs', 'object', 'Run a one-off job; with Upgrade: flynn-attach/0 attached', {
    body: t.NewJob,
    schema: t.Job,
  }),
  row('GET /apps/:app/jobs', 'list', 'Jobs of an app, newest first', { schema: t.Job }),
  row('GET /apps/:app/jobs/:job', 'object', 'A job by `<host>-<uuid>` or uuid', { schema: t.Job }),
  row('GET /apps/:app/jobs/:job/explanation', 'object', 'Why a job is where it is, or why it is nowhere'),
  row('PUT /apps/:app/jobs/:job', 'object', 'Record a job', { body: t.Job, schema: t.Job, report: true }),
  row('DELETE /apps/:app/jobs/:job', 'empty', 'Stop a job'),
  row('GET /active-jobs', 'list', 'Jobs that are pending, starting, up or stopping', { schema: t.Job }),
  row('POST /apps/:app/deploy', 'object', 'Deploy a release', { body: t.IdInput }),
  row('GET /apps/:app/deployments', 'list', 'Deployments of an app, newest first'),
  row('GET /deployments/:id', 'object', 'A deployment'),
  row('POST /deployments/:id/cancel', 'object', 'Give a deployment up; it is rolled back and ends as failed'),
]

const routing: readonly Endpoint[] = [
  row('POST /apps/:app/routes', 'object', 'Create a route', { body: t.RouteInput }),
  row('GET /apps/:app/routes', 'list', 'Routes of an app, newest first'),
  row('GET /routes', 'list', 'Routes of all apps, newest first'),
  row('GET /apps/:app/routes/:type/:id', 'object', 'A route'),
  row('PUT /apps/:app/routes/:type/:id', 'object', 'Change a route', { body: t.RouteInput }),
  row('DELETE /apps/:app/routes/:type/:id', 'empty', 'Remove a route'),
  row('GET /apps/:app/route-stats', 'list', 'Requests, errors and times of routes in the last minute'),
  row('GET /acme/config', 'object', 'The account for automatic certificates'),
  row('PUT /acme/config', 'object', 'Configure it, turn it on or off', { body: t.AcmeConfigInput }),
  row('GET /managed-certificates', 'list', 'Automatic certificates, newest first'),
  row('GET /managed-certificates/:id', 'object', 'An automatic certificate'),
]

const resources: readonly Endpoint[] = [
  row('POST /providers', 'object', 'Register a provider', { body: t.ProviderInput }),
  row('GET /providers', 'list', 'List providers'),
  row('GET /providers/:provider', 'object', 'A provider by id or name'),
  row('POST /providers/:provider/resources', 'object', 'Provision a resource', { body: t.ResourceRequest }),
  row('GET /providers/:provider/resources', 'list', 'Resources of a provider'),
  row('GET /resources', 'list', 'Resources of all providers'),
  row('GET /apps/:app/resources', 'list', 'Resources of an app'),
  row('GET /providers/:provider/resources/:id', 'object', 'A resource'),
  row('PUT /providers/:provider/resources/:id', 'object', 'Register a resource that exists', {
    body: t.ResourceInput,
  }),
  row('DELETE /providers/:provider/resources/:id', 'object', 'Have the provider destroy a resource'),
  row('PUT /providers/:provider/resources/:id/apps/:app', 'object', 'Link a resource to an app'),
  row('DELETE /providers/:provider/resources/:id/apps/:app', 'object', 'Unlink a resource from an app'),
]

const volumes: readonly Endpoint[] = [
  row('GET /volumes', 'stream', 'Volumes of all apps', { query: since, schema: t.Volume }),
  row('PUT /volumes/:id', 'object', 'Record a volume', { body: t.Volume, schema: t.Volume, report: true }),
  row('GET /apps/:app/volumes', 'list', 'Volumes of an app', { schema: t.Volume }),
  row('GET /apps/:app/volumes/:id', 'object', 'A volume', { schema: t.Volume }),
  row(
    'PUT /apps/:app/volumes/:id/decommission',
    'object',
    'Never give the volume of the body to a job again',
    {
      body: t.Volume,
      schema: t.Volume,
    },
  ),
]

const cluster: readonly Endpoint[] = [
  row('GET /events', 'stream', 'Events: a list for Accept: application/json, else a stream', {
    query: {
      ...eventFilter,
      before_id: 'list: only older ones',
      since_id: 'list: only newer ones',
      count: 'only the newest that many',
      past: 'stream: true begins with what is stored',
    },
  }),
  row('GET /events/:id', 'object', 'An event'),
  row('POST /sinks', 'object', 'Send the logs of all hosts somewhere', { body: t.SinkInput }),
  row('GET /sinks', 'stream', 'Log sinks, newest change first', { query: since }),
  row('GET /sinks/:id', 'object', 'A log sink'),
  row('DELETE /sinks/:id', 'object', 'Remove a log sink'),
  row('PUT /domain', 'object', 'Move the cluster to another domain; done when its event comes', {
    body: t.DomainMigrationInput,
  }),
  row('GET /audit-log', 'list', 'Who changed what, newest first', {
    query: {
      app: 'id or name, as the call named it',
      actor: 'label or fingerprint of a key or token',
      method: 'POST, PUT or DELETE',
      since: 'RFC 3339 time',
      until: 'RFC 3339 time',
      before_id: 'only older ones',
      result: 'ok or failed',
      reports: 'true: what the scheduler reported, too',
      count: 'at most so many, 1 to 1000; 100 when absent',
    },
  }),
  row('GET /.well-known/status', 'object', 'Health of the controller'),
  row('GET /status', 'object', 'The same as /.well-known/status'),
  row('GET /metrics', 'text', 'Figures of this process for Prometheus'),
  row('GET /openapi.json', 'object', 'This document'),
  row('GET /ca-cert', 'text', 'Certificate authority of the cluster, PEM', { free: true }),
  row('GET /ping', 'empty', 'Whether the process is there', { free: true }),
]

export const endpoints: readonly Endpoint[] = [
  ...apps,
  ...releases,
  ...running,
  ...routing,
  ...resources,
  ...volumes,
  ...cluster,
]

const byCall = new Map(endpoints.map(e => [`${e.method} ${e.path}`, e]))

/** The row of a request's route; undefined for one that is not in the table. */
export function endpointOf(method: string, path: string | undefined): Endpoint | undefined {
  return byCall.get(`${method} ${path ?? ''}`)
}
