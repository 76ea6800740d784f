import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { readFile, readlink, writeFile } from 'node:fs/promises'
import { createConnection, createServer, type Server } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { BridgeNetwork, linkName } from '../../host/network/network.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { reach } from '../../pkg/net/reach.ts'
import { run, runJson } from '../../pkg/proc/run.ts'
import { enginePaths, inOwnNamespaces } from './engine-host.ts'

inOwnNamespaces(import.meta.filename)

const dir = enginePaths().stateDir
const paths = {
  ...enginePaths(),
  hostResolvConf: join(dir, 'host-resolv.conf'),
  systemdResolvConf: join(dir, 'systemd-resolv.conf'),
}
const subnet = '100.100.5.1/24'
const children: ChildProcess[] = []
const servers: Server[] = []

function newNetwork() {
  return new BridgeNetwork({ paths, log: silentLogger() })
}

/** A process in a network namespace of its own: all that the network sees of a container. */
async function emptyContainer(): Promise<number> {
  const child = spawn('unshare', ['--net', 'sleep', 'infinity'], { stdio: 'ignore' })
  children.push(child)
  const own = await readlink('/proc/self/ns/net')
  return poll(async () => ((await readlink(`/proc/${child.pid}/ns/net`)) === own ? undefined : child.pid), {
    timeoutMs: 20_000,
    what: 'a network namespace',
  })
}

/** Answers each connection with the address it came from. */
async function listen(address: string, port: number): Promise<void> {
  const server = createServer(
    socket => void socket.on('error', () => undefined).end(`${socket.remoteAddress}\n`),
  )
  servers.push(server)
  await new Promise<void>(resolve => server.listen(port, address, resolve))
}

/** Connects from inside a namespace (or from the host); answers what came, or undefined when refused. */
async function connect(pid: number | undefined, address: string, port: number): Promise<string | undefined> {
  const nc = ['busybox', 'nc', '-w', '2', address, String(port)] as const
  const inside = ['nsenter', '--target', String(pid), '--net', ...nc] as const
  const result = await run(pid === undefined ? nc : inside, { accept: [1], timeoutMs: 20_000 })
  return result.code === 0 && result.stdout !== '' ? result.stdout.trim() : undefined
}

async function bridge() {
  const [link] = await runJson<
    { address: string; mtu: number; addr_info: { local: string; prefixlen: number; family: string }[] }[]
  >(['ip', '-j', 'addr', 'show', 'dev', paths.bridge])
  assert.ok(link)
  const own = link.addr_info.filter(a => a.family === 'inet').map(a => `${a.local}/${a.prefixlen}`)
  return { mac: link.address, mtu: link.mtu, own }
}

let network: BridgeNetwork

before(async () => {
  await writeFile(paths.hostResolvConf, 'nameserver 127.0.0.53\nsearch example.org\n')
  await writeFile(paths.systemdResolvConf, 'nameserver 192.0.2.53\n')
  network = newNetwork()
  await network.configure(subnet, 1450)
})

after(() => {
  for (const child of children) child.kill('SIGKILL')
  for (const server of servers) server.close()
})

test('the bridge has the address, the MTU and a fixed MAC, and packets are forwarded', async () => {
  const b = await bridge()
  assert.deepEqual([b.own, b.mtu, b.mac.slice(0, 3)], [[subnet], 1450, 'fe:'])
  assert.equal((await readFile('/proc/sys/net/ipv4/ip_forward', 'utf8')).trim(), '1')
})

test('configuring again changes nothing', async () => {
  const rules = async () => (await run(['nft', 'list', 'table', 'inet', paths.nftTable])).stdout
  const [before, rulesBefore] = [await bridge(), await rules()]
  await newNetwork().configure(subnet, 1450)
  assert.deepEqual(await bridge(), before)
  assert.equal(await rules(), rulesBefore)
})

test('containers ask the bridge for names, and the resolvers behind a local stub are found', async () => {
  assert.equal(await readFile(paths.resolvConf, 'utf8'), 'search example.org\nnameserver 100.100.5.1\n')
  assert.deepEqual(network.state?.resolvers, ['192.0.2.53'])
})

test('containers reach the host and each other by address', async () => {
  const [a, b] = [await emptyContainer(), await emptyContainer()]
  const [addressA, addressB] = [network.allocate('job-a'), network.allocate('job-b')]
  await network.attach('job-a', a, addressA)
  await network.attach('job-b', b, addressB)
  await listen('100.100.5.1', 8080)
  assert.equal(await connect(a, '100.100.5.1', 8080), addressA)
  const server = spawn(
    'nsenter',
    ['--target', String(b), '--net', 'busybox', 'nc', '-l', '-p', '99', '-e', 'echo', 'b'],
    { stdio: 'ignore' },
  )
  children.push(server)
  await poll(async () => (await connect(a, addressB, 99)) === 'b', {
    timeoutMs: 20_000,
    what: 'an answer of b',
  })
  const shown = await run(['nsenter', '--target', String(a), '--net', 'ip', '-o', 'link', 'show', 'eth0'])
  assert.match(shown.stdout, /mtu 1450/)
  await network.release('job-a')
  await network.release('job-b')
})

