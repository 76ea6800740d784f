// What discoverd promises when things die: etcd or discoverd killed, a whole host gone, addresses changed, peers and
// proxies of one cluster. Hosts are loopback addresses, all daemons real.
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { after, before, describe, test } from 'node:test'
import type { DiscoverdEvent, Registration } from '../../discoverd/client.ts'
import { leaseTtlMs } from '../../discoverd/liveness.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { EtcdClient } from '../../pkg/etcd/client.ts'
import { instanceId } from '../../pkg/ids/ids.ts'
import { newDaemon, type TestDaemon } from '../fixtures/discoverd.ts'
import { loopbackNet } from '../fixtures/etcd.ts'

const net = loopbackNet(43)
const deadline = { timeoutMs: 30_000, intervalMs: 20 }
const goneWithinMs = 20_000

type Watching = { readonly events: DiscoverdEvent[]; readonly stop: () => Promise<void> }

async function watch(daemon: TestDaemon, service: string): Promise<Watching> {
  const events: DiscoverdEvent[] = []
  const abort = new AbortController()
  const running = (async () => {
    for await (const event of daemon.client.watch(service, { signal: abort.signal })) events.push(event)
  })()
  await poll(() => events.some(e => e.kind === 'current'), { ...deadline, what: 'the first replay' })
  return {
    events,
    stop: async () => {
      abort.abort()
      await running
    },
  }
}

const kinds = (events: readonly DiscoverdEvent[]) => events.map(e => e.kind)
const addresses = async (daemon: TestDaemon, service: string) =>
  (await daemon.client.instances(service, { timeoutMs: 10_000 })).map(i => i.addr)

async function registerMany(
  daemon: TestDaemon,
  service: string,
  count: number,
): Promise<readonly Registration[]> {
  const regs: Registration[] = []
  for (let i = 1; i <= count; i++)
    regs.push(await daemon.client.register({ service, addr: `10.0.0.${i}:80`, create: true, env: {} }))
  return regs
}

async function closeAll(regs: readonly Registration[]): Promise<void> {
  await Promise.all(regs.map(r => r.close()))
}

