// The texts that are fed to nft and ip: packet rules of a host, and the two ends of a container's link. Pure.

import { vxlanPort } from './vxlan.core.ts'

export const overlayNetwork = '100.100.0.0/16'
const etcdPorts = '2379, 2380'

export type RulesOptions = {
  readonly table: string
  readonly bridge: string
  /** Network address and prefix length of this host's containers. */
  readonly subnet: string
  readonly overlay: string
  /** Addresses of system jobs: they may reach etcd. */
  readonly systemJobs: readonly string[]
  /** Addresses of the cluster's hosts, this one among them: only they reach etcd here and send packets of the overlay. */
  readonly clusterHosts: readonly string[]
  /** Subnets of hosts that are dead: packets to them are refused. */
  readonly deadSubnets: readonly string[]
}

/** The kernel forgets a refusal after this, unless it is told again: a daemon that ends may not leave a living host refused. */
export const refusedForMs = 30_000

function deadElements(subnets: readonly string[]): string {
  return subnets.map(s => `${s} timeout ${refusedForMs}ms`).join(', ')
}

/** The text for nft that makes these, and no others, the dead subnets. */
export function refusal(table: string, subnets: readonly string[]): string {
  const add =
    subnets.length === 0 ? '' : `add element inet ${table} dead_subnets { ${deadElements(subnets)} }\n`
  return `flush set inet ${table} dead_subnets\n${add}`
}

function set(name: string, elements: readonly string[]): string {
  const list = elements.length === 0 ? '' : ` elements = { ${elements.join(', ')} };`
  return `  set ${name} { type ipv4_addr;${list} }`
}

const refuseDead = [
  '    ip daddr @dead_subnets meta l4proto tcp reject with tcp reset',
  '    ip daddr @dead_subnets reject',
]

/**
 * The whole of our table, replaced in one transaction: nobody sees a moment without rules, and a second run changes
 * nothing. The first line makes the table exist, so that deleting it cannot fail.
 */
export function ruleset(o: RulesOptions): string {
  const guarded = `ip saddr ${o.overlay} tcp dport { ${etcdPorts} } ip saddr != @system_jobs`
  return [
    `table inet ${o.table} {}`,
    `delete table inet ${o.table}`,
    `table inet ${o.table} {`,
    set('system_jobs', o.systemJobs),
    set('cluster_hosts', o.clusterHosts),
    `  set dead_subnets { type ipv4_addr; flags interval, timeout;${o.deadSubnets.length === 0 ? '' : ` elements = { ${deadElements(o.deadSubnets)} };`} }`,
    '  chain input {',
    '    type filter hook input priority filter; policy accept;',
    '    iif lo accept',
    `    iifname "${o.bridge}" tcp dport { ${etcdPorts} } ip saddr @system_jobs accept`,
    // A host without the join key is a stranger, and so is a container that is not the system's.
    `    tcp dport { ${etcdPorts} } ip saddr != @cluster_hosts reject with tcp reset`,
    `    udp dport ${vxlanPort} ip saddr != @cluster_hosts drop`,
    '  }',
    '  chain forward {',
    '    type filter hook forward priority filter; policy accept;',
    ...refuseDead,
    // On its way out a container's address becomes the host's, which other hosts let in: it must be stopped here.
    `    ip daddr @cluster_hosts ${guarded} reject with tcp reset`,
    `    iifname "${o.bridge}" accept`,
    `    oifname "${o.bridge}" ct state established,related accept`,
    `    ip saddr ${o.overlay} oifname "${o.bridge}" accept`,
    '  }',
    '  chain output {',
    '    type filter hook output priority filter; policy accept;',
    ...refuseDead,
    '  }',
    '  chain postrouting {',
    '    type nat hook postrouting priority srcnat; policy accept;',
    `    ip saddr ${o.subnet} ip daddr != ${o.overlay} masquerade`,
    '  }',
    '}',
    '',
  ].join('\n')
}

/** Rules for a foreign FORWARD chain that drops by default (Docker, ufw): accepting in our table does not reach it. */
export function forwardRules(bridge: string, overlay: string): readonly (readonly string[])[] {
  return [
    ['-i', bridge, '-j', 'ACCEPT'],
    ['-o', bridge, '-m', 'conntrack', '--ctstate', 'RELATED,ESTABLISHED', '-j', 'ACCEPT'],
    ['-s', overlay, '-o', bridge, '-j', 'ACCEPT'],
  ]
}

/** A bridge without a fixed address takes the lowest of its ports, and changes it as containers come and go. */
export function bridgeMac(bytes: Uint8Array): string {
  return ['fe', ...[...bytes.subarray(0, 5)].map(b => b.toString(16).padStart(2, '0'))].join(':')
}

export type LinkOptions = {
  readonly link: string
  readonly bridge: string
  readonly pid: number
  readonly mtu: number
}

export function hostLinkBatch(o: LinkOptions): string {
  return [
    `link add ${o.link} mtu ${o.mtu} type veth peer name eth0 mtu ${o.mtu} netns ${o.pid}`,
    `link set ${o.link} master ${o.bridge} up`,
    '',
  ].join('\n')
}

export function containerLinkBatch(address: string, prefix: number, gateway: string): string {
  return [
    'link set lo up',
    `addr add ${address}/${prefix} dev eth0`,
    'link set eth0 up',
    `route add default via ${gateway}`,
    '',
  ].join('\n')
}
