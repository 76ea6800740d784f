// From a job to a container: defaults, ports, environment with its precedence, limits, mounts, devices (contract
// host.md 3.3, 3.7, 3.8). Pure; the starter gives it what only the host knows.
import type { ContainerDevice, ContainerLimits, ContainerMount, ContainerSpec } from '../container/types.ts'
import { hostErrors } from '../errors.ts'
import type { ContainerConfig, Device, Job, Port } from '../types.ts'
import {
  defaultCapabilities,
  defaultDevices,
  defaultMemoryBytes,
  defaultPartition,
  defaultPath,
  defaultTempDiskBytes,
  firstAutomaticPort,
  hostnameCharsMax,
} from './defaults.core.ts'

/** What a profile of the job adds (contract host.md 3.7, profiles). */
export type ProfileParts = {
  readonly devices: readonly ContainerDevice[]
  readonly mounts: readonly ContainerMount[]
  readonly capabilities: readonly string[]
}

export const noProfile: ProfileParts = { devices: [], mounts: [], capabilities: [] }

export type SpecContext = {
  readonly externalIp: string
  readonly listenIp: string
  /** Value for DISCOVERD, once discoverd is known. */
  readonly discoverd: string | undefined
  /** Given to jobs of partition system only. */
  readonly authKey: string
  readonly address: string | undefined
  readonly layers: readonly string[]
  /** Host directory of each bound volume. */
  readonly volumePaths: Readonly<Record<string, string>>
  readonly profiles: ProfileParts
  readonly size?: { readonly rows: number; readonly columns: number } | undefined
}

/** The job as it will run: partition set, every port numbered and `PORT`, `PORT_<i>` in its environment. */
export function withDefaults(job: Job): Job {
  const ports = (job.config.ports ?? []).map(
    (port, i): Port => ({
      ...port,
      port: port.port || firstAutomaticPort + i,
      proto: port.proto || 'tcp',
    }),
  )
  const env: Record<string, string> = { ...job.config.env }
  ports.forEach((port, i) => {
    if (i === 0) env['PORT'] = String(port.port)
    env[`PORT_${i}`] = String(port.port)
  })
  const config: ContainerConfig = {
    ...job.config,
    ...(ports.length > 0 ? { ports } : {}),
    ...(job.config.env !== undefined || ports.length > 0 ? { env } : {}),
  }
  return { ...job, partition: job.partition || defaultPartition, config }
}

/** The part of a job id after its first dash, cut to what a host name may have. */
export function hostnameOf(id: string): string {
  const dash = id.indexOf('-')
  const name = dash >= 0 && dash < id.length - 1 ? id.slice(dash + 1) : id
  return name.slice(0, hostnameCharsMax)
}

/** Later wins: fixed names, the host's, the job's own, the container's address and name. */
export function environment(
  job: Job,
  context: Pick<SpecContext, 'externalIp' | 'listenIp' | 'discoverd' | 'authKey' | 'address'>,
): Readonly<Record<string, string>> {
  return {
    PATH: defaultPath,
    TERM: 'xterm',
    HOME: '/',
    EXTERNAL_IP: context.externalIp,
    LISTEN_IP: context.listenIp,
    ...(context.discoverd === undefined ? {} : { DISCOVERD: context.discoverd }),
    ...(job.partition === 'system' ? { FLYNN_HOST_AUTH_KEY: context.authKey } : {}),
    ...job.config.env,
    ...(context.address === undefined ? {} : { EXTERNAL_IP: context.address }),
    HOSTNAME: hostnameOf(job.id),
  }
}

export function limits(job: Job): ContainerLimits {
  const r = job.resources ?? {}
  const fd = r['max_fd']
  const processes = r['max_procs']?.limit
  const cpu = r['cpu']?.limit
  const hard = fd?.limit ?? fd?.request
  return {
    memoryBytes: r['memory']?.limit ?? defaultMemoryBytes,
    ...(cpu === undefined ? {} : { cpuMilli: cpu }),
    ...(processes === undefined ? {} : { processes }),
    ...(hard === undefined ? {} : { openFiles: { soft: Math.min(fd?.request ?? hard, hard), hard } }),
    tempDiskBytes: r['temp_disk']?.limit ?? defaultTempDiskBytes,
  }
}

