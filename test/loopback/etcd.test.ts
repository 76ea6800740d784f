// The etcd client against real members: guarded writes, watches through cuts and compaction, leases, frozen leaders.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { type Change, EtcdClient, type Listing } from '../../pkg/etcd/client.ts'
import { loopbackNet, startEtcd, startRelay, type TestEtcd, type TestMember } from '../fixtures/etcd.ts'

const net = loopbackNet(41)
const quick = { timeoutMs: 15_000, intervalMs: 20 }

type Seen = {
  readonly keys: string[]
  readonly revisions: number[]
  readonly listings: Listing[]
  gaps: number
}

function follow(client: EtcdClient, prefix: string): { readonly seen: Seen; stop(): Promise<void> } {
  const seen: Seen = { keys: [], revisions: [], listings: [], gaps: 0 }
  const ended = new AbortController()
  const running = client.watch(
    prefix,
    {
      onListing: l => seen.listings.push(l),
      onChanges: (changes: readonly Change[]) => {
        seen.keys.push(...changes.map(c => `${c.type} ${c.key}`))
        seen.revisions.push(...changes.map(c => c.modRevision))
      },
      onGap: () => {
        seen.gaps++
      },
    },
    ended.signal,
  )
  const stop = async () => {
    ended.abort()
    await running
  }
  return { seen, stop }
}

describe('one etcd member', () => {
  let etcd: TestEtcd
  let client: EtcdClient
  before(async () => {
    etcd = await startEtcd({ members: 1, net })
    client = new EtcdClient({ endpoints: etcd.endpoints })
  })
  after(async () => {
    client.close()
    await etcd.stop()
  })

  test('a transaction does its writes when all guards hold, else its reads', async () => {
    const created = await client.txn({
      guards: [{ key: '/t/a', is: 'absent' }],
      ops: [{ op: 'put', key: '/t/a', value: '1' }],
    })
    assert.equal(created.succeeded, true)
    const again = await client.txn({
      guards: [{ key: '/t/a', is: 'absent' }],
      ops: [{ op: 'put', key: '/t/a', value: '2' }],
      otherwise: [{ op: 'get', key: '/t/a' }],
    })
    assert.equal(again.succeeded, false)
    assert.equal(again.results[0]?.[0]?.value.toString(), '1')
    assert.equal(again.results[0]?.[0]?.modRevision, created.revision)
  })

  test('a write whose answer was lost says so when somebody else wrote over it meanwhile', async () => {
    const relay = await startRelay(`${net}.201`, etcd.endpoints[0] as string)
    const far = new EtcdClient({ endpoints: [relay.endpoint] })
    const { revision } = await far.txn({ guards: [], ops: [{ op: 'put', key: '/t/lost', value: 'before' }] })
    relay.swallow(true)
    const writing = far.txn(
      {
        guards: [{ key: '/t/lost', is: 'unchanged', modRevision: revision }],
        ops: [{ op: 'put', key: '/t/lost', value: 'ours' }],
        otherwise: [{ op: 'get', key: '/t/lost' }],
      },
      { timeoutMs: 15_000 },
    )
    await poll(async () => (await client.get('/t/lost'))?.value.toString() === 'ours', {
      ...quick,
      what: 'the write',
    })
    await client.put('/t/lost', 'theirs')
    relay.swallow(false)
    const { succeeded, repeated, results } = await writing
    assert.deepEqual({ succeeded, repeated }, { succeeded: false, repeated: true })
    assert.equal(results[0]?.[0]?.value.toString(), 'theirs')
    far.close()
    await relay.stop()
  })

  test('a key is deleted only while it holds the expected value', async () => {
    await client.put('/t/leader', 'alive')
    assert.equal(await client.deleteIfEqual('/t/leader', 'dead'), false)
    assert.equal(await client.deleteIfEqual('/t/leader', 'alive'), true)
    assert.equal(await client.get('/t/leader'), undefined)
  })

  test('a watch that is cut in the middle of its backlog misses and repeats nothing', async () => {
    const relay = await startRelay(`${net}.200`, etcd.endpoints[0] as string)
    const far = new EtcdClient({ endpoints: [relay.endpoint] })
    const { seen, stop } = follow(far, '/backlog/')
    try {
      await poll(() => seen.listings.length === 1, { ...quick, what: 'the first listing' })
      relay.refuse(true)
      const count = 3_000
      const value = 'x'.repeat(500)
      for (let i = 0; i < count; i += 50)
        await Promise.all(Array.from({ length: 50 }, (_, n) => client.put(`/backlog/${i + n}`, value)))
      relay.refuse(false)
      for (let cuts = 0; cuts < 4; cuts++) {
        const before = seen.keys.length
        await poll(() => seen.keys.length > before || seen.keys.length === count, {
          ...quick,
          intervalMs: 1,
          what: 'more events',
        })
        relay.cut()
      }
      await poll(() => new Set(seen.keys).size === count, { ...quick, what: 'all events' })
      // A write that was tried again is a change of its own; each is told once, in order.
      const inOrder = [...new Set(seen.revisions)].sort((a, b) => a - b)
      assert.deepEqual(seen.revisions, inOrder)
      assert.equal(seen.listings.length, 1)
    } finally {
      await stop()
      far.close()
      await relay.stop()
    }
  })

  test('a watch whose position was compacted away lists again', async () => {
    const relay = await startRelay(`${net}.201`, etcd.endpoints[0] as string)
    const far = new EtcdClient({ endpoints: [relay.endpoint] })
    const { seen, stop } = follow(far, '/compacted/')
    try {
      await poll(() => seen.listings.length === 1, { ...quick, what: 'the first listing' })
      relay.refuse(true)
      await client.put('/compacted/a', '1')
      await client.compact(await client.put('/compacted/b', '2'))
      relay.refuse(false)
      await poll(() => seen.listings.length === 2, { ...quick, what: 'the second listing' })
      assert.deepEqual(
        seen.listings[1]?.kvs.map(kv => kv.key),
        ['/compacted/a', '/compacted/b'],
      )
      await client.put('/compacted/c', '3')
      await poll(() => seen.keys.includes('put /compacted/c'), { ...quick, what: 'the next event' })
    } finally {
      await stop()
      far.close()
      await relay.stop()
    }
  })

  test('a kept lease lives on, and its keys go when it is revoked', async () => {
    const lease = await client.grantLease(2_000)
    await client.put('/leased', '1', { lease: lease.id })
    const until = Date.now() + 3_000
    await poll(() => Date.now() > until, { ...quick, what: 'more than a TTL to pass' })
    assert.notEqual(await client.get('/leased'), undefined)
    const left = (await client.leaseSecondsLeft(lease.id)) ?? -1
    assert.ok(left >= 0 && left <= 2, `${left} s left`)
    await lease.revoke()
    assert.equal(await client.get('/leased'), undefined)
    assert.equal(await client.leaseSecondsLeft(lease.id), undefined)
  })

  test('the owner of a lease learns that it was ended elsewhere', async () => {
    const lease = await client.grantLease(2_000)
    await client.revokeLease(lease.id)
    let lost = false
    void lease.lost.then(() => {
      lost = true
    })
    await poll(() => lost, { ...quick, what: 'the notice' })
    await lease.release()
    assert.equal(await client.adoptLease(lease.id, 2_000), undefined)
  })

  test('a write on a lease that is gone is refused by name', async () => {
    await assert.rejects(client.put('/leased', '1', { lease: '12345' }), e =>
      isFlynnError(e, 'etcd_lease_not_found'),
    )
  })
})

