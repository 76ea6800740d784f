// What other components use to drive a host: jobs, events, attach, volumes, status (contract host.md 2). Errors come
// back as FlynnError with the host's code; `ratelimited` starts (429) are tried again until the deadline.
import type { Readable } from 'node:stream'
import { DiscoverdClient } from '../discoverd/client.ts'
import { HttpClient, type RequestOptions } from '../pkg/http/client.ts'
import { parseJobId } from '../pkg/ids/ids.ts'
import { type Attachment, dialAttach, openAttachment, type RawAttachment } from './attach/dial.ts'
import type { SinkInfo, SinkInput } from './sink/types.ts'
import {
  type ActiveJob,
  type AttachRequest,
  type DiscoverdConfig,
  finalSnapshotHeader,
  type HostStatus,
  hostApiPort,
  hostServiceName,
  type Job,
  type JobEvent,
  type JobRequest,
  type JobStats,
  type JoinAnswer,
  type JoinRequest,
  type NetworkConfig,
  type Port,
  type ProviderSpec,
  type PullCoordinate,
  type PullProgress,
  snapshotStreamType,
  type VolumeFence,
  type VolumeInfo,
  type VolumeInfoEvent,
  type VolumeRequest,
} from './types.ts'

export { type AttachFrame, encodeFrame, frameDecoder } from './attach/frames.core.ts'
export { isJobGone } from './errors.ts'
export type { Attachment, RawAttachment }
export { openAttachment }

/** A stop may take the whole grace of 30 s and the clean-up after it. */
export const stopJobTimeoutMs = 60_000
/** All jobs of the host are stopped. */
export const leaveTimeoutMs = 120_000
/** How long a refused start (429, all slots taken) is tried again. */
export const addJobRetryMs = 120_000

export type HostClientOptions = {
  /** http://<address>:1113 */
  readonly url: string
  readonly authKey?: string | undefined
}

type CallOptions = Pick<RequestOptions, 'signal' | 'retryMs' | 'timeoutMs'>

export class HostClient {
  readonly url: string
  readonly #http: HttpClient
  readonly #authKey: string | undefined

