// Between the wire and the scheduler's own terms: host jobs, formations, volumes, recorded jobs in; jobs and volumes to
// record out. Pure; the rim calls these at its edges.
import type { ActiveJob, Resources, VolumeInfo } from '../../host/types.ts'
import { capacityMeta, statusName } from '../../host/types.ts'
import {
  jobMetaKeys,
  processVolumes,
  publicJobMeta,
  resourceLimitDefaults,
  volumeMetaKeys,
  withResourceDefaults,
} from '../hostjob.core.ts'
import {
  type ExpandedFormation,
  handoverStrategies,
  isSystemApp,
  metaKeys,
  type Job as WireJob,
  type Volume as WireVolume,
} from '../types.ts'
import {
  type Asks,
  type Copy,
  type Formation,
  formationKey,
  type Host,
  type HostJob,
  type Job,
  type Process,
  type RecordedJob,
  type Volume,
  type WireState,
} from './state.core.ts'

/** Milliseconds of an RFC 3339 time; undefined for an absent one and for Go's zero time. */
function toMs(time: string | undefined): number | undefined {
  if (time === undefined || time.startsWith('0001-')) return undefined
  const ms = Date.parse(time)
  return Number.isNaN(ms) ? undefined : ms
}

/** Microseconds of an RFC 3339 time: formations that change twice in a millisecond must not be mixed up. */
export function toMicros(time: string): number {
  const fraction = /\.(\d{1,9})/.exec(time)?.[1] ?? ''
  const whole = toMs(time.replace(/\.\d+/, '')) ?? 0
  return whole * 1000 + Number(fraction.padEnd(6, '0').slice(0, 6))
}

function splitJobId(id: string): { readonly hostId: string; readonly uuid: string } | undefined {
  const dash = id.indexOf('-')
  if (dash <= 0 || dash === id.length - 1) return undefined
  return { hostId: id.slice(0, dash), uuid: id.slice(dash + 1) }
}

/** The bare uuid of a cluster job id `<host id>-<uuid>`. */
export function jobUuidOf(id: string | undefined): string | undefined {
  return id === undefined ? undefined : splitJobId(id)?.uuid
}

/** A host's job in our terms; undefined when its id is malformed or it is none of the controller's. */
export function fromActiveJob(active: ActiveJob): HostJob | undefined {
  const { job } = active
  const meta = job.metadata ?? {}
  const uuid = jobUuidOf(job.id)
  const appId = meta[jobMetaKeys.app]
  if (uuid === undefined || !appId) return undefined
  const startedMs = toMs(active.started_at)
  const endedMs = toMs(active.ended_at)
  return {
    uuid,
    hostId: active.host_id,
    status: statusName(active),
    appId,
    releaseId: meta[jobMetaKeys.release] ?? '',
    type: meta[jobMetaKeys.type] ?? '',
    formation: meta[jobMetaKeys.formation] === 'true',
    system: meta[metaKeys.systemApp] === 'true' || job.partition === 'system',
    meta: publicJobMeta(meta),
    args: job.config.args ?? [],
    volumes: (job.config.volumes ?? []).map(v => ({
      id: v.volume,
      path: v.target,
      deleteOnStop: v.delete_on_stop === true,
    })),
    createdMs: toMs(active.created_at) ?? 0,
    asks: asksOf(job.resources),
    ...(startedMs === undefined ? {} : { startedMs }),
    ...(endedMs === undefined ? {} : { endedMs }),
    ...(active.exit_status === undefined ? {} : { exitStatus: active.exit_status }),
    ...(active.error === undefined ? {} : { error: active.error }),
  }
}

/** What a job counts for on its host when its release says nothing of it. */
export const asksDefault: Asks = { memoryBytes: 32 * 1024 ** 2, cpuMillis: 10 }

/**
 * What placement counts. Releases are stored with the default limits filled in, as limit and as request (2.5): a request
 * that is the default was wished for by nobody, and a cluster of many small apps would be full with nothing running.
 */
export function asksOf(resources: Resources | undefined): Asks {
  const filled = withResourceDefaults(resources)
  const ask = (name: 'memory' | 'cpu', ifUnsaid: number): number => {
    const request = filled[name]?.request ?? undefined
    return request === undefined || request === resourceLimitDefaults[name] ? ifUnsaid : request
  }
  return { memoryBytes: ask('memory', asksDefault.memoryBytes), cpuMillis: ask('cpu', asksDefault.cpuMillis) }
}

/** What a host has, from its registration; a host of an older version does not tell. */
export function fromCapacity(
  meta: Readonly<Record<string, string>>,
): Pick<Host, 'memoryBytes' | 'cpuMillis'> {
  const [memory, cpu] = [meta[capacityMeta.memory], meta[capacityMeta.cpu]].map(Number)
  return { ...(memory ? { memoryBytes: memory } : {}), ...(cpu ? { cpuMillis: cpu } : {}) }
}