describe('three etcd members', () => {
  let etcd: TestEtcd
  let client: EtcdClient
  before(async () => {
    etcd = await startEtcd({ members: 3, net })
    client = new EtcdClient({ endpoints: etcd.endpoints })
  })
  after(async () => {
    client.close()
    await etcd.stop()
  })

  const leader = async () => {
    const { leaderId } = await client.status()
    for (const m of etcd.members) if ((await client.status(m.endpoint)).memberId === leaderId) return m
    throw new Error('no leader')
  }

  test('writes and watches go on within seconds when the leader freezes, and after it is killed', async () => {
    const { seen, stop } = follow(client, '/failover/')
    try {
      await poll(() => seen.listings.length === 1, { ...quick, what: 'the first listing' })
      const frozen = await leader()
      frozen.signal('SIGSTOP')
      await client.put('/failover/frozen', '1')
      await poll(() => seen.keys.includes('put /failover/frozen'), { ...quick, what: 'the event' })
      frozen.signal('SIGCONT')
      const killed = await poll(leader, { ...quick, what: 'a leader' })
      await killed.kill()
      await client.put('/failover/killed', '1')
      await poll(() => seen.keys.includes('put /failover/killed'), { ...quick, what: 'the event' })
      killed.start()
      await poll(async () => (await client.status(killed.endpoint)).leaderId, {
        ...quick,
        what: 'its return',
      })
      // An attempt whose answer was lost may have been carried out, too: puts are done at least once.
      assert.deepEqual([...new Set(seen.keys)], ['put /failover/frozen', 'put /failover/killed'])
    } finally {
      await stop()
    }
  })

  for (const [what, harm, heal] of [
    ['freezes', (m: TestMember) => m.signal('SIGSTOP'), (m: TestMember) => m.signal('SIGCONT')],
    ['is killed', (m: TestMember) => m.kill(), (m: TestMember) => m.start()],
  ] as const)
    test(`a lease is kept when the member that it was kept at ${what}`, async () => {
      const near = await poll(leader, { ...quick, what: 'a leader' })
      const others = etcd.members.filter(m => m !== near).map(m => m.endpoint)
      const own = new EtcdClient({ endpoints: [near.endpoint, ...others] })
      try {
        const ttlMs = 3_000
        const lease = await own.grantLease(ttlMs)
        await own.put('/kept', what, { lease: lease.id })
        // Kept there at least once.
        await sleep(ttlMs / 2)
        await harm(near)
        await sleep(ttlMs * 2)
        assert.equal((await own.get('/kept'))?.value.toString(), what)
        await heal(near)
        await sleep(ttlMs)
        assert.equal((await own.get('/kept'))?.value.toString(), what)
        await lease.revoke()
      } finally {
        own.close()
      }
    })

  test('without a majority a write fails within its deadline and says so', async () => {
    await etcd.members[1]?.kill()
    await etcd.members[2]?.kill()
    await assert.rejects(client.put('/minority', '1', { timeoutMs: 1_500 }), e =>
      isFlynnError(e, 'etcd_unavailable'),
    )
    assert.equal((await client.members()).length, 3)
  })
})
