// The bridge of a host, its containers' links and addresses, and the packet rules (contract host.md 5.2). The kernel
// holds links and rules across restarts; addresses in use are told again by `reserve`, other hosts by `connect`.
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { dirname } from 'node:path'
import type { Logger } from '../../pkg/log/log.ts'
import { RunError, run, runJson } from '../../pkg/proc/run.ts'
import { engineErrors } from '../container/errors.ts'
import type { HostNetwork, NetworkPeer, NetworkState } from '../container/types.ts'
import type { HostPaths } from '../paths.ts'
import * as addresses from './address.core.ts'
import { containerResolv, parseResolv, upstreams } from './resolv.core.ts'
import {
  bridgeMac,
  containerLinkBatch,
  forwardRules,
  hostLinkBatch,
  overlayNetwork,
  refusal,
  ruleset,
} from './rules.core.ts'
import { VxlanDevice } from './vxlan.ts'

export const mtuMin = 576
export const mtuMax = 65535
const commandTimeoutMs = 10_000

export type NetworkOptions = {
  readonly paths: Pick<
    HostPaths,
    'bridge' | 'overlayDevice' | 'nftTable' | 'resolvConf' | 'hostResolvConf' | 'systemdResolvConf'
  >
  readonly log: Logger
  readonly overlay?: string
}

/** Host end of a job's link; at most 15 characters, the same for the same job. */
export function linkName(jobId: string): string {
  return `veth${createHash('sha256').update(jobId).digest('hex').slice(0, 10)}`
}

type NftSet = { readonly nftables: readonly { readonly set?: { readonly elem?: readonly unknown[] } }[] }

export class BridgeNetwork implements HostNetwork {
  readonly #options: NetworkOptions
  readonly #overlay: string
  #state: NetworkState | undefined
  #allocation: addresses.Allocation | undefined
  /** Told before the network was configured; counted once it is. */
  readonly #reserved = new Map<string, string>()
  readonly #systemJobs = new Set<string>()
  #clusterHosts: readonly string[] = []
  #deadSubnets: readonly string[] = []
  /** Changes of the rules, one after the other: two replacements at once would lose one's elements. */
  #rules: Promise<void> = Promise.resolve()

  readonly #vxlan: VxlanDevice

  constructor(options: NetworkOptions) {
    this.#options = options
    this.#overlay = options.overlay ?? overlayNetwork
    this.#vxlan = new VxlanDevice({ device: options.paths.overlayDevice, log: options.log })
  }

  get state(): NetworkState | undefined {
    return this.#state
  }