test('what leaves the overlay comes from the address of the host', async () => {
  const outside = await emptyContainer()
  const inside = (argv: readonly string[]) => run(['nsenter', '--target', String(outside), '--net', ...argv])
  await run(['ip', 'link', 'add', 'up0', 'type', 'veth', 'peer', 'name', 'up1', 'netns', String(outside)])
  await run(['ip', 'addr', 'add', '192.0.2.1/24', 'dev', 'up0'])
  await run(['ip', 'link', 'set', 'up0', 'up'])
  await inside(['ip', 'addr', 'add', '192.0.2.2/24', 'dev', 'up1'])
  await inside(['ip', 'link', 'set', 'up1', 'up'])
  const server = spawn(
    'nsenter',
    [
      '--target',
      String(outside),
      '--net',
      'socat',
      'TCP-LISTEN:80,fork,reuseaddr',
      'SYSTEM:echo $SOCAT_PEERADDR',
    ],
    { stdio: 'ignore' },
  )
  children.push(server)
  const container = await emptyContainer()
  const address = network.allocate('job-out')
  await network.attach('job-out', container, address)
  await poll(async () => (await connect(container, '192.0.2.2', 80)) === '192.0.2.1', {
    timeoutMs: 20_000,
    what: 'the translated address',
  })
  await network.release('job-out')
})

test('etcd on the host is for system jobs and the host itself', async () => {
  const container = await emptyContainer()
  const address = network.allocate('job-etcd')
  await network.attach('job-etcd', container, address)
  for (const port of [2379, 2380]) {
    await listen('100.100.5.1', port)
    assert.equal(await connect(container, '100.100.5.1', port), undefined)
    assert.notEqual(await connect(undefined, '100.100.5.1', port), undefined)
  }
  await network.allowSystem(address, true)
  assert.equal(await connect(container, '100.100.5.1', 2379), address)
  // A new daemon finds them in the kernel.
  const second = newNetwork()
  await second.configure(subnet, 1450)
  assert.equal(await connect(container, '100.100.5.1', 2379), address)
  second.reserve('job-etcd', address)
  await second.release('job-etcd')
})

test('a machine that is not of the cluster reaches neither etcd nor the overlay, one that is does', async () => {
  const stranger = await emptyContainer()
  const inside = (argv: readonly [string, ...string[]]) =>
    run(['nsenter', '--target', String(stranger), '--net', ...argv])
  await run(['ip', 'link', 'add', 'lan0', 'type', 'veth', 'peer', 'name', 'lan1', 'netns', String(stranger)])
  await run(['ip', 'addr', 'add', '198.51.100.1/24', 'dev', 'lan0'])
  await run(['ip', 'link', 'set', 'lan0', 'up'])
  await inside(['ip', 'addr', 'add', '198.51.100.2/24', 'dev', 'lan1'])
  await inside(['ip', 'link', 'set', 'lan1', 'up'])
  await listen('198.51.100.1', 2379)
  assert.equal(await connect(stranger, '198.51.100.1', 2379), undefined)
  await network.setClusterHosts(['198.51.100.1', '198.51.100.2'])
  assert.equal(await connect(stranger, '198.51.100.1', 2379), '198.51.100.2')
  await network.setClusterHosts(['198.51.100.1'])
  assert.equal(await connect(stranger, '198.51.100.1', 2379), undefined)
})

test('connections to a host that is dead are reset, new ones refused, and not when it is back', async () => {
  const [there, here] = [await emptyContainer(), await emptyContainer()]
  const inside = (argv: readonly [string, ...string[]]) =>
    run(['nsenter', '--target', String(there), '--net', ...argv])
  await run(['ip', 'link', 'add', 'far0', 'type', 'veth', 'peer', 'name', 'far1', 'netns', String(there)])
  await run(['ip', 'link', 'set', 'far0', 'up'])
  await run(['ip', 'route', 'add', '100.100.9.0/24', 'dev', 'far0', 'src', '100.100.5.1'])
  for (const argv of [
    ['addr', 'add', '100.100.9.2/24', 'dev', 'far1'],
    ['link', 'set', 'far1', 'up'],
    ['route', 'add', '100.100.5.0/24', 'via', '100.100.5.1', 'dev', 'far1', 'onlink'],
  ])
    await inside(['ip', ...argv])
  const serve = 'require("node:net").createServer(s => s.on("error", () => {}).write("there")).listen(80)'
  const argv = ['--target', String(there), '--net', process.execPath, '-e', serve]
  children.push(spawn('nsenter', argv, { stdio: 'ignore' }))
  const address = network.allocate('job-here')
  await network.attach('job-here', here, address)
  const fromHost = () => reach('100.100.9.2', 80, 2_000)
  const fromContainer = async () => {
    const nc = ['busybox', 'nc', '-w', '1', '100.100.9.2', '80'] as const
    const { stdout, stderr } = await run(['nsenter', '--target', String(here), '--net', ...nc], {
      accept: [1],
      timeoutMs: 20_000,
    })
    return stdout || stderr
  }
  await poll(async () => (await fromHost()) === 'open', { timeoutMs: 20_000, what: 'the host to be there' })
  assert.equal(await fromContainer(), 'there')
  const socket = createConnection(80, '100.100.9.2')
  const reset = new Promise<string | undefined>(resolve => {
    socket.on('error', (e: NodeJS.ErrnoException) => resolve(e.code))
  })
  await new Promise<void>(resolve => socket.once('connect', () => resolve()))
  await network.refuse(['100.100.9.0/24'])
  socket.write('a request')
  assert.equal(await reset, 'ECONNRESET')
  assert.equal(await fromHost(), 'refused')
  assert.match(await fromContainer(), /refused/)
  // Other changes of the rules keep it.
  await network.setClusterHosts(['198.51.100.1', '198.51.100.7'])
  assert.equal(await fromHost(), 'refused')
  await network.refuse([])
  assert.equal(await fromHost(), 'open')
  assert.equal(await fromContainer(), 'there')
  await network.release('job-here')
})

