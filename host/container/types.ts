// The border between the jobs of a host and the engines that carry them: what a job asks for in plain values, and
// what the container runtime, layer store, volume store and network promise. No engine's own types cross it.
import type { Readable } from 'node:stream'

export type ContainerMount = {
  readonly source: string
  /** Absolute path inside the container. */
  readonly target: string
  readonly writeable: boolean
  /** A file system type mounted with `data` and `flags`; a recursive bind when absent. */
  readonly device?: string
  readonly data?: string
  readonly flags?: number
}

export type ContainerDevice = {
  readonly type: 'c' | 'b' | 'u' | 'p'
  readonly path?: string
  /** -1 is a wildcard. */
  readonly major: number
  readonly minor: number
  readonly permissions: string
  readonly fileMode?: number
  readonly uid?: number
  readonly gid?: number
}

export type ContainerLimits = {
  readonly memoryBytes?: number
  /** Relative weight in thousandths of a core (contract host.md 3.8). */
  readonly cpuMilli?: number
  readonly processes?: number
  readonly openFiles?: { readonly soft: number; readonly hard: number }
  /** Size of the writable root. */
  readonly tempDiskBytes: number
}

export type ContainerSpec = {
  /** The job id; also the containerd container id and the last part of the cgroup path. */
  readonly id: string
  readonly args: readonly string[]
  readonly env: Readonly<Record<string, string>>
  readonly cwd: string
  readonly uid: number
  readonly gid: number
  readonly hostname: string
  readonly partition: string
  readonly tty: boolean
  readonly stdin: boolean
  readonly size?: { readonly rows: number; readonly columns: number }
  /** Mounted layer directories, bottom first. */
  readonly layers: readonly string[]
  readonly mounts: readonly ContainerMount[]
  readonly hostNetwork: boolean
  readonly hostPidNamespace: boolean
  /** Address of the container on the bridge, without prefix length; absent with hostNetwork. */
  readonly address?: string
  readonly limits: ContainerLimits
  readonly capabilities: readonly string[]
  readonly allowedDevices: readonly ContainerDevice[]
  readonly createdDevices: readonly ContainerDevice[]
  readonly writeableCgroups: boolean
  /** Off for jobs that must change their privileges (builders). */
  readonly noNewPrivileges: boolean
  readonly seccomp: boolean
  /**
   * Runs `args` under a minimal init as process 1, which passes signals on and reaps orphans: without it a program
   * that sets no handler for SIGTERM cannot be ended by SIGTERM. Off for programs that are an init themselves.
   */
  readonly init?: boolean
}

export type ContainerExit = {
  /** 0-255; 128 + n after signal n. */
  readonly status: number
  /** True when the kernel ended the container's first process for lack of memory. */
  readonly oomKilled: boolean
  readonly at: Date
}

/** Where a container's output lies or flows: files for plain jobs, named pipes for tty and stdin jobs. */
export type ContainerStdio = {
  /** Regular file, or FIFO when tty or stdin. With tty everything is on stdout. */
  readonly stdout: string
  readonly stderr: string | undefined
  readonly stdin: string | undefined
}

export type RunningContainer = {
  readonly id: string
  readonly pid: number
  readonly status: 'created' | 'running' | 'stopped'
}

/** Engine of containers. Every call may reject with an entry of host/errors.ts; all are safe to repeat. */
export interface ContainerRuntime {
  /** Starts or finds containerd, keeps it running, reconnects for ever. Resolves once it answers. */
  open(signal: AbortSignal): Promise<void>
  /** Rootfs, cgroup, namespaces and network are made, nothing runs yet. A failed create leaves nothing behind. */
  create(spec: ContainerSpec): Promise<{ readonly pid: number; readonly stdio: ContainerStdio }>
  start(id: string): Promise<void>
  /**
   * Resolves when the container's first process has ended, also when that happened while this daemon or containerd
   * was away; survives restarts of containerd. A container that is gone without a trace rejects CONTAINER_LOST.
   */
  wait(id: string, signal: AbortSignal): Promise<ContainerExit>
  signal(id: string, signal: number): Promise<void>
  resize(id: string, rows: number, columns: number): Promise<void>
  /** Stdin ends after everything written to it was read; the caller closes its own writer too. */
  closeStdin(id: string): Promise<void>
  /** Removes task, container, overlay, temp disk and job directory; ends what still runs. Unknown ids are fine. */
  remove(id: string): Promise<void>
  /** Everything containerd knows, after a restart of anything. */
  list(): Promise<readonly RunningContainer[]>
  stdio(id: string): ContainerStdio
  /** Called with the job id whenever the kernel kills a process of it for lack of memory. */
  onOom(listener: (id: string) => void): void
  usage(
    id: string,
  ): Promise<{ readonly memoryBytes: number; readonly cpuNs: number; readonly processes: number }>
  /** Stops talking to containerd and leaves it and all containers running. */
  close(): Promise<void>
}