const deviceTypes: Readonly<Record<number, ContainerDevice['type']>> = {
  99: 'c',
  98: 'b',
  117: 'u',
  112: 'p',
}

function toDevice(device: Device): ContainerDevice {
  return {
    type: deviceTypes[device.type] ?? 'c',
    major: device.major,
    minor: device.minor,
    permissions: device.permissions ?? 'rwm',
    ...(device.path === undefined ? {} : { path: device.path }),
    ...(device.file_mode === undefined ? {} : { fileMode: device.file_mode }),
    ...(device.uid === undefined ? {} : { uid: device.uid }),
    ...(device.gid === undefined ? {} : { gid: device.gid }),
  }
}

function mounts(job: Job, context: SpecContext): readonly ContainerMount[] {
  const config = job.config
  const asked = (config.mounts ?? []).map((m): ContainerMount => {
    if (!m.target) throw hostErrors.INVALID_MOUNT_TARGET()
    return {
      source: m.target,
      target: m.location,
      writeable: m.writeable ?? false,
      ...(m.device ? { device: m.device, data: m.data ?? '', flags: m.flags ?? 0 } : {}),
    }
  })
  const volumes = (config.volumes ?? []).map((v): ContainerMount => {
    const source = context.volumePaths[v.volume]
    if (source === undefined) throw hostErrors.MISSING_VOLUME({ volume: v.volume })
    return { source, target: v.target, writeable: v.writeable ?? false }
  })
  return [...asked, ...volumes, ...context.profiles.mounts]
}

/** Programs that are made to be process 1. */
const inits = ['tini', 'tini-static', 'dumb-init', 'runsvdir', 'runit', 's6-svscan', 'systemd', 'init']

function isInit(program: string | undefined): boolean {
  return program !== undefined && inits.includes(program.slice(program.lastIndexOf('/') + 1))
}

/** Everything the container runtime needs to know. Throws rows of host/errors.ts. */
export function containerSpec(job: Job, context: SpecContext): ContainerSpec {
  const config = job.config
  const hostNetwork = config.host_network ?? false
  const capabilities = [
    ...(config.linux_capabilities ?? [...defaultCapabilities, ...(hostNetwork ? ['CAP_NET_ADMIN'] : [])]),
    ...context.profiles.capabilities,
  ]
  // Builders mount and chroot; the hardening of everybody else would stop them (contract host.md 10, no. 60).
  const privileged = capabilities.includes('CAP_SYS_ADMIN')
  const created =
    config.auto_created_devices?.map(toDevice) ?? defaultDevices.filter(d => d.path !== undefined)
  return {
    id: job.id,
    args: config.args ?? [],
    env: environment(job, context),
    cwd: config.working_dir || '/',
    uid: config.uid ?? 0,
    gid: config.gid ?? 0,
    hostname: hostnameOf(job.id),
    partition: job.partition ?? defaultPartition,
    tty: config.tty ?? false,
    stdin: config.stdin ?? false,
    ...(context.size === undefined ? {} : { size: context.size }),
    layers: context.layers,
    mounts: mounts(job, context),
    hostNetwork,
    hostPidNamespace: config.host_pid_namespace ?? false,
    ...(context.address === undefined ? {} : { address: context.address }),
    limits: limits(job),
    capabilities: [...new Set(capabilities)],
    allowedDevices: [
      ...(config.allowed_devices?.map(toDevice) ?? defaultDevices),
      ...context.profiles.devices,
    ],
    createdDevices: [...created, ...context.profiles.devices.filter(d => d.path !== undefined)],
    writeableCgroups: config.writeable_cgroups ?? false,
    noNewPrivileges: !privileged && job.partition === defaultPartition,
    seccomp: !privileged,
    init: !isInit(config.args?.[0]),
  }
}
