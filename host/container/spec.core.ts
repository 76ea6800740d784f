// From what a job asks for to the OCI runtime spec that runc carries out (contract host.md 3.7, 3.8). Pure: what only
// this machine knows comes in as a value.
import type {
  OciCapabilities,
  OciDevice,
  OciDeviceRule,
  OciMount,
  OciNamespace,
  OciProcess,
  OciResources,
  OciSpec,
} from './oci.ts'
import { seccompProfile } from './seccomp.core.ts'
import type { ContainerDevice, ContainerLimits, ContainerMount, ContainerSpec } from './types.ts'

export const memoryBytesDefault = 1024 * 1024 * 1024
/** No job needs more processes and threads than this; a fork bomb stops here. */
export const processesDefault = 8192
export const openFilesDefault = 10_000
const shmBytes = 64 * 1024 * 1024
const cpuSharesMin = 2
const sharesPerCore = 1024

/** What the spec needs to know about the machine. */
export type Machine = {
  /** `process.arch`. */
  readonly arch: string
  /** This process's own hard limit of open files: more cannot be given without CAP_SYS_RESOURCE. */
  readonly openFilesMax: number
  /** The kernel can limit memory and swap together. */
  readonly limitsSwap: boolean
  /** A statically linked init program on the host. */
  readonly initProgram: string
}

export type SpecContext = {
  readonly machine: Machine
  readonly cgroupRoot: string
  /** resolv.conf to bind, unless the job brings its own. */
  readonly resolvConf: string
}

/** The kernel kills user jobs before background jobs before system jobs, when the whole machine is out of memory. */
const oomScores: Readonly<Record<string, number>> = { system: 0, background: 200 }
const oomScoreDefault = 100

const maskedPaths = [
  '/proc/acpi',
  '/proc/asound',
  '/proc/kcore',
  '/proc/keys',
  '/proc/latency_stats',
  '/proc/sched_debug',
  '/proc/scsi',
  '/proc/timer_list',
  '/proc/timer_stats',
  '/sys/firmware',
  '/sys/devices/virtual/powercap',
]

const readonlyPaths = ['/proc/bus', '/proc/fs', '/proc/irq', '/proc/sys', '/proc/sysrq-trigger']

/** `/flynn/<partition>/<job id>`. */
export function cgroupPath(root: string, partition: string, id: string): string {
  return `${root}/${partition}/${id}`
}

/** Relative weight of a job from thousandths of a core; runc turns it into cpu.weight on cgroup v2. */
export function cpuShares(milli: number): number {
  return Math.max(cpuSharesMin, Math.floor((milli * sharesPerCore) / 1000))
}

function baseMounts(spec: ContainerSpec): readonly OciMount[] {
  const noexec = ['nosuid', 'noexec', 'nodev']
  return [
    { destination: '/proc', type: 'proc', source: 'proc', options: noexec },
    {
      destination: '/dev',
      type: 'tmpfs',
      source: 'tmpfs',
      options: ['nosuid', 'strictatime', 'mode=755', 'size=65536k'],
    },
    {
      destination: '/dev/pts',
      type: 'devpts',
      source: 'devpts',
      options: ['nosuid', 'noexec', 'newinstance', 'ptmxmode=0666', 'mode=0620', 'gid=5'],
    },
    {
      destination: '/dev/shm',
      type: 'tmpfs',
      source: 'shm',
      options: [...noexec, 'mode=1777', `size=${shmBytes}`],
    },
    { destination: '/dev/mqueue', type: 'mqueue', source: 'mqueue', options: noexec },
    { destination: '/sys', type: 'sysfs', source: 'sysfs', options: [...noexec, 'ro'] },
    {
      destination: '/sys/fs/cgroup',
      type: 'cgroup',
      source: 'cgroup',
      options: [...noexec, 'relatime', spec.writeableCgroups ? 'rw' : 'ro'],
    },
  ]
}

/** Where the init lies inside; the original put its own there. */
const initTarget = '/.containerinit'

/** With the host's process numbers the init is not process 1 and has to ask to be given orphans. */
function commandLine(spec: ContainerSpec): readonly string[] {
  if (!spec.init) return spec.args
  return [initTarget, ...(spec.hostPidNamespace ? ['-s'] : []), '--', ...spec.args]
}

/** mount(2) flags, by bit, as mount options. */
const mountFlags: readonly (readonly [number, string])[] = [
  [1, 'ro'],
  [2, 'nosuid'],
  [4, 'nodev'],
  [8, 'noexec'],
  [16, 'sync'],
  [1024, 'noatime'],
  [2048, 'nodiratime'],
  [2097152, 'relatime'],
]

function toMount(m: ContainerMount): OciMount {
  const access = m.writeable ? 'rw' : 'ro'
  if (m.device !== undefined) {
    const flags = mountFlags.filter(([bit]) => ((m.flags ?? 0) & bit) !== 0).map(([, name]) => name)
    const data = m.data ? m.data.split(',') : []
    return {
      destination: m.target,
      type: m.device,
      source: m.source,
      options: [...new Set([...flags, ...(flags.includes('ro') ? [] : [access]), ...data])],
    }
  }
  // Files of users carry no set-uid bits and no devices into a container; a bind from /dev is all about devices.
  const safe = m.source.startsWith('/dev/') ? [] : ['nosuid', 'nodev']
  return {
    destination: m.target,
    type: 'bind',
    source: m.source,
    options: ['rbind', 'rprivate', access, ...safe],
  }
}