test('other hosts are connected by device, neighbours and routes, and forgotten again', async () => {
  const own = '198.51.100.1'
  const peer = { subnet: '100.100.7.0/24', publicIp: '198.51.100.2' }
  const moved = { ...peer, publicIp: '198.51.100.3' }
  const seen = async () => {
    const fdb = (await run(['bridge', 'fdb', 'show', 'dev', paths.overlayDevice])).stdout
    const routes = (await run(['ip', 'route', 'show', 'dev', paths.overlayDevice])).stdout
    const neighbours = (await run(['ip', 'neigh', 'show', 'dev', paths.overlayDevice])).stdout
    return { fdb: fdb.trim(), routes: routes.trim(), neighbours: neighbours.trim() }
  }
  await network.connect(own, [peer])
  await network.connect(own, [peer])
  const first = await seen()
  assert.match(first.fdb, /^02:42:64:64:07:00 dst 198\.51\.100\.2 self permanent$/)
  assert.match(first.routes, /^100\.100\.7\.0\/24 via 100\.100\.7\.0 src 100\.100\.5\.1 onlink/)
  assert.match(first.neighbours, /^100\.100\.7\.0 lladdr 02:42:64:64:07:00 PERMANENT$/)
  await network.connect(own, [moved])
  assert.match((await seen()).fdb, /^02:42:64:64:07:00 dst 198\.51\.100\.3 self permanent$/)
  // Somebody else's hand in it is put right.
  await run(['ip', 'route', 'del', '100.100.7.0/24', 'dev', paths.overlayDevice])
  await network.connect(own, [moved])
  assert.deepEqual((await seen()).routes, first.routes)
  await network.connect(own, [])
  assert.deepEqual(await seen(), { fdb: '', routes: '', neighbours: '' })
})

test('a released job may not reach etcd when its address is used again', async () => {
  const container = await emptyContainer()
  const address = network.allocate('job-system')
  await network.allowSystem(address, true)
  await network.release('job-system')
  await network.attach('job-other', container, address)
  assert.equal(await connect(container, '100.100.5.1', 2379), undefined)
  await network.release('job-other')
})

test('attaching twice and releasing leaves one link, then none', async () => {
  const container = await emptyContainer()
  const address = network.allocate('job-link')
  await run(['ip', 'link', 'add', linkName('job-link'), 'type', 'veth'], { accept: [1, 2] })
  await network.attach('job-link', container, address)
  const links = async () => (await run(['ip', '-o', 'link', 'show'])).stdout
  assert.match(await links(), new RegExp(linkName('job-link')))
  await network.release('job-link')
  assert.doesNotMatch(await links(), new RegExp(linkName('job-link')))
  await network.release('job-link')
})

test('attaching to a process that is gone is an error and leaves no link', async () => {
  await assert.rejects(network.attach('job-gone', 4_000_000, '100.100.5.77'), { code: 'network' })
  assert.doesNotMatch((await run(['ip', '-o', 'link', 'show'])).stdout, new RegExp(linkName('job-gone')))
})

test('another subnet replaces the old address', async () => {
  const other = newNetwork()
  await other.configure('100.100.9.1/24', 1450)
  assert.deepEqual((await bridge()).own, ['100.100.9.1/24'])
  assert.equal(other.allocate('job-x'), '100.100.9.2')
  await network.configure(subnet, 1450)
})

test('bad subnets and calls before the configuration are refused', async () => {
  const fresh = newNetwork()
  assert.throws(() => fresh.allocate('job'), { code: 'network_absent' })
  for (const bad of ['', '100.100.5.0/24', '100.100.5.1', 'x/24'])
    await assert.rejects(fresh.configure(bad, 1450), { code: 'validation_error' }, bad)
  await assert.rejects(fresh.configure(subnet, 10), { code: 'validation_error' })
  assert.equal(fresh.state, undefined)
})
