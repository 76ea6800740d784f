// Wire types of the host API (contract host.md 2.3) as schemas: one definition validates, types and documents.
// Requests are validated at the edge with these; `null` members, which Go clients send for nil maps and lists, are
// taken as absent before that. Durations on the wire are integer nanoseconds.
import { type Static, Type } from 'typebox'

const StringMap = Type.Record(Type.String(), Type.String())
const UInt = Type.Integer({ minimum: 0 })

/** Emitted for times that have not come yet; clients test for this literal (contract host.md 0.2). */
export const zeroTime = '0001-01-01T00:00:00Z'

export const HealthCheck = Type.Object({
  type: Type.String(),
  /** Nanoseconds. */
  interval: Type.Optional(UInt),
  threshold: Type.Optional(UInt),
  kill_down: Type.Optional(Type.Boolean()),
  /** Nanoseconds. */
  start_timeout: Type.Optional(UInt),
  path: Type.Optional(Type.String()),
  host: Type.Optional(Type.String()),
  match: Type.Optional(Type.String()),
  status: Type.Optional(Type.Integer()),
})
export type HealthCheck = Static<typeof HealthCheck>

export const Service = Type.Object({
  name: Type.String(),
  create: Type.Optional(Type.Boolean()),
  check: Type.Optional(HealthCheck),
})
export type Service = Static<typeof Service>

export const Port = Type.Object({
  port: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  proto: Type.Optional(Type.String()),
  service: Type.Optional(Service),
})
export type Port = Static<typeof Port>

export const Mount = Type.Object({
  location: Type.String(),
  target: Type.Optional(Type.String()),
  writeable: Type.Optional(Type.Boolean()),
  device: Type.Optional(Type.String()),
  data: Type.Optional(Type.String()),
  flags: Type.Optional(Type.Integer()),
})
export type Mount = Static<typeof Mount>

export const VolumeBinding = Type.Object({
  target: Type.String(),
  volume: Type.String(),
  writeable: Type.Optional(Type.Boolean()),
  delete_on_stop: Type.Optional(Type.Boolean()),
})
export type VolumeBinding = Static<typeof VolumeBinding>

/** `type`, and the whole of it, as the original's integers: 99 'c', 98 'b', 117 'u', 112 'p'; -1 is a wildcard. */
export const Device = Type.Object({
  type: Type.Integer(),
  path: Type.Optional(Type.String()),
  major: Type.Integer(),
  minor: Type.Integer(),
  permissions: Type.Optional(Type.String()),
  file_mode: Type.Optional(UInt),
  uid: Type.Optional(UInt),
  gid: Type.Optional(UInt),
  allow: Type.Optional(Type.Boolean()),
})
export type Device = Static<typeof Device>

export const ContainerConfig = Type.Object({
  args: Type.Optional(Type.Array(Type.String())),
  tty: Type.Optional(Type.Boolean()),
  stdin: Type.Optional(Type.Boolean()),
  data: Type.Optional(Type.Boolean()),
  env: Type.Optional(StringMap),
  mounts: Type.Optional(Type.Array(Mount)),
  volumes: Type.Optional(Type.Array(VolumeBinding)),
  ports: Type.Optional(Type.Array(Port)),
  working_dir: Type.Optional(Type.String()),
  uid: Type.Optional(UInt),
  gid: Type.Optional(UInt),
  host_network: Type.Optional(Type.Boolean()),
  host_pid_namespace: Type.Optional(Type.Boolean()),
  disable_log: Type.Optional(Type.Boolean()),
  /** Absent: the default set. Empty: none. */
  linux_capabilities: Type.Optional(Type.Array(Type.String())),
  allowed_devices: Type.Optional(Type.Array(Device)),
  auto_created_devices: Type.Optional(Type.Array(Device)),
  writeable_cgroups: Type.Optional(Type.Boolean()),
})
export type ContainerConfig = Static<typeof ContainerConfig>

/** One image layer, bottom first in `Job.mountspecs`. */
export const Mountspec = Type.Object({
  type: Type.String(),
  id: Type.String(),
  url: Type.Optional(Type.String()),
  size: Type.Optional(UInt),
  hashes: Type.Optional(StringMap),
  meta: Type.Optional(StringMap),
})
export type Mountspec = Static<typeof Mountspec>

export const Resource = Type.Object({
  request: Type.Optional(Type.Integer()),
  limit: Type.Optional(Type.Integer()),
})
export type Resource = Static<typeof Resource>

/** Keys: memory (bytes), cpu (thousandths of a core), temp_disk (bytes), max_fd, max_procs. */
export const Resources = Type.Record(Type.String(), Resource)
export type Resources = Static<typeof Resources>