/** The part of an expanded formation that decisions need. */
export function fromFormation(expanded: ExpandedFormation): Formation {
  const { app, release } = expanded
  const processes = Object.entries(release.processes ?? {}).map(([type, p]): [string, Process] => [
    type,
    {
      omni: p.omni === true,
      ...(p.service ? { service: p.service } : {}),
      volumes: processVolumes(p),
      ...(p.host_network ? { hostNetwork: true } : {}),
      ...(p.shared_ports ? { sharedPorts: true } : {}),
      asks: asksOf(p.resources),
      args: p.args ?? [],
    },
  ])
  return {
    key: formationKey(app.id, release.id),
    appId: app.id,
    releaseId: release.id,
    system: isSystemApp(app),
    critical: app.meta[metaKeys.systemCritical] === 'true',
    ...(handoverStrategies.includes(app.strategy) ? { handover: true } : {}),
    meta: app.meta,
    updatedAtUs: toMicros(expanded.updated_at),
    counts: expanded.deleted ? {} : (expanded.processes ?? {}),
    tags: expanded.tags ?? {},
    processes: Object.fromEntries(processes),
    ...(expanded.pending_scale_request === undefined ? {} : { scale: expanded.pending_scale_request }),
  }
}

/** A volume as its host describes it; undefined for one that belongs to no app. */
export function fromHostVolume(hostId: string, volume: VolumeInfo): Volume | undefined {
  const meta = volume.meta ?? {}
  const appId = meta[volumeMetaKeys.app]
  // Neither a snapshot nor a copy on its way is a volume that a job could have.
  if (!appId || volume.type !== 'data' || volume.snapshot_of !== undefined || volume.fence) return undefined
  return {
    id: volume.id,
    hostId,
    appId,
    releaseId: meta[volumeMetaKeys.release] ?? '',
    type: meta[volumeMetaKeys.type] ?? '',
    path: meta[volumeMetaKeys.path] ?? '',
    deleteOnStop: meta[volumeMetaKeys.deleteOnStop] === 'true',
    state: 'created',
    decommissioned: false,
    createdMs: toMs(volume.created_at) ?? 0,
  }
}

/** A volume that is on its way between hosts; undefined for all others. */
export function fromFencedVolume(hostId: string, volume: VolumeInfo): Copy | undefined {
  const { id: volumeId, fence } = volume
  if (fence === undefined) return undefined
  if (fence.kind === 'incoming') return { volumeId, hostId, kind: 'incoming', peer: fence.source }
  return { volumeId, hostId, kind: 'retired', peer: fence.target, committed: fence.committed }
}

export function fromVolume(volume: WireVolume): Volume {
  return {
    id: volume.id,
    hostId: volume.host_id,
    appId: volume.app ?? '',
    releaseId: volume.release ?? '',
    type: volume.job_type ?? '',
    path: volume.path ?? '',
    deleteOnStop: volume.delete_on_stop === true,
    state: volume.state,
    decommissioned: volume.decommissioned_at !== undefined,
    createdMs: toMs(volume.created_at) ?? 0,
  }
}

export function toWireVolume(volume: Volume, jobUuid: string | undefined): WireVolume {
  return {
    id: volume.id,
    host_id: volume.hostId,
    type: 'data',
    state: volume.state,
    app: volume.appId,
    release: volume.releaseId,
    job_type: volume.type,
    path: volume.path,
    delete_on_stop: volume.deleteOnStop,
    ...(jobUuid === undefined ? {} : { job: jobUuid }),
  }
}

const wireStates: Readonly<Record<string, WireState>> = {
  pending: 'pending',
  blocked: 'pending',
  starting: 'starting',
  up: 'up',
  stopping: 'stopping',
}

/** `volumes`: those that the controller's table says the job holds. */
export function fromRecordedJob(job: WireJob, volumes: readonly string[]): RecordedJob {
  const runAtMs = toMs(job.run_at)
  return {
    uuid: job.uuid,
    appId: job.app ?? '',
    releaseId: job.release ?? '',
    type: job.type ?? '',
    state: wireStates[job.state ?? ''] ?? 'down',
    ...(job.host_id === undefined ? {} : { hostId: job.host_id }),
    restarts: job.restarts ?? 0,
    ...(runAtMs === undefined ? {} : { runAtMs }),
    updatedMs: toMs(job.updated_at) ?? 0,
    meta: job.meta ?? {},
    args: job.args ?? [],
    volumeIds: [...new Set([...(job.volumes ?? []), ...volumes])],
  }
}

/** A job as the controller records it; its host is known from the moment that one was asked. */
export function toWireJob(job: Job, state: WireState): WireJob {
  return {
    uuid: job.uuid,
    ...(job.hostId === undefined ? {} : { id: `${job.hostId}-${job.uuid}`, host_id: job.hostId }),
    app: job.appId,
    release: job.releaseId,
    ...(job.type === '' ? {} : { type: job.type }),
    state,
    args: [...job.args],
    volumes: [...job.volumeIds],
    ...(Object.keys(job.meta).length === 0 ? {} : { meta: { ...job.meta } }),
    ...(job.exitStatus === undefined ? {} : { exit_status: job.exitStatus }),
    ...(job.hostError === undefined ? {} : { host_error: job.hostError }),
    ...(job.notBeforeMs === 0 ? {} : { run_at: new Date(job.notBeforeMs).toISOString() }),
    ...(job.restarts === 0 ? {} : { restarts: job.restarts }),
  }
}

const volumesOf = (volumes: readonly WireVolume[], uuid: string): readonly string[] =>
  volumes.filter(v => v.job === uuid).map(v => v.id)

/** The controller's active jobs together with the volumes that its table gives them. */
export function fromRecordedJobs(jobs: readonly WireJob[], volumes: readonly WireVolume[]): RecordedJob[] {
  return jobs.map(job => fromRecordedJob(job, volumesOf(volumes, job.uuid)))
}
