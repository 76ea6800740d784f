// What others import to talk to the controller: the CLI, scheduler, worker, router, bootstrap and system apps.
// Every method rejects with FlynnError; a missing object is `isNotFound(e)`. Names are accepted where `app` or
// `provider` is asked for (contract controller.md 1.8).
import type { Readable } from 'node:stream'
import type { Attachment } from '../host/client.ts'
import { type Call, ClusterClient, seg } from './client/cluster.ts'
import type { ConnectOptions } from './client/connect.ts'
import type { FormationChange, LogOptions, VolumeChange } from './client/options.ts'
import {
  type EventFilter,
  type EventStreamOptions,
  type RouteChange,
  type RouteStreamOptions,
  streamRoutes,
} from './client/streams.ts'
import { isNotFound } from './errors.ts'
import type * as t from './types.ts'

export { orUndefined, uploadTimeoutMs } from './client/cluster.ts'
export { SchedulerClient, schedulerService } from './client/scheduler.ts'
/** How a host job is made of what the controller knows; the bootstrap starts the first jobs with it. */
export { formationHostJob, jobMetaKeys, processVolumes, volumeMetadata } from './hostjob.core.ts'
export type { Attachment, ConnectOptions, EventFilter, EventStreamOptions, RouteChange, RouteStreamOptions }
export { isNotFound }

export const controllerUrl = 'http://controller.discoverd'
/** Provisioning a database or cluster may take minutes. */
export const provisionTimeoutMs = 330_000

export class ControllerClient extends ClusterClient {
  // Apps
  createApp(app: t.AppInput, call?: Call): Promise<t.App> {
    return this.http.post('/apps', app, call)
  }
  apps(call?: Call): Promise<t.App[]> {
    return this.http.get('/apps', call)
  }
  app(app: string, call?: Call): Promise<t.App> {
    return this.http.get(`/apps/${seg(app)}`, call)
  }
  updateApp(app: string, update: t.AppUpdate, call?: Call): Promise<t.App> {
    return this.http.post(`/apps/${seg(app)}`, update, call)
  }
  /** Replaces the whole meta map. */
  updateAppMeta(app: string, meta: Record<string, string>, call?: Call): Promise<t.App> {
    return this.http.post(`/apps/${seg(app)}/meta`, { meta }, call)
  }
  /** Asynchronous: done when an `app_deletion` event of the app says so. */
  async deleteApp(app: string, call?: Call): Promise<void> {
    await this.http.delete(`/apps/${seg(app)}`, call)
  }
  async scheduleAppGc(app: string, call?: Call): Promise<void> {
    await this.http.post(`/apps/${seg(app)}/gc`, undefined, call)
  }
  /** Newline-delimited JSON messages; the caller reads to the end or destroys it. */
  async appLog(app: string, options: LogOptions = {}): Promise<Readable> {
    const res = await this.http.raw('GET', `/apps/${seg(app)}/log`, {
      timeoutMs: 0,
      signal: options.signal,
      headers: { accept: '*/*' },
      query: {
        follow: options.follow ? true : undefined,
        lines: options.lines,
        job_id: options.jobId,
        process_type: options.processType,
        stream_types: options.streamTypes?.join(','),
      },
    })
    return res.body
  }