export const Job = Type.Object({
  id: Type.Optional(Type.String()),
  mountspecs: Type.Optional(Type.Array(Mountspec)),
  metadata: Type.Optional(StringMap),
  resources: Type.Optional(Resources),
  partition: Type.Optional(Type.String()),
  config: Type.Optional(ContainerConfig),
  resurrect: Type.Optional(Type.Boolean()),
  profiles: Type.Optional(Type.Array(Type.String())),
})
/** What a client asks for. */
export type JobRequest = Static<typeof Job>
/** What the host keeps and answers: id and config are always there. */
export type Job = JobRequest & { readonly id: string; readonly config: ContainerConfig }

/** Status integers on the wire; 0 is omitted (contract host.md 0.2). */
export const jobStatus = { starting: 0, running: 1, done: 2, crashed: 3, failed: 4 } as const
export type JobStatusName = keyof typeof jobStatus
export type JobStatus = (typeof jobStatus)[JobStatusName]

export type ActiveJob = {
  readonly job: Job
  readonly host_id: string
  /** Address on the bridge; absent for host-network jobs. */
  readonly internal_ip?: string
  readonly pid?: number
  readonly force_stop?: boolean
  /** Absent means 0, starting. */
  readonly status?: JobStatus
  readonly created_at: string
  readonly started_at: string
  readonly ended_at: string
  /** Set for done and crashed; 128 + n after signal n. */
  readonly exit_status?: number
  /** Why it failed; also said of a crashed job that the kernel ended for lack of memory. */
  readonly error?: string
}

export function statusName(job: Pick<ActiveJob, 'status'>): JobStatusName {
  const names = ['starting', 'running', 'done', 'crashed', 'failed'] as const
  return names[job.status ?? 0]
}

/** True while a job is starting or running. */
export function isActive(job: Pick<ActiveJob, 'status'>): boolean {
  return (job.status ?? 0) <= jobStatus.running
}

export type JobEventName = 'create' | 'start' | 'stop' | 'error' | 'cleanup'
/** `job` is the full record at the time of the event. Delivered in order. */
export type JobEvent = { readonly event: JobEventName; readonly job_id: string; readonly job: ActiveJob }

export const DiscoverdConfig = Type.Object({
  job_id: Type.Optional(Type.String()),
  url: Type.Optional(Type.String()),
  dns: Type.Optional(Type.String()),
})
export type DiscoverdConfig = Static<typeof DiscoverdConfig>

export const NetworkConfig = Type.Object({
  job_id: Type.Optional(Type.String()),
  /** Bridge address with prefix length, e.g. 100.100.5.1/24. */
  subnet: Type.String({ pattern: '^(\\d{1,3}\\.){3}\\d{1,3}/\\d{1,2}$' }),
  mtu: Type.Optional(Type.Integer({ minimum: 576, maximum: 65535 })),
  resolvers: Type.Optional(Type.Array(Type.String())),
})
export type NetworkConfig = Static<typeof NetworkConfig>

/** What a host has for its jobs. */
export type HostCapacity = {
  /** Bytes. */
  readonly memory: number
  /** Thousandths of a core. */
  readonly cpu: number
}

/** Keys of the capacity in the meta of a host's instance in discoverd. */
export const capacityMeta = { memory: 'memory', cpu: 'cpu' } as const

export type HostStatus = {
  readonly id: string
  /** Ours. */
  readonly resources?: HostCapacity
  readonly tags?: Readonly<Record<string, string>>
  readonly pid: number
  readonly url: string
  readonly discoverd?: DiscoverdConfig
  readonly network?: NetworkConfig
  readonly version: string
  readonly flags: readonly string[] | null
  /** When it was asked to give its jobs to other hosts; absent when it was not, or that was cancelled. Ours. */
  readonly draining_since?: string
}

/** Jobs that a host is told of, so that it can start their like (host/fix/patterns.ts). */
export const Patterns = Type.Array(Job, { maxItems: 10 })

export const Tags = StringMap
export type Tags = Static<typeof Tags>

export const ResourceCheck = Type.Object({
  ports: Type.Optional(Type.Array(Type.Object({ port: Port.properties.port, proto: Port.properties.proto }))),
})
export type ResourceCheck = Static<typeof ResourceCheck>

export const ProviderSpec = Type.Object({
  id: Type.Optional(Type.String()),
  kind: Type.Optional(Type.String()),
  metadata: Type.Optional(Type.Unknown()),
})
export type ProviderSpec = Static<typeof ProviderSpec>

