// Subnet leases of the hosts in etcd (contract host.md 5.4): one key a subnet, created only where there is none, so that two
// hosts never hold one. A lease names the host by its id and lasts until `remove`; the address in it follows the host.
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import type { EtcdCallOptions, EtcdClient, KeyValue } from '../../pkg/etcd/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { engineErrors } from '../container/errors.ts'
import { chooseSubnet } from './lease.core.ts'

export const leasePrefix = '/flynn/subnets/'
/** Hosts that choose at the same time collide; each try sees what the others took. */
const tryMax = 20

const LeaseValue = Type.Object({ host: Type.String(), public_ip: Type.String() })
type LeaseValue = Static<typeof LeaseValue>

export type SubnetLease = {
  /** Network address and prefix length, e.g. 100.100.28.0/24. */
  readonly subnet: string
  readonly host: string
  readonly publicIp: string
}

/** As in the original's lease table: the slash is a dash. */
function leaseKey(subnet: string): string {
  return leasePrefix + subnet.replace('/', '-')
}

function parseLease(kv: Pick<KeyValue, 'key' | 'value'>): SubnetLease | undefined {
  try {
    const value: unknown = JSON.parse(kv.value.toString())
    if (!Value.Check(LeaseValue, value)) return undefined
    const subnet = kv.key.slice(leasePrefix.length).replace('-', '/')
    return { subnet, host: value.host, publicIp: value.public_ip }
  } catch {
    // Not ours; a lease that nobody can read counts as taken by nobody we know.
    return undefined
  }
}

function leaseValue(host: string, publicIp: string): string {
  const value: LeaseValue = { host, public_ip: publicIp }
  return JSON.stringify(value)
}

export type AcquireOptions = {
  readonly etcd: EtcdClient
  /** The whole overlay, and the prefix length of a host's share. */
  readonly network: string
  readonly prefix: number
  readonly host: string
  readonly publicIp: string
  /** What this host used last. */
  readonly previous: string
  readonly random: number
  readonly signal: AbortSignal
}

/** This host's lease: the one it has, with its present address, or a new one. Rejects while etcd has no majority. */
export async function acquireLease(o: AcquireOptions): Promise<SubnetLease> {
  const value = leaseValue(o.host, o.publicIp)
  for (let n = 0; n < tryMax; n++) {
    const { kvs } = await o.etcd.list(leasePrefix, { signal: o.signal })
    const known = kvs.map(kv => ({ kv, lease: parseLease(kv) }))
    const taken = known.map(({ kv, lease }) => ({
      subnet: lease?.subnet ?? kv.key.slice(leasePrefix.length).replace('-', '/'),
      host: lease?.host ?? '',
    }))
    const subnet = chooseSubnet({ ...o, taken })
    if (subnet === undefined) throw engineErrors.SUBNETS_EXHAUSTED({ network: o.network })
    const own = known.find(k => k.lease?.host === o.host)
    const held: SubnetLease = { subnet, host: o.host, publicIp: o.publicIp }
    if (own?.lease?.publicIp === o.publicIp) return held
    const key = leaseKey(subnet)
    const guard = own
      ? ({ key, is: 'unchanged', modRevision: own.kv.modRevision } as const)
      : ({ key, is: 'absent' } as const)
    const { succeeded } = await o.etcd.txn(
      { guards: [guard], ops: [{ op: 'put', key, value }] },
      { signal: o.signal },
    )
    // Also after a lost answer the next listing shows whether it is ours.
    if (succeeded) return held
  }
  throw engineErrors.SUBNETS_EXHAUSTED({ network: o.network })
}

/** All leases in force that can be read. */
export async function listLeases(
  etcd: EtcdClient,
  options: EtcdCallOptions,
): Promise<readonly SubnetLease[]> {
  return (await etcd.list(leasePrefix, options)).kvs.flatMap(kv => parseLease(kv) ?? [])
}

/** Gives a host's subnet back; false when it had none. */
export async function returnLease(etcd: EtcdClient, host: string): Promise<boolean> {
  const { kvs } = await etcd.list(leasePrefix)
  const own = kvs.filter(kv => parseLease(kv)?.host === host)
  for (const kv of own) await etcd.delete(kv.key)
  return own.length > 0
}

/** Calls `onLeases` with all leases, first and after every change, until the signal aborts. */
export async function watchLeases(
  etcd: EtcdClient,
  onLeases: (leases: readonly SubnetLease[]) => void,
  options: { readonly signal: AbortSignal; readonly log: Logger },
): Promise<void> {
  const leases = new Map<string, SubnetLease>()
  const put = (kv: Pick<KeyValue, 'key' | 'value'>) => {
    const lease = parseLease(kv)
    if (lease) leases.set(kv.key, lease)
    else options.log.warn({ key: kv.key }, 'a subnet lease cannot be read')
  }
  const tell = () => onLeases([...leases.values()])
  await etcd.watch(
    leasePrefix,
    {
      onListing: listing => {
        leases.clear()
        for (const kv of listing.kvs) put(kv)
        tell()
      },
      onChanges: changes => {
        for (const change of changes) {
          if (change.type === 'put') put(change)
          else leases.delete(change.key)
        }
        tell()
      },
    },
    options.signal,
  )
}
