// The overlay between hosts as a plan: what the kernel's VXLAN device shows now against what the subnet leases ask for,
// and the commands of `ip` and `bridge` that make one from the other (contract host.md 5.4). Pure; carried out by vxlan.ts.
import { parseSubnet, toAddress } from './address.core.ts'

export const vxlanId = 1
export const vxlanPort = 8472
/** Outer Ethernet, IPv4, UDP and VXLAN headers. */
export const vxlanOverheadBytes = 50

export type OverlayHost = {
  /** Network address and prefix length of its containers, e.g. 100.100.28.0/24. */
  readonly subnet: string
  /** Its address on the network beneath. */
  readonly publicIp: string
}

/** Its tunnel end point: the subnet's network address, which no container and no bridge has. */
export function vtepAddress(subnet: string): string {
  return toAddress(parseSubnet(subnet)?.network ?? 0)
}

/**
 * Follows from the subnet, which is leased to one host only: so cloned machines differ (contract host.md 10, no. 15) and a
 * host whose address changes keeps its own.
 */
export function vtepMac(subnet: string): string {
  const bytes = vtepAddress(subnet)
    .split('.')
    .map(b => Number(b).toString(16).padStart(2, '0'))
  return ['02', '42', ...bytes].join(':')
}

export type DeviceState = {
  readonly mac: string
  readonly mtu: number
  readonly up: boolean
  readonly local: string
  readonly id: number
  readonly port: number
  readonly learning: boolean
  /** `address/prefix` of each IPv4 address. */
  readonly addresses: readonly string[]
}

export type DeviceOptions = {
  readonly device: string
  readonly self: OverlayHost
  readonly mtu: number
}

/** `ip -batch` lines that make our device, or make it right; what cannot be changed means a new one. */
export function devicePlan(current: DeviceState | undefined, o: DeviceOptions): readonly string[] {
  const mac = vtepMac(o.self.subnet)
  const address = `${vtepAddress(o.self.subnet)}/32`
  const usable =
    current !== undefined &&
    current.id === vxlanId &&
    current.port === vxlanPort &&
    !current.learning &&
    current.local === o.self.publicIp
  const lines: string[] = []
  if (current && !usable) lines.push(`link del ${o.device}`)
  if (!usable) {
    lines.push(
      `link add ${o.device} address ${mac} mtu ${o.mtu} type vxlan id ${vxlanId} local ${o.self.publicIp} dstport ${vxlanPort} nolearning`,
    )
  }
  const now = usable ? current : undefined
  for (const other of now?.addresses ?? [])
    if (other !== address) lines.push(`addr del ${other} dev ${o.device}`)
  // Only where it differs: setting the same address again would empty the neighbour table.
  if (now && now.mac !== mac) lines.push(`link set ${o.device} address ${mac}`)
  if (now && now.mtu !== o.mtu) lines.push(`link set ${o.device} mtu ${o.mtu}`)
  if (!now?.addresses.includes(address)) lines.push(`addr add ${address} dev ${o.device}`)
  if (!now?.up) lines.push(`link set ${o.device} up`)
  return lines
}

export type PeerState = {
  /** Forwarding entries: hardware address and where it is. */
  readonly fdb: readonly { readonly mac: string; readonly dst: string }[]
  readonly neighbours: readonly { readonly address: string; readonly mac: string }[]
  readonly routes: readonly { readonly subnet: string; readonly via: string; readonly src: string }[]
}

export type PeerPlan = { readonly bridge: readonly string[]; readonly ip: readonly string[] }

/** Lines for `bridge -batch` and `ip -batch`: entries of hosts that left go, missing and different ones are put right. */
export function peerPlan(
  current: PeerState,
  o: {
    readonly device: string
    /** Address that packets of this host itself bear: its bridge's, which other hosts have a route to. */
    readonly source: string
    readonly peers: readonly OverlayHost[]
  },
): PeerPlan {
  const wanted = o.peers.map(p => ({
    mac: vtepMac(p.subnet),
    dst: p.publicIp,
    via: vtepAddress(p.subnet),
    subnet: p.subnet,
  }))
  const bridge: string[] = []
  const ip: string[] = []
  for (const e of current.fdb)
    if (!wanted.some(w => w.mac === e.mac && w.dst === e.dst))
      bridge.push(`fdb del ${e.mac} dev ${o.device} dst ${e.dst}`)
  for (const w of wanted)
    if (!current.fdb.some(e => e.mac === w.mac && e.dst === w.dst))
      bridge.push(`fdb append ${w.mac} dev ${o.device} dst ${w.dst}`)
  for (const r of current.routes)
    if (!wanted.some(w => w.subnet === r.subnet)) ip.push(`route del ${r.subnet} dev ${o.device}`)
  for (const n of current.neighbours)
    if (!wanted.some(w => w.via === n.address)) ip.push(`neigh del ${n.address} dev ${o.device}`)
  for (const w of wanted) {
    if (!current.neighbours.some(n => n.address === w.via && n.mac === w.mac))
      ip.push(`neigh replace ${w.via} lladdr ${w.mac} dev ${o.device} nud permanent`)
    if (!current.routes.some(r => r.subnet === w.subnet && r.via === w.via && r.src === o.source))
      ip.push(`route replace ${w.subnet} via ${w.via} dev ${o.device} onlink src ${o.source}`)
  }
  return { bridge, ip }
}
