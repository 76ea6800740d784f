// The part of the controller's client that is about the cluster as a whole: connection, events, sinks, domain, audit log,
// layers. `ControllerClient` (client.ts) adds the nouns of apps.
import type { Readable } from 'node:stream'
import { HttpClient, type RequestOptions } from '../../pkg/http/client.ts'
import { isNotFound } from '../errors.ts'
import type * as t from '../types.ts'
import { type ConnectOptions, controllerAgents } from './connect.ts'
import type { ControllerClientOptions, SinkChange } from './options.ts'
import { type EventFilter, type EventStreamOptions, eventQuery, streamEvents } from './streams.ts'

/** For one layer, whole. */
export const uploadTimeoutMs = 30 * 60_000

export type Call = Pick<RequestOptions, 'signal' | 'retryMs' | 'timeoutMs'>
export const seg = encodeURIComponent

/** undefined instead of a rejection when the object does not exist. */
export async function orUndefined<T>(call: Promise<T>): Promise<T | undefined> {
  try {
    return await call
  } catch (e) {
    if (isNotFound(e)) return undefined
    throw e
  }
}

export class ClusterClient {
  readonly url: string
  protected readonly key: string
  protected readonly token: string | undefined
  protected readonly connect: ConnectOptions
  protected readonly http: HttpClient

  constructor(options: ControllerClientOptions) {
    this.url = options.url.replace(/\/+$/, '')
    this.key = options.key.split(',')[0]?.trim() ?? ''
    this.token = options.token
    this.connect = options.connect ?? {}
    this.http = new HttpClient({
      url: this.url,
      auth: this.token === undefined ? { basicPassword: this.key } : { bearer: this.token },
      agents: controllerAgents(this.connect),
      ...(options.retryMs === undefined ? {} : { retryMs: options.retryMs }),
    })
  }

  // Log sinks and the domain
  sinks(call?: Call): Promise<t.Sink[]> {
    return this.http.get('/sinks', call)
  }
  createSink(sink: t.SinkInput, call?: Call): Promise<t.Sink> {
    return this.http.post('/sinks', sink, call)
  }
  deleteSink(id: string, call?: Call): Promise<t.Sink> {
    return this.http.delete(`/sinks/${seg(id)}`, call)
  }
  /** Asynchronous: done when a `domain_migration` event has `finished_at`. The answer holds private keys. */
  migrateDomain(migration: t.DomainMigrationInput, call?: Call): Promise<t.DomainMigration> {
    return this.http.put('/domain', migration, call)
  }
  // Automatic certificates
  acmeConfig(call?: Call): Promise<t.AcmeConfig> {
    return this.http.get('/acme/config', call)
  }
  /** Changes what is named. */
  putAcmeConfig(config: t.AcmeConfigInput, call?: Call): Promise<t.AcmeConfig> {
    return this.http.put('/acme/config', config, call)
  }
  managedCertificates(call?: Call): Promise<t.ManagedCertificate[]> {
    return this.http.get('/managed-certificates', call)
  }
  /** Sinks as they are stored, `current`, then each change; a deleted one comes as `removed`. One connection. */
  async *streamSinks(
    options: { readonly since?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<SinkChange> {
    const stream = this.http.events<t.Sink>('/sinks', {
      query: { since: options.since ?? '0001-01-01T00:00:00Z' },
      signal: options.signal,
    })
    for await (const { value } of stream) {
      if (value.id === '') yield { kind: 'current' }
      else yield { kind: value.config === undefined ? 'removed' : 'sink', sink: value }
    }
  }
  /** Who changed what, newest first. */
  auditLog(filter: t.AuditFilter = {}, call?: Call): Promise<t.AuditEntry[]> {
    const { beforeId, ...rest } = filter
    return this.http.get('/audit-log', { ...call, query: { ...rest, before_id: beforeId } })
  }
  /** Asks the worker to give a deployment up and roll it back; its `failed` event tells when that is done. */
  cancelDeployment(id: string, call?: Call): Promise<t.Deployment> {
    return this.http.post(`/deployments/${seg(id)}/cancel`, undefined, call)
  }
  /** OpenAPI 3.1 document of this API. */
  openapi(call?: Call): Promise<Readonly<Record<string, unknown>>> {
    return this.http.get('/openapi.json', call)
  }

  // Events and the controller itself
  /** Stored events, newest first. */
  events(
    filter: EventFilter & { readonly beforeId?: number; readonly sinceId?: number; readonly count?: number },
    call?: Call,
  ): Promise<t.ControllerEvent[]> {
    const { beforeId, sinceId, count } = filter
    const query = { ...eventQuery(filter), before_id: beforeId, since_id: sinceId, count }
    return this.http.get('/events', { ...call, query })
  }
  event(id: number, call?: Call): Promise<t.ControllerEvent> {
    return this.http.get(`/events/${id}`, call)
  }
  /** Uploads a layer unless the cluster has it; `open` is called once for each attempt. */
  async uploadLayer(app: string, layer: { id: string; length: number }, open: () => Readable): Promise<void> {
    const path = `/apps/${seg(app)}/layers/${seg(layer.id)}`
    const known = await orUndefined(this.http.get<{ length: number }>(path))
    if (known?.length === layer.length) return
    const res = await this.http.raw('PUT', path, {
      body: open(),
      timeoutMs: uploadTimeoutMs,
      headers: { 'content-type': 'application/octet-stream' },
    })
    await res.body.dump()
  }
  streamEvents(options: EventStreamOptions): AsyncGenerator<t.ControllerEvent> {
    return streamEvents(this.http, options)
  }
  status(call?: Call): Promise<{ data: { status: string; detail?: unknown; version?: string } }> {
    return this.http.get('/.well-known/status', call)
  }
  async caCert(call?: Call): Promise<string> {
    return (await this.http.raw('GET', '/ca-cert', call ?? {})).body.text()
  }
}
