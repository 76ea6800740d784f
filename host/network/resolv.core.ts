// resolv.conf: what the machine's says, and what containers get (contract host.md 5.2). Pure.

export type Resolv = { readonly nameservers: readonly string[]; readonly search: readonly string[] }

/** Tolerant: comments, unknown options and odd lines are skipped; the last `search` or `domain` counts. */
export function parseResolv(text: string): Resolv {
  const nameservers: string[] = []
  let search: readonly string[] = []
  for (const line of text.split('\n')) {
    const [keyword, ...values] = line
      .replace(/[#;].*$/, '')
      .trim()
      .split(/\s+/)
    if (keyword === 'nameserver' && values[0]) nameservers.push(values[0])
    if ((keyword === 'search' || keyword === 'domain') && values.length > 0) search = values
  }
  return { nameservers, search }
}

function isLoopback(address: string): boolean {
  return address.startsWith('127.') || address === '::1' || address === '0.0.0.0'
}

/**
 * The name servers that discoverd forwards to. Those of a local stub (systemd-resolved) cannot be reached from
 * elsewhere, so its own upstreams are taken instead; loopback ones remain when there is nothing better.
 */
export function upstreams(host: string, systemd: string | undefined): readonly string[] {
  const own = parseResolv(host).nameservers
  const reachable = own.filter(a => !isLoopback(a))
  if (reachable.length > 0) return reachable
  const behind = systemd === undefined ? [] : parseResolv(systemd).nameservers.filter(a => !isLoopback(a))
  return behind.length > 0 ? behind : own
}

export function containerResolv(search: readonly string[], nameserver: string): string {
  const lines = search.length > 0 ? [`search ${search.join(' ')}`] : []
  return `${[...lines, `nameserver ${nameserver}`].join('\n')}\n`
}