  // Artifacts and releases
  createArtifact(artifact: t.ArtifactInput, call?: Call): Promise<t.Artifact> {
    return this.http.post('/artifacts', artifact, call)
  }
  artifacts(call?: Call): Promise<t.Artifact[]> {
    return this.http.get('/artifacts', call)
  }
  artifact(id: string, call?: Call): Promise<t.Artifact> {
    return this.http.get(`/artifacts/${seg(id)}`, call)
  }
  /** `app_id` is the app's uuid; names are not resolved in it. */
  createRelease(release: t.ReleaseInput, call?: Call): Promise<t.Release> {
    return this.http.post('/releases', release, call)
  }
  releases(call?: Call): Promise<t.Release[]> {
    return this.http.get('/releases', call)
  }
  release(id: string, call?: Call): Promise<t.Release> {
    return this.http.get(`/releases/${seg(id)}`, call)
  }
  appReleases(app: string, call?: Call): Promise<t.Release[]> {
    return this.http.get(`/apps/${seg(app)}/releases`, call)
  }
  /** The current release; rejects with not found when the app has none yet. */
  appRelease(app: string, call?: Call): Promise<t.Release> {
    return this.http.get(`/apps/${seg(app)}/release`, call)
  }
  setAppRelease(app: string, releaseId: string, call?: Call): Promise<t.Release> {
    return this.http.put(`/apps/${seg(app)}/release`, { id: releaseId }, call)
  }
  /** Maybe asynchronous: done when a `release_deletion` event of the release says so. */
  async deleteRelease(app: string, releaseId: string, call?: Call): Promise<void> {
    await this.http.delete(`/apps/${seg(app)}/releases/${seg(releaseId)}`, call)
  }

