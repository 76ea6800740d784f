// The VXLAN device of a host and its entries for the other hosts: reads what the kernel has, plans (vxlan.core.ts), and
// carries the plan out. Safe to repeat; called by network.ts whenever the leases change, and again now and then.
import type { Logger } from '../../pkg/log/log.ts'
import { RunError, run, runJson } from '../../pkg/proc/run.ts'
import {
  type DeviceState,
  devicePlan,
  type OverlayHost,
  type PeerState,
  peerPlan,
  vxlanOverheadBytes,
} from './vxlan.core.ts'

const commandTimeoutMs = 10_000
/** Taken for the network beneath when its device is not found. */
const mtuFallback = 1_500

type IpLink = {
  readonly ifname: string
  readonly address: string
  readonly mtu: number
  readonly flags: readonly string[]
  readonly linkinfo?: {
    readonly info_data?: {
      readonly id?: number
      readonly local?: string
      readonly port?: number
      readonly learning?: boolean
    }
  }
}
type IpAddr = {
  readonly ifname: string
  readonly mtu: number
  readonly addr_info?: readonly {
    readonly local: string
    readonly prefixlen: number
    readonly family: string
  }[]
}
type Fdb = { readonly mac: string; readonly dst?: string }
type Neighbour = { readonly dst: string; readonly lladdr?: string }
type Route = { readonly dst: string; readonly gateway?: string; readonly prefsrc?: string }

/** The MTU that containers get: what the network under `publicIp` carries, less the tunnel's headers. */
export async function overlayMtuOf(publicIp: string): Promise<number> {
  const links = await runJson<readonly IpAddr[]>(['ip', '-j', '-4', 'addr', 'show'])
  const beneath = links.find(l => l.addr_info?.some(a => a.local === publicIp))
  return (beneath?.mtu ?? mtuFallback) - vxlanOverheadBytes
}

/** `undefined` when there is no such device. */
async function ipJson<T>(argv: readonly [string, ...string[]]): Promise<readonly T[] | undefined> {
  try {
    return await runJson<readonly T[]>(argv)
  } catch (e) {
    if (e instanceof RunError && /does not exist|Cannot find device/.test(e.stderr)) return undefined
    throw e
  }
}

export class VxlanDevice {
  readonly #device: string
  readonly #log: Logger

  constructor(options: { readonly device: string; readonly log: Logger }) {
    this.#device = options.device
    this.#log = options.log
  }

  async #deviceState(): Promise<DeviceState | undefined> {
    const [link] = (await ipJson<IpLink>(['ip', '-j', '-d', 'link', 'show', 'dev', this.#device])) ?? []
    if (!link) return undefined
    const [shown] = (await ipJson<IpAddr>(['ip', '-j', '-4', 'addr', 'show', 'dev', this.#device])) ?? []
    const data = link.linkinfo?.info_data
    return {
      mac: link.address,
      mtu: link.mtu,
      up: link.flags.includes('UP'),
      local: data?.local ?? '',
      id: data?.id ?? -1,
      port: data?.port ?? -1,
      learning: data?.learning ?? true,
      addresses: (shown?.addr_info ?? []).map(a => `${a.local}/${a.prefixlen}`),
    }
  }

  async #peerState(): Promise<PeerState> {
    const dev = this.#device
    const fdb = await runJson<readonly Fdb[]>(['bridge', '-j', 'fdb', 'show', 'dev', dev])
    const neighbours = await runJson<readonly Neighbour[]>(['ip', '-4', '-j', 'neigh', 'show', 'dev', dev])
    const routes = await runJson<readonly Route[]>(['ip', '-4', '-j', 'route', 'show', 'dev', dev])
    return {
      fdb: fdb.flatMap(e => (e.dst === undefined ? [] : [{ mac: e.mac, dst: e.dst }])),
      neighbours: neighbours.map(n => ({ address: n.dst, mac: n.lladdr ?? '' })),
      routes: routes.map(r => ({ subnet: r.dst, via: r.gateway ?? '', src: r.prefsrc ?? '' })),
    }
  }

  async #batch(program: 'ip' | 'bridge', lines: readonly string[]): Promise<void> {
    if (lines.length === 0) return
    this.#log.info({ program, lines }, 'overlay changes')
    await run([program, '-batch', '-'], { input: `${lines.join('\n')}\n`, timeoutMs: commandTimeoutMs })
  }

  /** Makes device, entries and routes what these hosts need. */
  async sync(o: {
    readonly self: OverlayHost
    /** Address of the bridge. */
    readonly source: string
    readonly mtu: number
    readonly peers: readonly OverlayHost[]
  }): Promise<void> {
    await this.#batch(
      'ip',
      devicePlan(await this.#deviceState(), { device: this.#device, self: o.self, mtu: o.mtu }),
    )
    const plan = peerPlan(await this.#peerState(), { device: this.#device, source: o.source, peers: o.peers })
    await this.#batch('bridge', plan.bridge)
    await this.#batch('ip', plan.ip)
  }
}
