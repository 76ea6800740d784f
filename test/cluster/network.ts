// The network of a test cluster: one bridge on this machine, one veth pair a host, and two nftables tables that carry
// the cuts between hosts and the border to the outside. Names and addresses come from names.ts.
import { run, runJson } from '../../pkg/proc/run.ts'
import {
  bridgeAlias,
  bridgeName,
  freeSubnets,
  gatewayAddress,
  hostAddress,
  linkName,
  macAddress,
  subnetCidr,
  tableName,
} from './names.ts'

type IpAddress = { readonly addr_info?: readonly { readonly local?: string }[] }
type IpRoute = { readonly dst?: string }
type IpLink = { readonly ifname: string; readonly ifalias?: string; readonly master?: string }

/** Makes the cluster's bridge on the first free subnet and answers the subnet's number. */
export async function makeBridge(cluster: string, internet: boolean): Promise<number> {
  const addresses = await runJson<readonly IpAddress[]>(['ip', '-j', '-4', 'addr'])
  const routes = await runJson<readonly IpRoute[]>(['ip', '-j', '-4', 'route'])
  const taken = [
    ...addresses.flatMap(a => a.addr_info ?? []).flatMap(i => i.local ?? []),
    ...routes.flatMap(r => r.dst ?? []),
  ]
  for (const subnet of freeSubnets(taken)) {
    if (!(await claimBridge(subnet))) continue
    const bridge = bridgeName(subnet)
    await run(['ip', 'link', 'set', 'dev', bridge, 'alias', bridgeAlias(cluster)])
    await run(['ip', 'addr', 'add', `${gatewayAddress(subnet)}/24`, 'dev', bridge])
    await run(['ip', 'link', 'set', bridge, 'up'])
    await run(['nft', '-f', '-'], { input: tables(subnet, internet) })
    return subnet
  }
  throw new Error('no free subnet for a test cluster: remove old ones with `npm run hosts -- down`')
}

/** The kernel makes a name once: of two processes that pick the same number one is told to take the next. */
async function claimBridge(subnet: number): Promise<boolean> {
  const mac = macAddress(subnet, 'gateway')
  const made = await run(
    ['ip', 'link', 'add', 'name', bridgeName(subnet), 'address', mac, 'type', 'bridge'],
    { accept: [2] },
  )
  if (made.code === 0) return true
  if (made.stderr.includes('File exists')) return false
  throw new Error(`cannot make bridge ${bridgeName(subnet)}: ${made.stderr.trim()}`)
}

function tables(subnet: number, internet: boolean): string {
  const bridge = bridgeName(subnet)
  const border = internet
    ? `chain out {
    type nat hook postrouting priority srcnat;
    ip saddr ${subnetCidr(subnet)} oifname != "${bridge}" masquerade
  }`
    : `chain border {
    type filter hook forward priority -10;
    iifname "${bridge}" oifname != "${bridge}" reject
    oifname "${bridge}" iifname != "${bridge}" reject
  }`
  return `table bridge ${tableName(subnet)} {
  chain cut {
    type filter hook forward priority 0;
  }
}
table inet ${tableName(subnet)} {
  ${border}
}
`
}

/** Plugs a booted host in. */
export async function plugIn(subnet: number, index: number, pid: number): Promise<void> {
  const link = linkName(subnet, index)
  const peer = ['peer', 'name', 'eth0', 'address', macAddress(subnet, index), 'netns', String(pid)]
  await run(['ip', 'link', 'add', 'name', link, 'type', 'veth', ...peer])
  await run(['ip', 'link', 'set', link, 'master', bridgeName(subnet), 'up'])
  const inside = [
    'link set lo up',
    `addr add ${hostAddress(subnet, index)}/24 dev eth0`,
    'link set eth0 up',
    `route add default via ${gatewayAddress(subnet)}`,
  ]
  await run(['nsenter', '-t', String(pid), '-n', 'ip', '-batch', '-'], { input: `${inside.join('\n')}\n` })
}

/** The kernel takes namespaces apart later than it ends processes, so the cable is pulled by hand. */
export async function unplug(cluster: string, subnet: number, index: number): Promise<void> {
  if (await isAnothers(cluster, subnet)) return
  await deleteLink(linkName(subnet, index))
}

/** A cluster that was half removed has lost its number: the bridge may belong to a newer one by now. */
export async function isAnothers(cluster: string, subnet: number): Promise<boolean> {
  const links = await runJson<readonly IpLink[]>(['ip', '-j', 'link'])
  const bridge = links.find(l => l.ifname === bridgeName(subnet))
  return bridge?.ifalias !== undefined && bridge.ifalias !== bridgeAlias(cluster)
}

async function deleteLink(name: string): Promise<void> {
  const gone = await run(['ip', 'link', 'del', name], { accept: [1, 2] })
  if (gone.code !== 0 && !gone.stderr.includes('Cannot find device'))
    throw new Error(`cannot remove link ${name}: ${gone.stderr.trim()}`)
}

/**
 * Drops the packets that host `from` sends to host `to`, from now on. ARP stays, or a cut of one direction would cut
 * the other as well.
 */
export async function cutOneWay(subnet: number, from: number, to: number): Promise<void> {
  const match = ['iifname', linkName(subnet, from), 'oifname', linkName(subnet, to)]
  const packets = ['ether', 'type', '{ ip, ip6 }']
  await run(['nft', 'add', 'rule', 'bridge', tableName(subnet), 'cut', ...match, ...packets, 'drop'])
}

export async function healAll(subnet: number): Promise<void> {
  await run(['nft', 'flush', 'chain', 'bridge', tableName(subnet), 'cut'])
}

/** Subnet numbers of the bridges that carry the cluster's alias; more than one only after a crash. */
export async function subnetsOf(cluster: string): Promise<number[]> {
  const links = await runJson<readonly IpLink[]>(['ip', '-j', 'link'])
  return links
    .filter(l => l.ifalias === bridgeAlias(cluster))
    .map(l => Number(l.ifname.slice(bridgeName(0).length - 1)))
}

export async function linksOf(subnet: number): Promise<string[]> {
  const links = await runJson<readonly IpLink[]>(['ip', '-j', 'link'])
  const bridge = bridgeName(subnet)
  return links.map(l => l.ifname).filter(n => n === bridge || n.startsWith(`${bridge}-`))
}

type NftList = { readonly nftables: readonly { table?: { family: string; name: string } }[] }

export async function tablesOf(subnet: number): Promise<string[]> {
  const { nftables } = await runJson<NftList>(['nft', '-j', 'list', 'tables'])
  return nftables
    .flatMap(entry => entry.table ?? [])
    .filter(table => table.name === tableName(subnet))
    .map(table => `${table.family} ${table.name}`)
}

export async function removeNetwork(subnet: number): Promise<void> {
  for (const table of await tablesOf(subnet)) {
    const [family = '', name = ''] = table.split(' ')
    await run(['nft', 'delete', 'table', family, name])
  }
  for (const link of (await linksOf(subnet)).reverse()) await deleteLink(link)
}
