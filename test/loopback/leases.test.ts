// Subnet leases and host records on a real etcd: who gets which subnet when several ask at once, what survives a change of
// address, and what the others learn.
import assert from 'node:assert/strict'
import { mkdtemp, rm } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { openDatabase } from '../../host/database.ts'
import { type HostRecord, Hosts } from '../../host/hosts.ts'
import { acquireLease, returnLease, type SubnetLease, watchLeases } from '../../host/network/leases.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { EtcdClient } from '../../pkg/etcd/client.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { loopbackNet, startEtcd, type TestEtcd } from '../fixtures/etcd.ts'

let server: TestEtcd
let etcd: EtcdClient
let dir: string
const deadline = { timeoutMs: 20_000 }
const stop = new AbortController()

before(async () => {
  server = await startEtcd({ net: loopbackNet(54), members: 1 })
  etcd = new EtcdClient({ endpoints: server.endpoints })
  dir = await mkdtemp('/var/tmp/leases-test-')
})

after(async () => {
  stop.abort()
  etcd.close()
  await server.stop()
  await rm(dir, { recursive: true, force: true })
})

const acquire = (host: string, more: { publicIp?: string; previous?: string; random?: number } = {}) =>
  acquireLease({
    etcd,
    network: '100.100.0.0/16',
    prefix: 24,
    host,
    publicIp: more.publicIp ?? `10.9.0.${host.slice(1)}`,
    previous: more.previous ?? '',
    random: more.random ?? 0,
    signal: stop.signal,
  })

test('hosts that ask at the same time get different subnets', async () => {
  const leases = await Promise.all(['h1', 'h2', 'h3', 'h4', 'h5'].map(h => acquire(h)))
  assert.equal(new Set(leases.map(l => l.subnet)).size, 5)
})

test('a host gets its own subnet again, with another address too, and the others learn that', async () => {
  let told: readonly SubnetLease[] = []
  const watching = watchLeases(
    etcd,
    leases => {
      told = leases
    },
    { signal: stop.signal, log: silentLogger() },
  )
  const first = await acquire('h6', { random: 0.5 })
  assert.deepEqual(await acquire('h6', { random: 0.9 }), first)
  const moved = await acquire('h6', { publicIp: '10.9.9.9', previous: '100.100.200.1/24' })
  assert.equal(moved.subnet, first.subnet)
  await poll(() => told.some(l => l.host === 'h6' && l.publicIp === '10.9.9.9'), {
    ...deadline,
    what: 'the new address',
  })
  assert.equal(told.filter(l => l.host === 'h6').length, 1)
  assert.equal(await returnLease(etcd, 'h6'), true)
  await poll(() => !told.some(l => l.host === 'h6'), { ...deadline, what: 'the lease to be gone' })
  assert.equal(await returnLease(etcd, 'h6'), false)
  stop.signal.addEventListener('abort', () => void watching, { once: true })
})

test('a host asks for what it had before, and takes another when that is taken', async () => {
  const h7 = await acquire('h7', { previous: '100.100.77.1/24' })
  assert.equal(h7.subnet, '100.100.77.0/24')
  const h8 = await acquire('h8', { previous: '100.100.77.1/24' })
  assert.notEqual(h8.subnet, h7.subnet)
})

test('a host that one host admitted is known to all, also when that one restarts; a removed one is forgotten', async () => {
  const seen: Record<string, readonly string[]> = {}
  const end = new AbortController()
  const record = (n: number): HostRecord => ({ id: `a${n}`, address: `10.8.0.${n}`, version: 'dev' })
  const open = (n: number) => {
    const database = openDatabase(`${dir}/a${n}.sqlite`)
    const onAddresses = (addresses: readonly string[]) => {
      seen[`a${n}`] = [...addresses].sort()
    }
    return new Hosts({ self: record(n), database, etcd, onAddresses, log: silentLogger() })
  }
  const [one, two] = [open(1), open(2)]
  one.admit(record(3))
  two.begin()
  assert.deepEqual([seen['a1'], seen['a2']], [['10.8.0.1', '10.8.0.3'], ['10.8.0.2']])
  const running = [one.run(end.signal), two.run(end.signal)]
  const all = ['10.8.0.1', '10.8.0.2', '10.8.0.3']
  for (const id of ['a1', 'a2'])
    await poll(() => seen[id]?.join() === all.join(), { ...deadline, what: `${id} to know all` })
  // It knew the third before etcd did: what it has not seen there it cannot miss there.
  const remembered = openDatabase(`${dir}/a1.sqlite`)
  await poll(() => remembered.getSetting<readonly string[]>('hosts_seen')?.includes('a3'), {
    ...deadline,
    what: 'the first to have seen the third in etcd',
  })
  remembered.close()
  end.abort()
  await Promise.all(running)
  // While the first is away the third is removed; it knows the three from its file until it hears of that.
  await etcd.delete('/flynn/hosts/a3')
  const again = open(1)
  again.begin()
  assert.deepEqual(seen['a1'], all)
  const second = new AbortController()
  const work = again.run(second.signal)
  await poll(() => seen['a1']?.join() === '10.8.0.1,10.8.0.2', { ...deadline, what: 'the removal' })
  second.abort()
  await work
})

test('a note about an earlier life of a host is taken back by the new one, and one that comes later counts', async () => {
  const note = '/flynn/removed-hosts/b1'
  await etcd.put(note, '{}')
  let removed = false
  let known: readonly string[] = []
  const open = (id: string, isNew: boolean) =>
    new Hosts({
      ...{ database: openDatabase(`${dir}/${id}.sqlite`), etcd, isNew, log: silentLogger() },
      self: { id, address: `10.7.0.${id.slice(1)}`, version: 'dev' },
      onRemoved: () => {
        removed ||= id === 'b1'
      },
      onAddresses: addresses => {
        if (id === 'b2') known = addresses
      },
    })
  const [member, newcomer] = [open('b2', false), open('b1', true)]
  const end = new AbortController()
  const running = [member.run(end.signal)]
  await poll(() => member.isRemoved('b1'), { ...deadline, what: 'the member to hear of the removal' })
  running.push(newcomer.run(end.signal))
  await poll(() => !member.isRemoved('b1') && known.includes('10.7.0.1'), {
    ...deadline,
    what: 'the new life',
  })
  assert.equal(removed, false)
  await member.forget('b1')
  await poll(() => removed, { ...deadline, what: 'the removal of the new life' })
  end.abort()
  await Promise.all(running)
})

test('a member that was removed while it was away hears of it', async () => {
  await etcd.put('/flynn/removed-hosts/b3', '{}')
  const removed = Promise.withResolvers<void>()
  const member = new Hosts({
    ...{ database: openDatabase(`${dir}/b3.sqlite`), etcd, isNew: false, log: silentLogger() },
    self: { id: 'b3', address: '10.7.0.3', version: 'dev' },
    onAddresses: () => undefined,
    onRemoved: removed.resolve,
  })
  const end = new AbortController()
  const running = member.run(end.signal)
  await removed.promise
  end.abort()
  await running
})
