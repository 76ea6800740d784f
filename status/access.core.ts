// Who may see the status without a key: clients inside the cluster and on private networks (contract system-apps.md 3).
// Pure: addresses as text.

type Network = { readonly base: bigint; readonly bits: number; readonly width: 32 | 128 }

function ipv4(text: string): bigint | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  let value = 0n
  for (const part of parts) {
    if (!/^\d{1,3}$/.test(part) || Number(part) > 255) return undefined
    value = (value << 8n) | BigInt(part)
  }
  return value
}

function groups(text: string): number[] | undefined {
  if (text === '') return []
  const out: number[] = []
  for (const group of text.split(':')) {
    if (!/^[0-9a-f]{1,4}$/i.test(group)) return undefined
    out.push(Number.parseInt(group, 16))
  }
  return out
}

function ipv6(text: string): bigint | undefined {
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = groups(halves[0] ?? '')
  const tail = groups(halves[1] ?? '')
  if (!head || !tail) return undefined
  const missing = 8 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 1) return undefined
  return [...head, ...Array<number>(missing).fill(0), ...tail].reduce((v, g) => (v << 16n) | BigInt(g), 0n)
}

/** An address and its width; an IPv4 address in IPv6 clothes is the former. */
function parse(address: string): { readonly value: bigint; readonly width: 32 | 128 } | undefined {
  const text = address
    .trim()
    .replace(/^::ffff:(?=\d+\.)/i, '')
    .replace(/%.*$/, '')
  const four = ipv4(text)
  if (four !== undefined) return { value: four, width: 32 }
  const six = text.includes(':') ? ipv6(text) : undefined
  return six === undefined ? undefined : { value: six, width: 128 }
}

function network(cidr: string): Network {
  const [address = '', bits = ''] = cidr.split('/')
  const parsed = parse(address)
  if (!parsed) throw new Error(`not a network: ${cidr}`)
  return { base: parsed.value, bits: Number(bits), width: parsed.width }
}

const trusted = [
  '10.0.0.0/8',
  '172.16.0.0/12',
  '192.168.0.0/16',
  '127.0.0.0/8',
  'fd00::/8',
  '::1/128',
  '192.0.2.0/24',
  '198.51.100.0/24',
  '203.0.113.0/24',
  '100.64.0.0/10',
].map(network)

export function isTrusted(address: string): boolean {
  const parsed = parse(address)
  if (!parsed) return false
  return trusted.some(({ base, bits, width }) => {
    const shift = BigInt(width - bits)
    return parsed.width === width && parsed.value >> shift === base >> shift
  })
}

/** The client behind our router, which adds the address it sees at the end; else the peer. */
export function clientAddress(forwardedFor: string | undefined, peer: string): string {
  return forwardedFor?.split(',').at(-1)?.trim() || peer
}