  constructor(options: HostClientOptions) {
    this.url = options.url
    this.#authKey = options.authKey
    this.#http = new HttpClient({
      url: options.url,
      auth: options.authKey === undefined ? undefined : { authKey: options.authKey },
    })
  }

  status(options?: CallOptions): Promise<HostStatus> {
    return this.#http.get('/host/status', options)
  }

  /** Shows a host to this one: rejects `unauthorized`, `version_mismatch` or `host_id_taken` when it turns it away. */
  join(host: JoinRequest, options?: CallOptions): Promise<JoinAnswer> {
    return this.#http.post('/host/join', host, options)
  }

  /** Jobs by id; with `active` only those that are starting or running. */
  jobs(options: CallOptions & { readonly active?: boolean } = {}): Promise<Record<string, ActiveJob>> {
    const { active, ...rest } = options
    return this.#http.get('/host/jobs', { ...rest, query: { active: active ? true : undefined } })
  }

  /** Rejects with `object_not_found` for an id this host never had. */
  job(id: string, options?: CallOptions): Promise<ActiveJob> {
    return this.#http.get(`/host/jobs/${encodeURIComponent(id)}`, options)
  }

  /**
   * Accepted and stored; the start goes on by itself, watch `jobEvents`. Rejects `conflict` when the id exists, and with
   * `unlessActive` also `process_active` when a job of the same app and process type is starting or running here.
   */
  async addJob(
    job: JobRequest & { readonly id: string },
    options: CallOptions & { readonly unlessActive?: boolean } = {},
  ): Promise<void> {
    const { unlessActive, ...rest } = options
    await this.#http.put(`/host/jobs/${encodeURIComponent(job.id)}`, job, {
      retryMs: addJobRetryMs,
      query: { unless_active: unlessActive ? true : undefined },
      ...rest,
    })
  }

  /** Lets the host show that it has the key of the cluster (proof.core.ts); needs none itself. */
  prove(nonce: string, options?: CallOptions): Promise<{ readonly proof?: unknown }> {
    return this.#http.get(`/host/prove/${encodeURIComponent(nonce)}`, options)
  }

  /** The hosts of the cluster as this one knows them, itself among them; also without discoverd. */
  hosts(options?: CallOptions): Promise<readonly JoinRequest[]> {
    return this.#http.get('/host/hosts', options)
  }

  /** Jobs that the host was told of, and may never have had. */
  patterns(options?: CallOptions): Promise<readonly Job[]> {
    return this.#http.get('/host/patterns', options)
  }
  /** In place of those of before. Rejects with `not_found` on a host of an older version. */
  async keepPatterns(jobs: readonly Job[], options?: CallOptions): Promise<void> {
    await this.#http.put('/host/patterns', jobs, options)
  }

  /** SIGTERM, SIGKILL 30 s later; resolves when the job has ended. */
  async stopJob(id: string, options: CallOptions = {}): Promise<void> {
    await this.#http.delete(`/host/jobs/${encodeURIComponent(id)}`, {
      timeoutMs: stopJobTimeoutMs,
      ...options,
    })
  }

  /** Log sinks of this host, those included that it made by itself. */
  sinks(options?: CallOptions): Promise<SinkInfo[]> {
    return this.#http.get('/sinks', options)
  }
  async putSink(sink: SinkInput & { readonly id: string }, options?: CallOptions): Promise<void> {
    await this.#http.put(`/sinks/${encodeURIComponent(sink.id)}`, sink, options)
  }
  async removeSink(id: string, options?: CallOptions): Promise<void> {
    await this.#http.delete(`/sinks/${encodeURIComponent(id)}`, options)
  }

  async signalJob(id: string, signal: number, options?: CallOptions): Promise<void> {
    await this.#http.put(`/host/jobs/${encodeURIComponent(id)}/signal/${signal}`, undefined, options)
  }

  /** Takes the job's services out of discoverd; the job runs on. */
  async deregisterJob(id: string, options?: CallOptions): Promise<void> {
    await this.#http.put(`/host/jobs/${encodeURIComponent(id)}/discoverd-deregister`, undefined, options)
  }

  jobStats(id: string, options?: CallOptions): Promise<JobStats> {
    return this.#http.get(`/host/jobs/${encodeURIComponent(id)}/stats`, options)
  }

  /**
   * Events of one job (whether it exists yet or not) or of all. Only what happens from now on, no replay: subscribe
   * (`onOpen` is called when the host has accepted), then list or add. Ends when the host closes.
   */
  async *jobEvents(
    options: { readonly id?: string; readonly signal?: AbortSignal; readonly onOpen?: () => void } = {},
  ): AsyncGenerator<JobEvent> {
    const path = options.id === undefined ? '/host/jobs' : `/host/jobs/${encodeURIComponent(options.id)}`
    for await (const { value } of this.#http.events<JobEvent>(path, {
      signal: options.signal,
      ...(options.onOpen === undefined ? {} : { onOpen: options.onOpen }),
    }))
      yield value
  }

  /** A parsed attachment: frames out, stdin, signals and sizes in. */
  async attach(request: AttachRequest, options: { signal?: AbortSignal } = {}): Promise<Attachment> {
    return openAttachment(await this.attachRaw(request, options))
  }

  /** The upgraded connection itself, for proxies that pass the bytes on. */
  attachRaw(request: AttachRequest, options: { signal?: AbortSignal } = {}): Promise<RawAttachment> {
    return dialAttach({ url: this.url, authKey: this.#authKey, request, signal: options.signal })
  }

  async setDiscoverd(config: DiscoverdConfig, options?: CallOptions): Promise<void> {
    await this.#http.post('/host/discoverd', config, options)
  }

  async setNetwork(config: NetworkConfig, options?: CallOptions): Promise<void> {
    await this.#http.post('/host/network', config, options)
  }

  /** Rejects `conflict` with `detail.ports` when something listens there already. */
  async checkPorts(ports: readonly Pick<Port, 'port' | 'proto'>[], options?: CallOptions): Promise<void> {
    await this.#http.post('/host/resource-check', { ports }, options)
  }

  /** Sets tags; an empty value removes one. */
  async setTags(tags: Readonly<Record<string, string>>, options?: CallOptions): Promise<void> {
    await this.#http.post('/host/tags', tags, options)
  }

  /** The host gives its jobs and volumes to others, and gets no new ones. Remembered over restarts; repeatable. */
  async drain(options?: CallOptions): Promise<void> {
    await this.#http.put('/host/drain', undefined, options)
  }

  /** The host takes jobs again. */
  async cancelDrain(options?: CallOptions): Promise<void> {
    await this.#http.delete('/host/drain', options)
  }

  /** The hosts of the cluster as this one knows them, those that are off too. */
  members(options?: CallOptions): Promise<readonly JoinRequest[]> {
    return this.#http.get('/host/members', options)
  }

  /** Takes another host out: its record, subnet and registration. It is turned away when it boots again. */
  async forgetHost(id: string, options?: CallOptions): Promise<void> {
    await this.#http.delete(`/host/members/${encodeURIComponent(id)}`, options)
  }

  /** Asked of the host that is removed: it stops its jobs, and its daemon ends. */
  async leave(options?: CallOptions): Promise<void> {
    await this.#http.post('/host/leave', {}, { timeoutMs: leaveTimeoutMs, retryMs: 0, ...options })
  }

  createProvider(spec: ProviderSpec, options?: CallOptions): Promise<ProviderSpec> {
    return this.#http.post('/storage/providers', spec, options)
  }

  createVolume(
    volume: VolumeRequest = {},
    options: CallOptions & { provider?: string } = {},
  ): Promise<VolumeInfo> {
    const { provider = 'default', ...rest } = options
    return this.#http.post(`/storage/providers/${encodeURIComponent(provider)}/volumes`, volume, {
      timeoutMs: 30_000,
      ...rest,
    })
  }

  volumes(options?: CallOptions): Promise<VolumeInfo[]> {
    return this.#http.get('/storage/volumes', options)
  }

  volume(id: string, options?: CallOptions): Promise<VolumeInfo> {
    return this.#http.get(`/storage/volumes/${encodeURIComponent(id)}`, options)
  }

  async destroyVolume(id: string, options: CallOptions = {}): Promise<void> {
    await this.#http.delete(`/storage/volumes/${encodeURIComponent(id)}`, { timeoutMs: 30_000, ...options })
  }

  snapshotVolume(id: string, options?: CallOptions): Promise<VolumeInfo> {
    return this.#http.put(`/storage/volumes/${encodeURIComponent(id)}/snapshot`, undefined, options)
  }

  /** A snapshot to be sent to another host; those of before go, but for `keep`, which that host has. */
  markVolume(id: string, keep: readonly string[], options?: CallOptions): Promise<VolumeInfo> {
    return this.#http.post(`/storage/volumes/${encodeURIComponent(id)}/mark`, { keep }, options)
  }

  /** The stream of a snapshot, without what is in the newest of `haves` that this host knows. */
  async sendSnapshot(
    id: string,
    haves: readonly string[],
    options: { readonly signal: AbortSignal; readonly silenceMaxMs: number },
  ): Promise<{ readonly body: Readable; readonly final: boolean }> {
    const body = JSON.stringify(haves.map(snap_id => ({ snap_id })))
    const res = await this.#http.raw('GET', `/storage/volumes/${encodeURIComponent(id)}/send`, {
      // Node frames the body of a GET only when told its length.
      headers: { accept: snapshotStreamType, 'content-length': String(Buffer.byteLength(body)) },
      body,
      signal: options.signal,
      timeoutMs: 0,
      headersTimeoutMs: options.silenceMaxMs,
      idleTimeoutMs: options.silenceMaxMs,
    })
    return { body: res.body, final: res.headers[finalSnapshotHeader] === id }
  }

  /** The host gets a snapshot of its incoming volume from another one; ends with the snapshot. */
  async *pullSnapshot(
    id: string,
    from: PullCoordinate,
    options: { readonly signal: AbortSignal },
  ): AsyncGenerator<PullProgress> {
    const path = `/storage/volumes/${encodeURIComponent(id)}/pull_snapshot`
    const events = this.#http.events<PullProgress>(path, {
      method: 'POST',
      json: from,
      retryMs: 0,
      ...options,
    })
    for await (const { value } of events) yield value
  }

  /** No job gets the volume any more; the fence names its last snapshot. */
  retireVolume(id: string, target: string, options?: CallOptions): Promise<VolumeFence> {
    return this.#http.put(`/storage/volumes/${encodeURIComponent(id)}/retired`, { target }, options)
  }

  /** The other way round; rejects `volume_committed` when the target has it. */
  async unretireVolume(id: string, options?: CallOptions): Promise<void> {
    await this.#http.delete(`/storage/volumes/${encodeURIComponent(id)}/retired`, options)
  }

  /** Between hosts: the volume lives on `target` from now on. */
  async commitVolume(id: string, target: string, options?: CallOptions): Promise<void> {
    await this.#http.put(`/storage/volumes/${encodeURIComponent(id)}/committed`, { target }, options)
  }

  /** An incoming volume that is complete goes into use. */
  async activateVolume(id: string, options: CallOptions & { readonly force?: boolean } = {}): Promise<void> {
    const { force, ...call } = options
    const body = force ? { force } : {}
    await this.#http.put(`/storage/volumes/${encodeURIComponent(id)}/active`, body, call)
  }

  /** Removes a fenced copy; rejects when it is another kind of copy. */
  async dropCopy(id: string, kind: VolumeFence['kind'], options?: CallOptions): Promise<void> {
    await this.#http.delete(`/storage/volumes/${encodeURIComponent(id)}`, {
      timeoutMs: 30_000,
      ...options,
      query: { fence: kind },
    })
  }

  /** A writeable volume with what the snapshot has. */
  cloneVolume(snapshotId: string, options?: CallOptions): Promise<VolumeInfo> {
    return this.#http.put(`/storage/volumes/${encodeURIComponent(snapshotId)}/clone`, undefined, options)
  }

  async *volumeEvents(options: { readonly signal?: AbortSignal } = {}): AsyncGenerator<VolumeInfoEvent> {
    for await (const { value } of this.#http.events<VolumeInfoEvent>('/storage/volumes', options)) yield value
  }
}