function mounts(spec: ContainerSpec, context: SpecContext): readonly OciMount[] {
  const asked = spec.mounts.map(toMount)
  const resolvConf = '/etc/resolv.conf'
  const own = asked.some(m => m.destination === resolvConf)
    ? []
    : [toMount({ source: context.resolvConf, target: resolvConf, writeable: false })]
  const init: ContainerMount = { source: context.machine.initProgram, target: initTarget, writeable: false }
  return [...baseMounts(spec), ...own, ...asked, ...(spec.init ? [toMount(init)] : [])]
}

/**
 * All sets are the job's for root. For another user, exec keeps only ambient ones, so those are what an entrypoint
 * asks for beyond the defaults plus low ports; the whole default set would make any user root in all but name.
 */
function capabilities(spec: ContainerSpec): OciCapabilities {
  const all = spec.capabilities
  const kept = spec.uid === 0 ? [] : all.filter(c => ambientCapabilities.has(c))
  return { bounding: all, effective: all, permitted: all, inheritable: kept, ambient: kept }
}

const ambientCapabilities = new Set(['CAP_NET_BIND_SERVICE', 'CAP_NET_ADMIN', 'CAP_SYS_NICE', 'CAP_IPC_LOCK'])

function firstProcess(spec: ContainerSpec, machine: Machine): OciProcess {
  const asked = spec.limits.openFiles ?? { soft: openFilesDefault, hard: openFilesDefault }
  const hard = Math.min(asked.hard, machine.openFilesMax)
  const env = { ...spec.env, HOSTNAME: spec.env['HOSTNAME'] ?? spec.hostname }
  return {
    terminal: spec.tty,
    ...(spec.tty && spec.size ? { consoleSize: { height: spec.size.rows, width: spec.size.columns } } : {}),
    user: { uid: spec.uid, gid: spec.gid },
    args: commandLine(spec),
    env: Object.entries(env).map(([name, value]) => `${name}=${value}`),
    cwd: spec.cwd,
    capabilities: capabilities(spec),
    rlimits: [{ type: 'RLIMIT_NOFILE', soft: Math.min(asked.soft, hard), hard }],
    noNewPrivileges: spec.noNewPrivileges,
    oomScoreAdj: oomScores[spec.partition] ?? oomScoreDefault,
  }
}

function toRule(d: ContainerDevice): OciDeviceRule {
  return {
    allow: true,
    type: d.type === 'b' ? 'b' : 'c',
    ...(d.major >= 0 ? { major: d.major } : {}),
    ...(d.minor >= 0 ? { minor: d.minor } : {}),
    access: d.permissions,
  }
}

function toDevice(d: ContainerDevice & { readonly path: string }): OciDevice {
  return {
    path: d.path,
    type: d.type,
    major: d.major,
    minor: d.minor,
    ...(d.fileMode === undefined ? {} : { fileMode: d.fileMode }),
    ...(d.uid === undefined ? {} : { uid: d.uid }),
    ...(d.gid === undefined ? {} : { gid: d.gid }),
  }
}

function resources(
  limits: ContainerLimits,
  devices: readonly ContainerDevice[],
  machine: Machine,
): OciResources {
  const memory = limits.memoryBytes ?? memoryBytesDefault
  return {
    // Everything is denied first. runc allows its own short list (null, zero, random, tty, pts) after these.
    devices: [{ allow: false, access: 'rwm' }, ...devices.map(toRule)],
    memory: { limit: memory, ...(machine.limitsSwap ? { swap: memory } : {}) },
    ...(limits.cpuMilli === undefined ? {} : { cpu: { shares: cpuShares(limits.cpuMilli) } }),
    pids: { limit: limits.processes ?? processesDefault },
  }
}

function namespaces(spec: ContainerSpec): readonly OciNamespace[] {
  return [
    { type: 'mount' },
    { type: 'uts' },
    { type: 'ipc' },
    // Inside, /proc/self/cgroup and /sys/fs/cgroup show the container's own subtree as the root.
    { type: 'cgroup' },
    ...(spec.hostPidNamespace ? [] : [{ type: 'pid' } as const]),
    ...(spec.hostNetwork ? [] : [{ type: 'network' } as const]),
  ]
}

function isPresent(d: ContainerDevice): d is ContainerDevice & { readonly path: string } {
  return d.path !== undefined
}

/** The OCI runtime spec of a job. The root file system is mounted by the caller at `rootfs` in the bundle. */
export function ociSpec(spec: ContainerSpec, context: SpecContext): OciSpec {
  return {
    ociVersion: '1.0.2',
    process: firstProcess(spec, context.machine),
    root: { path: 'rootfs', readonly: false },
    // A job on the host's network keeps the host's name (contract 3.7).
    ...(spec.hostNetwork ? {} : { hostname: spec.hostname }),
    mounts: mounts(spec, context),
    linux: {
      cgroupsPath: cgroupPath(context.cgroupRoot, spec.partition, spec.id),
      namespaces: namespaces(spec),
      resources: resources(spec.limits, spec.allowedDevices, context.machine),
      devices: spec.createdDevices.filter(isPresent).map(toDevice),
      maskedPaths,
      readonlyPaths,
      ...(spec.seccomp ? { seccomp: seccompProfile(spec.capabilities, context.machine.arch) } : {}),
    },
  }
}