describe('one daemon', () => {
  const host = `${net}.1`
  let daemon: TestDaemon
  before(async () => {
    daemon = await newDaemon({ host })
    daemon.start()
    await daemon.ready()
  })
  after(() => daemon.remove())

  test('serves reads and streams while its etcd is dead, and writes as soon as it is back', async () => {
    const regs = await registerMany(daemon, 'etcd-killed', 3)
    const watching = await watch(daemon, 'etcd-killed')
    const pid = await daemon.killEtcd()
    assert.equal((await daemon.client.instances('etcd-killed')).length, 3)
    await daemon.client.setMeta('etcd-killed', { data: 'written', index: 0 })
    assert.notEqual(await daemon.etcdPid(), pid)
    await poll(() => kinds(watching.events).includes('service_meta'), { ...deadline, what: 'the write' })
    assert.deepEqual(kinds(watching.events), ['up', 'up', 'up', 'leader', 'current', 'service_meta'])
    await watching.stop()
    await closeAll(regs)
  })

  for (const [name, die] of [
    ['discoverd is killed', () => daemon.kill()],
    ['discoverd and etcd are killed', () => daemon.powerOff()],
    ['discoverd is stopped', () => daemon.terminate()],
  ] as const)
    test(`nothing flaps when ${name} and starts again`, async () => {
      const service = name.replaceAll(' ', '-')
      const regs = await registerMany(daemon, service, 3)
      const before = await daemon.client.instances(service)
      const watching = await watch(daemon, service)
      await die()
      daemon.start()
      await daemon.ready()
      await poll(() => kinds(watching.events).filter(k => k === 'current').length === 2, {
        ...deadline,
        what: 'the watch to reconnect',
      })
      // Past the grace that instances found at the start have: only their heartbeats keep them.
      const until = Date.now() + 8_000
      await poll(() => Date.now() > until, { ...deadline, what: 'the grace to pass' })
      assert.deepEqual(await daemon.client.instances(service), before)
      assert.deepEqual(kinds(watching.events), ['up', 'up', 'up', 'leader', 'current', 'current'])
      await watching.stop()
      await closeAll(regs)
    })

  test('instances come back at once when the lease of the daemon is lost', async () => {
    const regs = await registerMany(daemon, 'lease-lost', 3)
    const watching = await watch(daemon, 'lease-lost')
    await daemon.endLease()
    await poll(() => kinds(watching.events).filter(k => k === 'up').length === 6, {
      ...deadline,
      what: 'the instances to come back',
    })
    assert.deepEqual(kinds(watching.events).slice(5, 9), ['down', 'down', 'down', 'leader'])
    assert.equal((await daemon.client.instances('lease-lost')).length, 3)
    await watching.stop()
    await closeAll(regs)
  })

  test('after a reboot of the machine its former instances are dropped at once', async () => {
    await daemon.client.addService('rebooted')
    const addr = '10.0.0.1:80'
    await daemon.client.putInstance('rebooted', { id: instanceId('tcp', addr), addr, proto: 'tcp' })
    const watching = await watch(daemon, 'rebooted')
    // A lease that would keep the instance for longer than this test has, if it were left to its time.
    const etcd = new EtcdClient({ endpoints: [`${host}:2379`] })
    const lease = await etcd.grantLease(3 * deadline.timeoutMs)
    const stored = (await etcd.list('/')).kvs.find(kv => kv.value.includes(addr))
    assert.ok(stored)
    await etcd.put(stored.key, stored.value, { lease: lease.id })
    await lease.release()
    etcd.close()
    await daemon.powerOff()
    await writeFile(`${daemon.dir}/lease.json`, JSON.stringify({ lease: lease.id, boot: 'an earlier one' }))
    daemon.start()
    await poll(() => kinds(watching.events).includes('down'), { ...deadline, what: 'the instance to go' })
    await watching.stop()
  })

  test('an instance whose owner died together with the daemon goes after the restart', async () => {
    await daemon.client.addService('inherited')
    const addr = '10.0.0.1:80'
    await daemon.client.putInstance('inherited', { id: instanceId('tcp', addr), addr, proto: 'tcp' })
    await daemon.powerOff()
    daemon.start()
    await daemon.ready()
    assert.deepEqual(await addresses(daemon, 'inherited'), [addr])
    await poll(async () => (await addresses(daemon, 'inherited')).length === 0, {
      ...deadline,
      what: 'the inherited instance to expire',
    })
  })
})

test('a host that comes back with another address keeps its state and tells the new address', async () => {
  const [oldHost, newHost] = [`${net}.5`, `${net}.6`]
  const daemon = await newDaemon({ host: oldHost })
  const moved = await newDaemon({ host: newHost })
  try {
    daemon.start()
    await daemon.ready()
    await daemon.client.addService('moved')
    await daemon.client.setMeta('moved', { data: { kept: true }, index: 0 })
    await daemon.powerOff()
    moved.start(['-data-dir', daemon.dir, '-peers', `${oldHost}:1111`])
    await moved.ready()
    assert.deepEqual((await moved.client.getMeta('moved'))?.data, { kept: true })
    await poll(async () => (await moved.client.raftPeers())[0] === `${newHost}:1111`, {
      ...deadline,
      what: 'the new address',
    })
    assert.equal((await moved.client.raftLeader()).host, `${newHost}:1111`)
  } finally {
    await daemon.killEtcd().catch(() => undefined)
    await moved.remove()
    await daemon.remove()
  }
})

