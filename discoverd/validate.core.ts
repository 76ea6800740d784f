// Checks of what clients send, with the texts of contract discoverd.md 4 and 5. Each answers the text of what is wrong,
// or undefined.

export function serviceNameFault(name: string): string | undefined {
  if (name === '') return 'discoverd: service name must not be empty'
  if (!/^[a-z0-9-]+$/.test(name)) return 'discoverd: service must be lowercase alphanumeric plus dash'
  return undefined
}

export type HostPort = { readonly host: string; readonly port: string }

/** Splits `host:port` or `[ipv6]:port`; a text instead of the halves says what is wrong. */
export function splitHostPort(addr: string): HostPort | string {
  const fault = (text: string) => `address ${addr}: ${text}`
  const colon = addr.lastIndexOf(':')
  if (colon < 0) return fault('missing port in address')
  let host: string
  if (addr.startsWith('[')) {
    const end = addr.indexOf(']')
    if (end < 0) return fault("missing ']' in address")
    if (end + 1 === addr.length) return fault('missing port in address')
    if (end + 1 !== colon)
      return fault(addr[end + 1] === ':' ? 'too many colons in address' : 'missing port in address')
    host = addr.slice(1, end)
    if (host.includes('[')) return fault("unexpected '[' in address")
  } else {
    host = addr.slice(0, colon)
    if (host.includes(':')) return fault('too many colons in address')
    if (host.includes('[')) return fault("unexpected '[' in address")
    if (host.includes(']')) return fault("unexpected ']' in address")
  }
  return { host, port: addr.slice(colon + 1) }
}

/** `expectedId` is the id that protocol and address give. */
export function instanceFault(
  instance: { readonly id: string; readonly addr: string; readonly proto: string },
  expectedId: string,
): string | undefined {
  if (instance.proto === '') return 'discoverd: proto must be set'
  if (!/^[a-z0-9]+$/.test(instance.proto)) return 'discoverd: proto must be lowercase alphanumeric'
  const split = splitHostPort(instance.addr)
  if (typeof split === 'string') return split
  if (instance.id !== expectedId) return `discoverd: instance id is incorrect, expected ${expectedId}`
  return undefined
}