/** A member of the cluster as discoverd lists it (service flynn-host). */
export type ClusterHost = {
  readonly id: string
  /** address:1113 */
  readonly addr: string
  readonly tags: Readonly<Record<string, string>>
  /** It takes no new jobs. */
  readonly shutdown: boolean
  /** It gives its jobs to others and takes no new ones. */
  readonly draining: boolean
  readonly client: HostClient
}

/** The hosts registered in discoverd; empty when none are. `discoverd` has the form of env DISCOVERD. */
export async function listHosts(options: {
  readonly discoverd?: string | undefined
  readonly authKey?: string | undefined
  readonly signal?: AbortSignal
  /** How long discoverd is tried. */
  readonly timeoutMs?: number
}): Promise<readonly ClusterHost[]> {
  const discoverd = new DiscoverdClient({ servers: options.discoverd ?? '' })
  try {
    const instances = await discoverd.instances(hostServiceName, {
      signal: options.signal,
      ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    })
    return instances.map(i => ({
      id: i.meta?.['id'] ?? i.addr,
      addr: i.addr,
      tags: Object.fromEntries(
        Object.entries(i.meta ?? {})
          .filter(([k]) => k.startsWith('tag:'))
          .map(([k, v]) => [k.slice(4), v]),
      ),
      shutdown: i.meta?.['shutdown'] !== undefined,
      draining: i.meta?.['drain'] !== undefined,
      client: new HostClient({ url: `http://${i.addr}`, authKey: options.authKey }),
    }))
  } finally {
    await discoverd.close()
  }
}

/** The host that a job id names, out of `hosts`; undefined when the id is malformed or its host is unknown. */
export function hostOfJob(id: string, hosts: readonly ClusterHost[]): ClusterHost | undefined {
  const hostId = parseJobId(id)?.hostId
  return hosts.find(h => h.id === hostId)
}

export function hostUrl(address: string): string {
  return `http://${address}:${hostApiPort}`
}