describe('three peers and a proxy', () => {
  const hosts = [11, 12, 13].map(n => `${net}.${n}`)
  let peers: readonly TestDaemon[]
  let proxy: TestDaemon
  let all: readonly TestDaemon[]
  before(async () => {
    peers = await Promise.all(hosts.map(host => newDaemon({ host, peers: hosts })))
    proxy = await newDaemon({ host: `${net}.14`, peers: hosts })
    all = [...peers, proxy]
    for (const daemon of all) daemon.start()
    await Promise.all(all.map(d => d.ready()))
  })
  after(async () => {
    await Promise.all(all.map(d => d.remove()))
  })

  const peerOf = (addr: string) => all.find(d => d.url === `http://${addr}`)

  test('agree on peers and leader, and only peers have an etcd', async () => {
    const leaders = new Set<string>()
    for (const daemon of all) {
      assert.deepEqual(
        [...(await daemon.client.raftPeers())].sort(),
        hosts.map(h => `${h}:1111`),
      )
      leaders.add((await daemon.client.raftLeader()).host)
    }
    assert.equal(leaders.size, 1)
    await assert.rejects(proxy.etcdPid())
  })

  test('show a registration at the proxy everywhere, with the same leader', async () => {
    const [first] = peers
    assert.ok(first)
    await first.client.addService('everywhere')
    const a = await proxy.client.register({ service: 'everywhere', addr: '10.0.0.1:80', env: {} })
    const b = await first.client.register({ service: 'everywhere', addr: '10.0.0.2:80', env: {} })
    for (const daemon of all) {
      await poll(async () => (await addresses(daemon, 'everywhere')).length === 2, {
        ...deadline,
        what: `both instances at ${daemon.url}`,
      })
      assert.equal((await daemon.client.leader('everywhere'))?.addr, '10.0.0.1:80')
    }
    await closeAll([a, b])
  })

  test('an instance that heartbeats at another daemon than before lives on', async () => {
    const [first, second] = peers
    assert.ok(first && second)
    await first.client.addService('wandering')
    const addr = '10.0.0.1:80'
    const instance = { id: instanceId('tcp', addr), addr, proto: 'tcp' }
    await first.client.putInstance('wandering', instance)
    const isThere = async () => (await addresses(proxy, 'wandering')).length === 1
    await poll(isThere, { ...deadline, what: 'the instance at the other daemon' })
    const watching = await watch(proxy, 'wandering')
    const until = Date.now() + 13_000
    await poll(
      async () => {
        await second.client.putInstance('wandering', instance)
        return Date.now() > until
      },
      { ...deadline, intervalMs: 3_000, what: 'more than a TTL to pass' },
    )
    assert.deepEqual(kinds(watching.events), ['up', 'leader', 'current'])
    await watching.stop()
    await second.client.deleteInstance('wandering', instance.id)
  })

  test('an instance deleted at another daemon does not come back with a new lease', async () => {
    const [first, second] = peers
    assert.ok(first && second)
    const [gone, kept] = ['10.0.0.1:80', '10.0.0.2:80'].map(addr => ({
      id: instanceId('tcp', addr),
      addr,
      proto: 'tcp',
    }))
    assert.ok(gone && kept)
    await first.client.addService('deleted')
    await first.client.putInstance('deleted', gone)
    await first.client.putInstance('deleted', kept)
    await poll(async () => (await addresses(second, 'deleted')).length === 2, { ...deadline, what: 'both' })
    const watching = await watch(second, 'deleted')
    await second.client.deleteInstance('deleted', gone.id)
    await poll(async () => (await first.log()).includes('deleted at another daemon'), {
      ...deadline,
      what: 'the first daemon to have made sure that its lease is alive',
    })
    await first.endLease()
    const seen = () => watching.events.map(e => `${e.kind} ${e.instance?.addr ?? ''}`)
    await poll(() => seen().filter(e => e === 'up 10.0.0.2:80').length === 2, {
      ...deadline,
      what: 'its return',
    })
    // Both would have been written again at once; whoever has heard of this write has heard of them too.
    await first.client.setMeta('deleted', { data: 'after', index: 0 })
    await poll(() => kinds(watching.events).includes('service_meta'), { ...deadline, what: 'the write' })
    assert.equal(seen().filter(e => e === 'up 10.0.0.1:80').length, 1)
    assert.deepEqual(await addresses(second, 'deleted'), ['10.0.0.2:80'])
    await watching.stop()
  })

  test('one writer wins when all write the same metadata', async () => {
    await proxy.client.addService('contested')
    for (const daemon of all)
      await poll(async () => (await daemon.client.services()).includes('contested'), {
        ...deadline,
        what: 'the service',
      })
    const results = await Promise.allSettled(
      all.map((daemon, n) => daemon.client.setMeta('contested', { data: n, index: 0 })),
    )
    assert.equal(results.filter(r => r.status === 'fulfilled').length, 1)
  })

  for (const role of ['follower', 'leader'] as const)
    test(`a dead host, beside an etcd ${role}, takes its instances with it in seconds`, async t => {
      const service = `dies-${role}`
      await proxy.client.addService(service)
      const leader = peerOf((await proxy.client.raftLeader()).host)
      const dying = role === 'leader' ? leader : peers.find(d => d !== leader)
      assert.ok(dying)
      const living = all.filter(d => d !== dying)
      const kept = await proxy.client.register({ service, addr: '10.0.0.2:80', env: {} })
      // The client dies with its host: no heartbeat comes after this second.
      const signal = AbortSignal.timeout(1_000)
      await dying.client.register({ service, addr: '10.0.0.1:80', env: {}, signal })
      const watching = await watch(living[0] as TestDaemon, service)
      const diedAt = performance.now()
      await dying.powerOff()
      const wrote = living.map(d => d.client.maybeAddService(`written-${role}`))
      await Promise.all(
        living.map(daemon =>
          poll(async () => (await addresses(daemon, service)).join() === '10.0.0.2:80', {
            ...deadline,
            what: `the instance to go at ${daemon.url}`,
          }),
        ),
      )
      const ms = Math.round(performance.now() - diedAt)
      t.diagnostic(`gone everywhere after ${ms} ms`)
      // 4.5 to 5.5 s are usual, and test/bench/failover.ts measures it; a busy machine may take longer.
      assert.ok(ms < goneWithinMs, `${ms} ms`)
      await Promise.all(wrote)
      await poll(() => kinds(watching.events).includes('down'), { ...deadline, what: 'the event' })
      await watching.stop()
      assert.notEqual(peerOf((await proxy.client.raftLeader()).host), dying)
      dying.start()
      await dying.ready()
      await poll(async () => (await addresses(dying, service)).join() === '10.0.0.2:80', {
        ...deadline,
        what: 'the returned host to know the state',
      })
      await kept.close()
    })

  for (const [role, dying] of [
    ['a peer', () => peers[1]],
    ['a proxy', () => proxy],
  ] as const)
    test(`the instances of ${role} that is stopped outlive the lease of a dead host, and the next daemon has them`, async () => {
      const service = `stopped-${role.replace('a ', '')}`
      const [first] = peers
      const stopped = dying()
      assert.ok(first && stopped)
      await first.client.addService(service)
      const reg = await stopped.client.register({ service, addr: '10.0.0.1:80', env: {} })
      const isThere = async () => (await addresses(first, service)).length === 1
      await poll(isThere, { ...deadline, what: 'the instance at the other daemon' })
      const watching = await watch(first, service)
      assert.equal(await stopped.terminate(), 0)
      await sleep(leaseTtlMs * 1.5)
      assert.deepEqual(await addresses(first, service), ['10.0.0.1:80'])
      stopped.start()
      await stopped.ready()
      await sleep(leaseTtlMs * 2)
      assert.deepEqual(kinds(watching.events), ['up', 'leader', 'current'])
      await watching.stop()
      await reg.close()
    })

  test('a leader that is stopped hands over first', async () => {
    const leader = peerOf((await proxy.client.raftLeader()).host)
    assert.ok(leader)
    assert.equal(await leader.terminate(), 0)
    assert.match(await leader.log(), /etcd leadership handed over/)
    leader.start()
    await leader.ready()
  })

  test('without a majority reads go on and writes are refused in time, to be tried again', async () => {
    const [first, second, third] = peers
    assert.ok(first && second && third)
    await proxy.client.addService('minority')
    await poll(async () => (await first.client.services()).includes('minority'), {
      ...deadline,
      what: 'the service',
    })
    await Promise.all([second.powerOff(), third.powerOff()])
    assert.ok((await first.client.services()).includes('minority'))
    const res = await fetch(`${first.url}/services/minority/meta`, {
      method: 'PUT',
      headers: { 'content-type': 'application/json' },
      body: '{"data":1,"index":0}',
      signal: AbortSignal.timeout(5_000),
    })
    const answer = await res.text()
    assert.equal(res.status, 503, answer)
    assert.equal((JSON.parse(answer) as { code: string }).code, 'service_unavailable')
    await poll(async () => (await fetch(`${first.url}/raft/leader`)).status === 503, {
      ...deadline,
      what: 'the leader to be unknown',
    })
    second.start()
    third.start()
    // The refused write may be carried out after all, once there is a majority to agree to it.
    const writeAgain = async () => {
      const { index = 0 } = (await proxy.client.getMeta('minority')) ?? {}
      return proxy.client.setMeta('minority', { data: 2, index })
    }
    await poll(writeAgain, { ...deadline, what: 'writes to work again' })
  })
})