/** Body of a volume's creation; everything may be left out. `quota_bytes` is ours. */
export const VolumeRequest = Type.Object({
  id: Type.Optional(Type.String({ pattern: '^$|^[A-Za-z0-9][A-Za-z0-9_.-]{0,127}$' })),
  type: Type.Optional(Type.String()),
  meta: Type.Optional(StringMap),
  created_at: Type.Optional(Type.String()),
  quota_bytes: Type.Optional(Type.Integer({ minimum: 1 })),
  /** Ours: it is to be filled from this host, and no job may have it before that is done. */
  incoming_from: Type.Optional(Type.String({ minLength: 1 })),
})
export type VolumeRequest = Static<typeof VolumeRequest>

/**
 * A copy of a volume that no job may use (volume/moves.ts). `retired`: its data is on its way to `target`, the last of it is
 * in `snapshot`; once committed it never comes back. `incoming`: it is filled from `source`; complete with the last snapshot.
 */
export type VolumeFence =
  | {
      readonly kind: 'retired'
      readonly target: string
      readonly snapshot: string
      readonly committed: boolean
    }
  | { readonly kind: 'incoming'; readonly source: string; readonly complete: boolean }

export type VolumeInfo = {
  readonly id: string
  readonly type: 'data' | 'squashfs' | 'ext2'
  readonly meta?: Readonly<Record<string, string>>
  readonly created_at: string
  readonly quota_bytes?: number
  /** Of a snapshot: the volume that it was taken of. Ours. */
  readonly snapshot_of?: string
  /** Ours. */
  readonly fence?: VolumeFence
}

/** Body of pull_snapshot (contract host.md 2.3). */
export const PullCoordinate = Type.Object({
  host_id: Type.String({ minLength: 1 }),
  snapshot_id: Type.String({ minLength: 1 }),
})
export type PullCoordinate = Static<typeof PullCoordinate>
/** One of the snapshots that the receiver has, in the body of `send`. */
export const SnapshotHave = Type.Object({ snap_id: Type.String() })
export const snapshotStreamType = 'application/vnd.zfs.snapshot-stream'
/** Header of `send`: the stream ends with the last that a retired volume has. */
export const finalSnapshotHeader = 'flynn-final-snapshot'

/** What a pull tells while it goes on (`Accept: text/event-stream`); the last one has the snapshot. Ours. */
export type PullProgress = { readonly bytes: number; readonly snapshot?: VolumeInfo }

export const RetireRequest = Type.Object({ target: Type.String({ minLength: 1 }) })
export type RetireRequest = Static<typeof RetireRequest>
export const MarkRequest = Type.Object({ keep: Type.Optional(Type.Array(Type.String(), { maxItems: 100 })) })
export type MarkRequest = Static<typeof MarkRequest>
export const ActivateRequest = Type.Object({ force: Type.Optional(Type.Boolean()) })
export type ActivateRequest = Static<typeof ActivateRequest>

export type VolumeInfoEvent = { readonly type: 'create' | 'destroy'; readonly volume: VolumeInfo }

/** `GET /host/jobs/:id/stats` (contract host.md 11, Metrics). */
export type JobStats = {
  readonly job_id: string
  readonly timestamp: string
  readonly memory_usage_bytes: number
  readonly cpu_usage_nanoseconds: number
  readonly pids_current: number
}

/** Body of `POST /host/join`: a host that wants to be let into the cluster. Ours. */
export const JoinRequest = Type.Object({
  id: Type.String({ minLength: 1, maxLength: 64 }),
  /** Address of the host, without a port. */
  address: Type.String({ pattern: '^[0-9a-fA-F.:]+$' }),
  version: Type.String({ maxLength: 128 }),
  /** It has been in the cluster before. */
  member: Type.Optional(Type.Boolean()),
})
export type JoinRequest = Static<typeof JoinRequest>

/** `hosts`: those known to the one that answers, itself among them. */
export type JoinAnswer = { readonly id: string; readonly hosts: readonly JoinRequest[] }

/** Bits of AttachRequest.flags (contract host.md 2.5). */
export const attachFlags = { stdout: 1, stderr: 2, stdin: 4, logs: 8, stream: 16, initLog: 32 } as const

export const AttachRequest = Type.Object({
  job_id: Type.String(),
  flags: Type.Optional(Type.Integer({ minimum: 0, maximum: 63 })),
  height: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
  width: Type.Optional(Type.Integer({ minimum: 0, maximum: 65535 })),
})
export type AttachRequest = Static<typeof AttachRequest>

/** The name and port the host's API is reached under. */
export const hostServiceName = 'flynn-host'
export const hostApiPort = 1113
/** Exit status of a daemon that cannot start before an operator has done something (EX_CONFIG of sysexits(3)). */
export const operatorNeededStatus = 78
export const attachProtocol = 'flynn-attach/0'