  async configure(subnet: string, mtu: number): Promise<NetworkState> {
    const parsed = addresses.parseSubnet(subnet)
    if (parsed === undefined || addresses.toNumber(parsed.address) === parsed.network)
      throw engineErrors.SUBNET({ subnet, reason: 'it must be a bridge address with its prefix length' })
    if (!Number.isInteger(mtu) || mtu < mtuMin || mtu > mtuMax)
      throw engineErrors.SUBNET({ subnet, reason: `the MTU ${mtu} is not between ${mtuMin} and ${mtuMax}` })
    try {
      await this.#makeBridge(parsed, mtu)
      await writeFile('/proc/sys/net/ipv4/ip_forward', '1')
      await this.#keepElements()
      await this.#replaceRules(parsed)
      await this.#openForeignForward()
      const resolvers = await this.#writeResolv(parsed.address)
      this.#state = { subnet, bridgeAddress: parsed.address, mtu, resolvers }
    } catch (cause) {
      throw failure('the network configuration', cause)
    }
    this.#allocation = addresses.emptyAllocation(parsed)
    for (const [jobId, address] of this.#reserved)
      this.#allocation = addresses.reserve(this.#allocation, jobId, address)
    return this.#state
  }

  /** Addresses of all hosts of the cluster: they reach each other's etcd, and of the containers only system jobs do. */
  async setClusterHosts(hosts: readonly string[]): Promise<void> {
    const valid = [...new Set(hosts.filter(address => addresses.toNumber(address) !== undefined))].sort()
    if (valid.join() === this.#clusterHosts.join()) return
    this.#clusterHosts = valid
    const parsed = this.#state && addresses.parseSubnet(this.#state.subnet)
    if (parsed) await this.#replaceRules(parsed)
  }

  async refuse(subnets: readonly string[]): Promise<void> {
    this.#deadSubnets = subnets
    if (this.#state === undefined) return
    const input = refusal(this.#options.paths.nftTable, subnets)
    try {
      await this.#inTurn(async () => {
        await run(['nft', '-f', '-'], { input, timeoutMs: commandTimeoutMs })
      })
    } catch (cause) {
      throw failure('refusing packets to dead hosts', cause)
    }
  }

  async connect(publicIp: string, peers: readonly NetworkPeer[]): Promise<void> {
    const { state, allocation } = this.#configured()
    const { network, prefix } = allocation.subnet
    const self = { subnet: `${addresses.toAddress(network)}/${prefix}`, publicIp }
    try {
      await this.#vxlan.sync({ self, source: state.bridgeAddress, mtu: state.mtu, peers })
    } catch (cause) {
      throw failure('connecting to the other hosts', cause)
    }
  }

  async #makeBridge(subnet: addresses.Subnet, mtu: number): Promise<void> {
    const { bridge } = this.#options.paths
    const links = await runJson<readonly { readonly ifname: string }[]>(['ip', '-j', 'link', 'show'])
    if (!links.some(link => link.ifname === bridge))
      await this.#ip(`link add ${bridge} address ${bridgeMac(randomBytes(5))} type bridge\n`)
    const shown = await runJson<
      readonly { readonly addr_info: readonly { readonly local: string; readonly prefixlen: number }[] }[]
    >(['ip', '-j', '-4', 'addr', 'show', 'dev', bridge])
    const wanted = `${subnet.address}/${subnet.prefix}`
    const present = shown.flatMap(link => link.addr_info ?? []).map(a => `${a.local}/${a.prefixlen}`)
    const batch = [
      ...present.filter(a => a !== wanted).map(a => `addr del ${a} dev ${bridge}`),
      ...(present.includes(wanted) ? [] : [`addr add ${wanted} dev ${bridge}`]),
      // Promiscuous: a container that calls its own service through the host gets its packets back.
      `link set ${bridge} mtu ${mtu} promisc on up`,
    ]
    await this.#ip(`${batch.join('\n')}\n`)
  }

  async #ip(batch: string): Promise<void> {
    await run(['ip', '-batch', '-'], { input: batch, timeoutMs: commandTimeoutMs })
  }

