// How everything that belongs to a test cluster is named, so that it can be found again without its state file.
// Names on the network carry the subnet's number (interface names have 15 characters), all others the cluster's name.
import { join } from 'node:path'

/** Test bridges live in 10.213.0.0/16, one /24 a cluster: far from the platform's own 100.100.0.0/16. */
const networkPrefix = '10.213'
const subnetMin = 1
const subnetMax = 254
const gatewayHostPart = 254
export const hostsMax = 32

export const stateRoot = '/var/tmp/flynn-hosts'
export const cgroupRoot = 'flynn-hosts'
/** Where a host finds the checkout. */
export const codePath = '/code'

/** Throws unless the name is 1 to 31 lower-case letters, digits and dashes, beginning with a letter. */
export function clusterName(name: string): string {
  if (!/^[a-z][a-z0-9-]{0,30}$/.test(name))
    throw new Error(`"${name}" is no cluster name: use lower-case letters, digits and dashes, a letter first`)
  return name
}

export const clusterDir = (cluster: string) => join(stateRoot, cluster)
export const hostDir = (cluster: string, host: string) => join(stateRoot, cluster, host)
export const clusterCgroup = (cluster: string) => `${cgroupRoot}/${cluster}`
export const hostCgroup = (cluster: string, host: string) => `${cgroupRoot}/${cluster}/${host}`

export const hostName = (index: number) => `h${index}`
export const bridgeName = (subnet: number) => `fh-${subnet}`
export const linkName = (subnet: number, index: number) => `fh-${subnet}-h${index}`
export const tableName = (subnet: number) => `flynn_hosts_${subnet}`
/** Kept as the bridge's alias. */
export const bridgeAlias = (cluster: string) => `flynn-hosts:${cluster}`

export const hostAddress = (subnet: number, index: number) => `${networkPrefix}.${subnet}.${index}`
export const gatewayAddress = (subnet: number) => hostAddress(subnet, gatewayHostPart)
export const subnetCidr = (subnet: number) => `${networkPrefix}.${subnet}.0/24`

/** Fixed, so that a rebooted host is found by its neighbours' caches; bit 2 of the first byte means "made by hand". */
export function macAddress(subnet: number, hostPart: number | 'gateway'): string {
  const last = hostPart === 'gateway' ? gatewayHostPart : hostPart
  return ['02', 'f1', '00', '00', hex(subnet), hex(last)].join(':')
}

const hex = (byte: number) => byte.toString(16).padStart(2, '0')

/**
 * Subnet numbers that overlap none of the given IPv4 networks ("10.213.4.0/24", "10.213.9.7"), lowest first.
 * Networks wider than /16 are passed over: a /24 of ours is more specific and wins.
 */
export function freeSubnets(taken: readonly string[]): number[] {
  const used = new Set<number>()
  for (const network of taken) {
    const match = /^10\.213\.(\d+)\.\d+(?:\/(\d+))?$/.exec(network)
    if (!match) continue
    const bits = Number(match[2] ?? 32)
    if (bits < 16) continue
    const count = bits >= 24 ? 1 : 2 ** (24 - bits)
    const first = Math.floor(Number(match[1]) / count) * count
    for (let n = first; n < first + count; n++) used.add(n)
  }
  const free: number[] = []
  for (let n = subnetMin; n <= subnetMax; n++) if (!used.has(n)) free.push(n)
  return free
}