  // Formations and scale requests
  formation(app: string, releaseId: string, call?: Call): Promise<t.Formation> {
    return this.http.get(`/apps/${seg(app)}/formations/${seg(releaseId)}`, call)
  }
  expandedFormation(app: string, releaseId: string, call?: Call): Promise<t.ExpandedFormation> {
    return this.http.get(`/apps/${seg(app)}/formations/${seg(releaseId)}`, {
      ...call,
      query: { expand: true },
    })
  }
  formations(app: string, call?: Call): Promise<t.Formation[]> {
    return this.http.get(`/apps/${seg(app)}/formations`, call)
  }
  /** Formations of all apps whose counts are not all zero. */
  activeFormations(call?: Call): Promise<t.ExpandedFormation[]> {
    return this.http.get('/formations', { ...call, query: { active: true } })
  }
  /** Merges per type: types not named keep their count. Without `processes` every type goes to 0. */
  putFormation(
    app: string,
    releaseId: string,
    formation: t.FormationInput,
    call?: Call,
  ): Promise<t.Formation> {
    return this.http.put(`/apps/${seg(app)}/formations/${seg(releaseId)}`, formation, call)
  }
  async deleteFormation(app: string, releaseId: string, call?: Call): Promise<void> {
    await this.http.delete(`/apps/${seg(app)}/formations/${seg(releaseId)}`, call)
  }
  /** Formations changed since `since` (all when absent), `current`, then each change by a scale request. One connection. */
  async *streamFormations(
    options: { readonly since?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<FormationChange> {
    const stream = this.http.events<t.ExpandedFormation | { app?: undefined }>('/formations', {
      query: { since: options.since ?? '0001-01-01T00:00:00Z' },
      signal: options.signal,
    })
    for await (const { value } of stream)
      yield value.app === undefined ? { kind: 'current' } : { kind: 'formation', formation: value }
  }
  /** Asks for counts or tags; `scale_request` events of the answer's id tell `complete` or `cancelled`. */
  createScale(
    app: string,
    releaseId: string,
    request: Pick<t.ScaleRequestInput, 'new_processes' | 'new_tags'>,
    call?: Call,
  ): Promise<t.ScaleRequest> {
    return this.putScale(app, releaseId, { ...request, state: 'pending' }, call)
  }
  /** With another state than pending: records the state of the request whose id the body has; send the full object. */
  putScale(
    app: string,
    releaseId: string,
    request: t.ScaleRequestInput,
    call?: Call,
  ): Promise<t.ScaleRequest> {
    return this.http.put(`/apps/${seg(app)}/scale/${seg(releaseId)}`, request, call)
  }

  // Jobs
  /** Starts a one-off job and leaves it alone. */
  runJob(app: string, job: t.NewJob, call: Call = {}): Promise<t.Job> {
    return this.http.post(`/apps/${seg(app)}/jobs`, job, { timeoutMs: 60_000, retryMs: 0, ...call })
  }
  /** Starts a one-off job attached to it. */
  async runJobAttached(
    app: string,
    job: t.NewJob,
    options: { signal?: AbortSignal } = {},
  ): Promise<Attachment> {
    // Loaded when it is called for: the host's protocol and types come with it.
    const { attachJob } = await import('./client/attach.ts')
    return attachJob({
      url: this.url,
      key: this.key,
      token: this.token,
      app,
      job,
      connect: this.connect,
      signal: options.signal,
    })
  }
  jobs(app: string, call?: Call): Promise<t.Job[]> {
    return this.http.get(`/apps/${seg(app)}/jobs`, call)
  }
  /** By cluster id or bare uuid. */
  job(app: string, id: string, call?: Call): Promise<t.Job> {
    return this.http.get(`/apps/${seg(app)}/jobs/${seg(id)}`, call)
  }
  /** Why a job is where it is, or why it is nowhere. */
  explainJob(app: string, id: string, call?: Call): Promise<t.JobExplanation> {
    return this.http.get(`/apps/${seg(app)}/jobs/${seg(id)}/explanation`, call)
  }
  /** Pending, starting, up and stopping jobs of all apps. */
  activeJobs(call?: Call): Promise<t.Job[]> {
    return this.http.get('/active-jobs', call)
  }
  /** Records a job as the scheduler sees it. */
  putJob(job: t.Job, call?: Call): Promise<t.Job> {
    return this.http.put(`/apps/${seg(job.app ?? '-')}/jobs/${seg(job.uuid)}`, job, call)
  }
  async killJob(app: string, id: string, call: Call = {}): Promise<void> {
    await this.http.delete(`/apps/${seg(app)}/jobs/${seg(id)}`, { retryMs: 0, timeoutMs: 60_000, ...call })
  }

  // Deployments
  /** `finished_at` is set at once when there was nothing to replace. */
  createDeployment(app: string, releaseId: string, call?: Call): Promise<t.Deployment> {
    return this.http.post(`/apps/${seg(app)}/deploy`, { id: releaseId }, call)
  }
  deployments(app: string, call?: Call): Promise<t.Deployment[]> {
    return this.http.get(`/apps/${seg(app)}/deployments`, call)
  }
  deployment(id: string, call?: Call): Promise<t.Deployment> {
    return this.http.get(`/deployments/${seg(id)}`, call)
  }
  /** Events of one deployment from its beginning; the caller ends at `complete` or `failed`. */
  streamDeployment(
    deployment: Pick<t.Deployment, 'id' | 'app'>,
    options: { readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<t.ControllerEvent<t.DeploymentEvent>> {
    return this.streamEvents({
      app: deployment.app,
      types: ['deployment'],
      objectId: deployment.id,
      past: true,
      signal: options.signal,
    }) as AsyncGenerator<t.ControllerEvent<t.DeploymentEvent>>
  }

  // Routes
  createRoute(app: string, route: t.RouteInput, call?: Call): Promise<t.Route> {
    return this.http.post(`/apps/${seg(app)}/routes`, route, call)
  }
  /** Of all apps, with certificates and keys. */
  routes(call?: Call): Promise<t.Route[]> {
    return this.http.get('/routes', call)
  }
  appRoutes(app: string, call?: Call): Promise<t.Route[]> {
    return this.http.get(`/apps/${seg(app)}/routes`, call)
  }
  /** `id` is `<type>/<uuid>`. */
  route(app: string, id: string, call?: Call): Promise<t.Route> {
    return this.http.get(`/apps/${seg(app)}/routes/${id}`, call)
  }
  updateRoute(app: string, id: string, route: t.RouteInput, call?: Call): Promise<t.Route> {
    return this.http.put(`/apps/${seg(app)}/routes/${id}`, route, call)
  }
  async deleteRoute(app: string, id: string, call?: Call): Promise<void> {
    await this.http.delete(`/apps/${seg(app)}/routes/${id}`, call)
  }
  /** Of the last minute, from all routers. */
  routeTraffic(app: string, call?: Call): Promise<t.RouteTraffic[]> {
    return this.http.get(`/apps/${seg(app)}/route-stats`, call)
  }
  /** All routes, then every change, for ever; a new `sync` after each lost connection. For the router. */
  streamRoutes(options: RouteStreamOptions): AsyncGenerator<RouteChange> {
    return streamRoutes(this.http, options)
  }

  // Providers and resources
  createProvider(provider: t.ProviderInput, call?: Call): Promise<t.Provider> {
    return this.http.post('/providers', provider, call)
  }
  providers(call?: Call): Promise<t.Provider[]> {
    return this.http.get('/providers', call)
  }
  provider(provider: string, call?: Call): Promise<t.Provider> {
    return this.http.get(`/providers/${seg(provider)}`, call)
  }
  /** Has the provider make one and links it to the apps. */
  provisionResource(provider: string, request: t.ResourceRequest, call: Call = {}): Promise<t.Resource> {
    const body = { config: null, ...request }
    return this.http.post(`/providers/${seg(provider)}/resources`, body, {
      timeoutMs: provisionTimeoutMs,
      retryMs: 0,
      ...call,
    })
  }
  /** Records one that exists already, under an id of the caller's choice. */
  putResource(provider: string, id: string, resource: t.ResourceInput, call?: Call): Promise<t.Resource> {
    return this.http.put(`/providers/${seg(provider)}/resources/${seg(id)}`, resource, call)
  }
  resources(call?: Call): Promise<t.Resource[]> {
    return this.http.get('/resources', call)
  }
  providerResources(provider: string, call?: Call): Promise<t.Resource[]> {
    return this.http.get(`/providers/${seg(provider)}/resources`, call)
  }
  appResources(app: string, call?: Call): Promise<t.Resource[]> {
    return this.http.get(`/apps/${seg(app)}/resources`, call)
  }
  resource(provider: string, id: string, call?: Call): Promise<t.Resource> {
    return this.http.get(`/providers/${seg(provider)}/resources/${seg(id)}`, call)
  }
  /** Has the provider destroy it and forgets it. */
  deleteResource(provider: string, id: string, call: Call = {}): Promise<t.Resource> {
    return this.http.delete(`/providers/${seg(provider)}/resources/${seg(id)}`, {
      timeoutMs: provisionTimeoutMs,
      retryMs: 0,
      ...call,
    })
  }
  linkResource(provider: string, id: string, app: string, call?: Call): Promise<t.Resource> {
    const path = `/providers/${seg(provider)}/resources/${seg(id)}/apps/${seg(app)}`
    return this.http.put(path, undefined, call)
  }
  unlinkResource(provider: string, id: string, app: string, call?: Call): Promise<t.Resource> {
    return this.http.delete(`/providers/${seg(provider)}/resources/${seg(id)}/apps/${seg(app)}`, call)
  }

  // Volumes
  volumes(call?: Call): Promise<t.Volume[]> {
    return this.http.get('/volumes', call)
  }
  appVolumes(app: string, call?: Call): Promise<t.Volume[]> {
    return this.http.get(`/apps/${seg(app)}/volumes`, call)
  }
  appVolume(app: string, id: string, call?: Call): Promise<t.Volume> {
    return this.http.get(`/apps/${seg(app)}/volumes/${seg(id)}`, call)
  }
  putVolume(volume: t.Volume, call?: Call): Promise<t.Volume> {
    return this.http.put(`/volumes/${seg(volume.id)}`, volume, call)
  }
  decommissionVolume(app: string, volume: t.Volume, call?: Call): Promise<t.Volume> {
    return this.http.put(`/apps/${seg(app)}/volumes/${seg(volume.id)}/decommission`, volume, call)
  }
  async *streamVolumes(
    options: { readonly since?: string; readonly signal?: AbortSignal } = {},
  ): AsyncGenerator<VolumeChange> {
    const stream = this.http.events<t.Volume>('/volumes', {
      query: { since: options.since ?? '0001-01-01T00:00:00Z' },
      signal: options.signal,
    })
    for await (const { value } of stream)
      yield value.id === '' ? { kind: 'current' } : { kind: 'volume', volume: value }
  }
}
