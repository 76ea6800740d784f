// IPv4 subnets and who has which address of one (contract host.md 5.2): next-fit, so that a freed address rests as long
// as possible before somebody else gets it. Pure.

export type Subnet = {
  /** The address written before the slash, e.g. that of the bridge. */
  readonly address: string
  readonly network: number
  readonly broadcast: number
  readonly prefix: number
}

export function toNumber(address: string): number | undefined {
  const parts = address.split('.')
  if (parts.length !== 4) return undefined
  let value = 0
  for (const part of parts) {
    if (!/^(0|[1-9]\d{0,2})$/.test(part) || Number(part) > 255) return undefined
    value = value * 256 + Number(part)
  }
  return value
}

export function toAddress(value: number): string {
  return [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255].join('.')
}

/** `100.100.5.1/24`; undefined when it is not one, or has no room for a container beside the bridge. */
export function parseSubnet(text: string): Subnet | undefined {
  const [address = '', bits = ''] = text.split('/')
  const value = toNumber(address)
  if (value === undefined || !/^\d{1,2}$/.test(bits)) return undefined
  const prefix = Number(bits)
  if (prefix < 8 || prefix > 30) return undefined
  const size = 2 ** (32 - prefix)
  const network = value - (value % size)
  return { address, network, broadcast: network + size - 1, prefix }
}

export function contains(subnet: Subnet, address: string): boolean {
  const value = toNumber(address)
  return value !== undefined && value >= subnet.network && value <= subnet.broadcast
}

export type Allocation = {
  readonly subnet: Subnet
  /** Given last; the search goes on after it. */
  readonly last: number
  /** Job by address. */
  readonly taken: ReadonlyMap<number, string>
}

export function emptyAllocation(subnet: Subnet): Allocation {
  return { subnet, last: subnet.network, taken: new Map() }
}

/** The next free address for a job, the one it has already, or undefined when none is free. */
export function allocate(
  state: Allocation,
  jobId: string,
): { readonly state: Allocation; readonly address: string } | undefined {
  for (const [value, job] of state.taken) if (job === jobId) return { state, address: toAddress(value) }
  const { network, broadcast, address } = state.subnet
  const bridge = toNumber(address)
  const count = broadcast - network - 1
  for (let step = 1; step <= count; step++) {
    const value = network + 1 + ((state.last - network - 1 + step + count) % count)
    if (value === bridge || state.taken.has(value)) continue
    const taken = new Map(state.taken).set(value, jobId)
    return { state: { ...state, taken, last: value }, address: toAddress(value) }
  }
  return undefined
}

/** The job has this address already; one outside the subnet is not counted. */
export function reserve(state: Allocation, jobId: string, address: string): Allocation {
  const value = toNumber(address)
  if (value === undefined || !contains(state.subnet, address)) return state
  return { ...state, taken: new Map(state.taken).set(value, jobId), last: Math.max(state.last, value) }
}

export function release(state: Allocation, jobId: string): Allocation {
  return { ...state, taken: new Map([...state.taken].filter(([, job]) => job !== jobId)) }
}