  /** After a daemon restart the kernel still knows which system jobs run; they lose nothing while it catches up. */
  async #keepElements(): Promise<void> {
    try {
      const answer = await runJson<NftSet>([
        'nft',
        '-j',
        'list',
        'set',
        'inet',
        this.#options.paths.nftTable,
        'system_jobs',
      ])
      for (const item of answer.nftables)
        for (const element of item.set?.elem ?? [])
          if (typeof element === 'string') this.#systemJobs.add(element)
    } catch (e) {
      // There is no such table yet.
      if (!(e instanceof RunError) || !/No such file/.test(e.stderr)) throw e
    }
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#rules.then(change)
    this.#rules = turn.catch(() => undefined)
    return turn
  }

  async #replaceRules(subnet: addresses.Subnet): Promise<void> {
    const { bridge, nftTable: table } = this.#options.paths
    await this.#inTurn(async () => {
      const input = ruleset({
        table,
        bridge,
        subnet: `${addresses.toAddress(subnet.network)}/${subnet.prefix}`,
        overlay: this.#overlay,
        systemJobs: [...this.#systemJobs],
        clusterHosts: this.#clusterHosts,
        deadSubnets: this.#deadSubnets,
      })
      await run(['nft', '-f', '-'], { input, timeoutMs: commandTimeoutMs })
    })
  }

  /** Docker and ufw set the policy of iptables' FORWARD chain to DROP; our packets need leave there too. */
  async #openForeignForward(): Promise<void> {
    let policy: string
    try {
      policy = (await run(['iptables', '-w', '5', '-S', 'FORWARD'], { timeoutMs: commandTimeoutMs })).stdout
    } catch (e) {
      // No iptables on this machine, or none that works: then nobody has set a policy with it.
      this.#options.log.debug({ err: e }, 'iptables not consulted')
      return
    }
    if (!policy.includes('-P FORWARD DROP')) return
    for (const rule of forwardRules(this.#options.paths.bridge, this.#overlay)) {
      const check = await run(['iptables', '-w', '5', '-C', 'FORWARD', ...rule], { accept: [1] })
      if (check.code !== 0) await run(['iptables', '-w', '5', '-I', 'FORWARD', ...rule])
    }
  }

  async #writeResolv(nameserver: string): Promise<readonly string[]> {
    const { hostResolvConf, systemdResolvConf, resolvConf } = this.#options.paths
    const host = (await readOptional(hostResolvConf)) ?? ''
    await mkdir(dirname(resolvConf), { recursive: true })
    const temporary = `${resolvConf}.new`
    await writeFile(temporary, containerResolv(parseResolv(host).search, nameserver), { mode: 0o644 })
    await rename(temporary, resolvConf)
    return upstreams(host, await readOptional(systemdResolvConf))
  }

  #configured(): { readonly state: NetworkState; readonly allocation: addresses.Allocation } {
    if (this.#state === undefined || this.#allocation === undefined) throw engineErrors.NETWORK_ABSENT()
    return { state: this.#state, allocation: this.#allocation }
  }

  allocate(jobId: string): string {
    const { state, allocation } = this.#configured()
    const found = addresses.allocate(allocation, jobId)
    if (found === undefined) throw engineErrors.ADDRESSES_EXHAUSTED({ subnet: state.subnet })
    this.#allocation = found.state
    this.#reserved.set(jobId, found.address)
    return found.address
  }

  reserve(jobId: string, address: string): void {
    this.#reserved.set(jobId, address)
    if (this.#allocation) this.#allocation = addresses.reserve(this.#allocation, jobId, address)
  }

  async release(jobId: string): Promise<void> {
    const address = this.#reserved.get(jobId)
    // The link goes with the container's network namespace; this is for one that never came that far.
    await this.#deleteLink(jobId)
    if (address !== undefined) await this.allowSystem(address, false)
    this.#reserved.delete(jobId)
    if (this.#allocation) this.#allocation = addresses.release(this.#allocation, jobId)
  }

  async #deleteLink(jobId: string): Promise<void> {
    const result = await run(['ip', 'link', 'del', linkName(jobId)], { accept: [1, 2] })
    if (result.code !== 0 && !/Cannot find device/.test(result.stderr))
      throw engineErrors.NETWORK({
        action: `removing the link of job ${jobId}`,
        reason: result.stderr.trim(),
      })
  }

  async attach(jobId: string, pid: number, address: string): Promise<void> {
    const { state, allocation } = this.#configured()
    const { bridge } = this.#options.paths
    const link = linkName(jobId)
    const make = () => this.#ip(hostLinkBatch({ link, bridge, pid, mtu: state.mtu }))
    try {
      await make().catch(async e => {
        if (!(e instanceof RunError) || !/File exists/.test(e.stderr)) throw e
        // Half made by a first try.
        await this.#deleteLink(jobId)
        await make()
      })
      const input = containerLinkBatch(address, allocation.subnet.prefix, state.bridgeAddress)
      const argv = ['nsenter', '--target', String(pid), '--net', 'ip', '-batch', '-'] as const
      await run(argv, { input, timeoutMs: commandTimeoutMs })
    } catch (cause) {
      await this.#deleteLink(jobId).catch(err =>
        this.#options.log.warn({ job: jobId, err }, 'link left behind'),
      )
      throw failure(`attaching job ${jobId} to the network`, cause)
    }
  }

  async allowSystem(address: string, allowed: boolean): Promise<void> {
    if (addresses.toNumber(address) === undefined || this.#systemJobs.has(address) === allowed) return
    if (allowed) this.#systemJobs.add(address)
    else this.#systemJobs.delete(address)
    if (this.#state === undefined) return
    const { nftTable } = this.#options.paths
    const input = `${allowed ? 'add' : 'delete'} element inet ${nftTable} system_jobs { ${address} }\n`
    try {
      await this.#inTurn(async () => {
        await run(['nft', '-f', '-'], { input, timeoutMs: commandTimeoutMs })
      })
    } catch (cause) {
      // Deleting what the kernel does not have is done already.
      if (!allowed && cause instanceof RunError && /No such file/.test(cause.stderr)) return
      throw failure('changing the packet rules', cause)
    }
  }
}

function failure(action: string, cause: unknown): Error {
  const reason = cause instanceof Error ? cause.message : String(cause)
  return engineErrors.NETWORK({ action, reason }, { cause })
}

async function readOptional(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined
    throw e
  }
}
