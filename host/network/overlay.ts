// This host's part of the overlay network: its subnet, first from its own files so that jobs start before etcd answers,
// then confirmed by its lease; and the other hosts, followed in the leases (contract host.md 5.4). Called by daemon.ts.
import { sleep } from '../../pkg/clock/clock.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import type { EtcdClient } from '../../pkg/etcd/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { HostNetwork } from '../container/types.ts'
import type { HostDatabase } from '../database.ts'
import { hostErrors } from '../errors.ts'
import type { NetworkConfig } from '../types.ts'
import { bridgeSubnet } from './lease.core.ts'
import { acquireLease, type SubnetLease, watchLeases } from './leases.ts'
import { overlayNetwork } from './rules.core.ts'
import { drawOf, storedSubnet, storeSubnet, subnetOf, subnetPrefix } from './subnet.ts'
import { overlayMtuOf } from './vxlan.ts'

/** How often a lease is asked for while etcd does not answer, or jobs hold an address that must go. */
export const leaseRetryMs = 500
/** How often kernel and leases are compared, whatever happened to the first. */
export const overlayCheckMs = 30_000

const leasedKey = 'subnet_leased'

export type OverlayOptions = {
  readonly network: HostNetwork
  readonly database: HostDatabase
  readonly etcd: EtcdClient
  readonly hostId: string
  readonly externalIp: string
  /** Whether a job has an address of the present subnet. */
  readonly inUse: () => boolean
  readonly log: Logger
}

/** Whether a cluster has given this host a subnet, now or in an earlier life of the daemon. */
export function wasLeased(database: HostDatabase): boolean {
  return database.getSetting<boolean>(leasedKey) ?? false
}

export class Overlay {
  readonly #options: OverlayOptions
  #jobId = ''
  #subnet: string
  #leased: boolean
  #leases: readonly SubnetLease[] = []
  /** Changes of the kernel's state, one after the other. */
  #turn: Promise<void> = Promise.resolve()

  constructor(options: OverlayOptions) {
    this.#options = options
    this.#subnet = storedSubnet(options.database) ?? subnetOf(options.hostId)
    this.#leased = wasLeased(options.database)
  }

  /** The subnets of all hosts, as etcd told them last. */
  get leases(): readonly SubnetLease[] {
    return this.#leases
  }

  /** The bridge, with the subnet of last time or, on a new host, the one it is going to ask for. */
  async open(): Promise<void> {
    await this.#configure(this.#subnet)
  }

  /** Undefined until the subnet is certain: discoverd binds its DNS to it. */
  config(): NetworkConfig | undefined {
    const { state } = this.#options.network
    if (!state || !this.#leased) return undefined
    return { job_id: this.#jobId, subnet: state.subnet, mtu: state.mtu, resolvers: [...state.resolvers] }
  }

  /** Somebody else's network (contract host.md 2.4); rejects NETWORK_IN_USE. */
  async set(wanted: NetworkConfig): Promise<void> {
    this.#jobId = wanted.job_id ?? this.#jobId
    await this.#configure(wanted.subnet, wanted.mtu)
    this.#markLeased()
  }

  /** Gets the lease and follows those of the others until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#hold(signal), this.#follow(signal), this.#check(signal)])
  }

  async #configure(subnet: string, mtu?: number): Promise<void> {
    const { network, database, externalIp, inUse } = this.#options
    const { state } = network
    const wantedMtu = mtu ?? (await overlayMtuOf(externalIp))
    if (state && state.subnet === subnet && state.mtu === wantedMtu) return
    if (state && inUse()) throw hostErrors.NETWORK_IN_USE({ current: state.subnet, wanted: subnet })
    await network.configure(subnet, wantedMtu)
    this.#subnet = subnet
    storeSubnet(database, subnet)
  }

  #markLeased(): void {
    if (this.#leased) return
    this.#leased = true
    this.#options.database.setSetting(leasedKey, true)
  }

  async #hold(signal: AbortSignal): Promise<void> {
    const { etcd, hostId, externalIp, log } = this.#options
    let told = ''
    while (!signal.aborted) {
      try {
        const lease = await acquireLease({
          etcd,
          network: overlayNetwork,
          prefix: subnetPrefix,
          host: hostId,
          publicIp: externalIp,
          previous: this.#subnet,
          random: drawOf(hostId),
          signal,
        })
        await this.#inTurn(() => this.#configure(bridgeSubnet(lease.subnet) ?? this.#subnet))
        this.#markLeased()
        log.info({ subnet: lease.subnet }, 'subnet leased')
        await this.#connect()
        return
      } catch (err) {
        if (signal.aborted) return
        const reason = describeError(err)
        if (reason !== told) log.info({ reason }, 'no subnet lease yet')
        told = reason
        await sleep(leaseRetryMs, signal).catch(() => undefined)
      }
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { etcd, log } = this.#options
    const onLeases = (leases: readonly SubnetLease[]) => {
      this.#leases = leases
      void this.#connect()
    }
    await watchLeases(etcd, onLeases, { signal, log })
  }

  async #check(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      await sleep(overlayCheckMs, signal).catch(() => undefined)
      if (!signal.aborted) await this.#connect()
    }
  }

  #inTurn(change: () => Promise<void>): Promise<void> {
    const turn = this.#turn.then(change)
    this.#turn = turn.catch(() => undefined)
    return turn
  }

  /** Brings the kernel to what the leases say. Failures are logged; the next check tries again. */
  async #connect(): Promise<void> {
    const { network, externalIp, hostId, log } = this.#options
    if (!this.#leased || this.#leases.length === 0) return
    const peers = () => this.#leases.filter(l => l.host !== hostId)
    await this.#inTurn(() => network.connect(externalIp, peers())).catch((err: unknown) =>
      log.error({ err }, 'the overlay is not as the leases say'),
    )
  }
}
