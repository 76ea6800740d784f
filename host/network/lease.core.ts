// Which subnet of the overlay network a host takes (contract host.md 5.4): the one it had, else a free one. Pure; the
// leases themselves are kept by the caller.
import { parseSubnet, toAddress } from './address.core.ts'

export type LeaseRequest = {
  /** The whole overlay, e.g. 100.100.0.0/16. */
  readonly network: string
  /** Prefix length of a host's subnet. */
  readonly prefix: number
  /** This host's identity, as its lease names it; addresses change, it does not. */
  readonly host: string
  /** Leases in force: network address with prefix, and whose. */
  readonly taken: readonly { readonly subnet: string; readonly host: string }[]
  /** What this host used last, from its own files: containers keep their name servers if it is still free. */
  readonly previous?: string
  /** From 0 up to but not 1; spreads hosts that choose at the same time. */
  readonly random: number
}

/** Free subnets looked at before one is drawn. */
const candidatesMax = 100

function normal(subnet: string): string | undefined {
  const parsed = parseSubnet(subnet)
  return parsed === undefined ? undefined : `${toAddress(parsed.network)}/${parsed.prefix}`
}

/** Network address with prefix length, e.g. 100.100.28.0/24; undefined when none is free or the input is not valid. */
export function chooseSubnet(request: LeaseRequest): string | undefined {
  const overlay = parseSubnet(request.network)
  if (overlay === undefined || request.prefix <= overlay.prefix || request.prefix > 30) return undefined
  const own = request.taken.find(lease => lease.host === request.host)
  const ownSubnet = own === undefined ? undefined : normal(own.subnet)
  if (ownSubnet !== undefined) return ownSubnet
  const taken = new Set(request.taken.map(lease => normal(lease.subnet)))
  const size = 2 ** (32 - request.prefix)
  const previous = request.previous === undefined ? undefined : parseSubnet(request.previous)
  if (
    previous?.prefix === request.prefix &&
    previous.network > overlay.network &&
    previous.broadcast <= overlay.broadcast
  ) {
    const text = `${toAddress(previous.network)}/${previous.prefix}`
    if (!taken.has(text)) return text
  }
  const free: string[] = []
  // The first subnet holds the overlay's own network address; nobody gets it.
  for (let n = overlay.network + size; n < overlay.broadcast && free.length < candidatesMax; n += size) {
    const text = `${toAddress(n)}/${request.prefix}`
    if (!taken.has(text)) free.push(text)
  }
  return free[Math.floor(request.random * free.length)]
}

/** The bridge's address in a lease: its first usable one, with prefix length. */
export function bridgeSubnet(lease: string): string | undefined {
  const parsed = parseSubnet(lease)
  return parsed === undefined ? undefined : `${toAddress(parsed.network + 1)}/${parsed.prefix}`
}
