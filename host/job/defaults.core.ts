// What a job gets when it does not ask: capabilities, devices, limits (contract host.md 3.7, 3.8).
import type { ContainerDevice } from '../container/types.ts'

export const defaultCapabilities: readonly string[] = [
  'CAP_NET_RAW',
  'CAP_NET_BIND_SERVICE',
  'CAP_AUDIT_READ',
  'CAP_AUDIT_WRITE',
  'CAP_DAC_OVERRIDE',
  'CAP_SETFCAP',
  'CAP_SETPCAP',
  'CAP_SETGID',
  'CAP_SETUID',
  'CAP_MKNOD',
  'CAP_CHOWN',
  'CAP_FOWNER',
  'CAP_FSETID',
  'CAP_KILL',
  'CAP_SYS_CHROOT',
]

const char = (path: string, major: number, minor: number): ContainerDevice => ({
  type: 'c',
  path,
  major,
  minor,
  permissions: 'rwm',
  fileMode: 0o666,
})

/** Devices with a path are also made in every container. */
export const defaultDevices: readonly ContainerDevice[] = [
  { type: 'c', major: -1, minor: -1, permissions: 'm' },
  { type: 'b', major: -1, minor: -1, permissions: 'm' },
  { type: 'c', major: 5, minor: 1, permissions: 'rwm' },
  { type: 'c', major: 136, minor: -1, permissions: 'rwm' },
  { type: 'c', major: 5, minor: 2, permissions: 'rwm' },
  { type: 'c', major: 10, minor: 200, permissions: 'rwm' },
  char('/dev/null', 1, 3),
  char('/dev/zero', 1, 5),
  char('/dev/full', 1, 7),
  char('/dev/tty', 5, 0),
  char('/dev/urandom', 1, 9),
  char('/dev/random', 1, 8),
]

export const defaultMemoryBytes = 1024 * 1024 * 1024
export const defaultTempDiskBytes = 100 * 1024 * 1024
export const defaultPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'
export const hostnameCharsMax = 64
/** Ports that ask for none get these, counted up (contract host.md 3.3). */
export const firstAutomaticPort = 5000

export const defaultPartition = 'user'

export type Partitions = Readonly<Record<string, { readonly cpuShares: number }>>

export const defaultPartitions = 'system=cpu_shares:4096 background=cpu_shares:4096 user=cpu_shares:8192'