export type LayerRequest = {
  readonly id: string
  readonly url?: string
  readonly sizeBytes: number
  /** Hex digests by algorithm: sha256, sha512, sha512_256; at least one. */
  readonly hashes: Readonly<Record<string, string>>
  readonly meta?: Readonly<Record<string, string>>
}

/** Image layers of this host: fetched once, verified, mounted once, counted by user. */
export interface LayerStore {
  open(): Promise<void>
  /** Path of the mounted layer; concurrent requests for one layer share one fetch. */
  acquire(layer: LayerRequest, user: string, signal: AbortSignal): Promise<string>
  /** The user needs none of its layers any more; unused layers are unmounted, files stay cached. */
  release(user: string): Promise<void>
  /** After a daemon restart: these users hold these layers already. */
  adopt(user: string, layerIds: readonly string[]): Promise<void>
  /** After the last `adopt` of a start: unmounts what nobody holds. */
  sweep(): Promise<void>
}

export type VolumeType = 'data' | 'snapshot'

export type Volume = {
  readonly id: string
  readonly type: VolumeType
  readonly meta: Readonly<Record<string, string>>
  readonly createdAt: Date
  /** Where it is mounted on the host. */
  readonly path: string
  /** Of a snapshot: the volume that it was taken of. */
  readonly snapshotOf?: string
  readonly quotaBytes?: number
}

export type VolumeEvent = { readonly type: 'create' | 'destroy'; readonly volume: Volume }

export type TransferStream = {
  readonly stream: Readable
  /** Ends it before its time. */
  readonly stop: () => void
}

/** Data volumes on ZFS. */
export interface VolumeStore {
  /** Pool adopted, imported or created; every known volume mounted. One broken volume does not stop the others. */
  open(signal: AbortSignal): Promise<void>
  list(): readonly Volume[]
  get(id: string): Volume | undefined
  create(options: {
    readonly id?: string
    readonly meta?: Readonly<Record<string, string>>
    readonly quotaBytes?: number
    /** Not mounted: it is filled from another host. */
    readonly unmounted?: boolean
  }): Promise<Volume>
  destroy(id: string): Promise<void>
  /** A snapshot by this name that carries no meta: for copies to other hosts. */
  mark(id: string, snapshotId: string): Promise<Volume>
  /** Writes are refused, or taken again. */
  setReadonly(id: string, readonly: boolean): Promise<void>
  /** What was created unmounted is a volume like any other from now on. */
  mount(id: string): Promise<void>
  /** The snapshot as a stream that carries its own checksum; after `base`, only what differs. */
  send(snapshotId: string, base: string | undefined): TransferStream
  /** Fills an unmounted volume; answers the bytes read. Rejects, and keeps what was there, unless the stream was whole. */
  receive(id: string, stream: Readable, signal: AbortSignal): Promise<number>
  snapshot(id: string): Promise<Volume>
  clone(snapshotId: string, meta?: Readonly<Record<string, string>>): Promise<Volume>
  onEvent(listener: (event: VolumeEvent) => void): void
  close(): Promise<void>
}

export type NetworkState = {
  /** Bridge address with prefix length, e.g. 100.100.5.1/24. */
  readonly subnet: string
  readonly bridgeAddress: string
  readonly mtu: number
  /** Upstream name servers of the host. */
  readonly resolvers: readonly string[]
}

/** A host as the overlay knows it. */
export type NetworkPeer = {
  /** Network address and prefix length of its containers. */
  readonly subnet: string
  readonly publicIp: string
}

/** The host's bridge, addresses and packet rules, and its way to the containers of other hosts. */
export interface HostNetwork {
  /** Idempotent: bridge, forwarding, NAT, filter rules, /etc/flynn/resolv.conf. */
  configure(subnet: string, mtu: number): Promise<NetworkState>
  readonly state: NetworkState | undefined
  /** Only these addresses may reach this host's etcd and send it packets of the overlay. */
  setClusterHosts(addresses: readonly string[]): Promise<void>
  /**
   * Routes and neighbours for exactly these other hosts; `publicIp` is this host's own address. Idempotent, after
   * `configure`.
   */
  connect(publicIp: string, peers: readonly NetworkPeer[]): Promise<void>
  /**
   * Packets to exactly these subnets, of hosts that are dead, are refused, TCP with a reset; forgotten after `refusedForMs`
   * unless it is told again.
   */
  refuse(subnets: readonly string[]): Promise<void>
  allocate(jobId: string): string
  /** After a daemon restart: this job has this address already. */
  reserve(jobId: string, address: string): void
  release(jobId: string): Promise<void>
  /** Joins a created container to the bridge, by its pid, before it starts. */
  attach(jobId: string, pid: number, address: string): Promise<void>
  /** System jobs may reach etcd on the host; others may not. */
  allowSystem(address: string, allowed: boolean): Promise<void>
}
