// Hosts that become consensus peers and stop being ones: promotion by way of a learner, demotion, peers that are dead or
// were removed while they were off. Hosts are loopback addresses, all daemons and members real.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { PeerAdmin } from '../../discoverd/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { EtcdClient } from '../../pkg/etcd/client.ts'
import { newDaemon, type TestDaemon } from '../fixtures/discoverd.ts'
import { loopbackNet } from '../fixtures/etcd.ts'

const net = loopbackNet(53)
const deadline = { timeoutMs: 60_000, intervalMs: 50 }
const key = 'a-host-key-of-this-test'
const addressOf = (n: number) => `${net}.${n}`

const daemons: TestDaemon[] = []
const admin = (n: number, authKey: string | undefined = key) => new PeerAdmin({ addr: addressOf(n), authKey })
const daemon = (n: number) => daemons[n - 1] as TestDaemon

before(async () => {
  for (const n of [1, 2, 3]) {
    const env = { FLYNN_HOST_AUTH_KEY: key }
    // Hosts 2 and 3 come later: only the first is in the list they are given.
    daemons.push(await newDaemon({ host: addressOf(n), peers: [addressOf(1)], env }))
  }
  for (const d of daemons) d.start()
  await Promise.all(daemons.map(d => d.ready()))
})

after(async () => {
  await Promise.all(daemons.map(d => d.remove()))
})

/** Hosts that vote, as each of these daemons tells them. */
async function peersAre(wanted: readonly number[], asked: readonly number[]): Promise<void> {
  const list = wanted.map(n => `${addressOf(n)}:1111`).sort()
  for (const n of asked)
    await poll(
      async () => {
        const peers = await daemon(n).client.raftPeers({ timeoutMs: 2_000 })
        return JSON.stringify([...peers].sort()) === JSON.stringify(list)
      },
      { ...deadline, what: `host ${n} to name the peers ${wanted.join(', ')}` },
    )
}

async function leader(via: number): Promise<number> {
  const answer = () => daemon(via).client.raftLeader({ timeoutMs: 2_000 })
  const { host } = await poll(answer, { ...deadline, what: 'a leader' })
  return Number(host.split(':')[0]?.split('.').at(-1))
}

/** Writes through one daemon and reads it back through another. */
async function worksFor(writer: number, reader: number): Promise<void> {
  const service = `s${writer}-${reader}-${Date.now().toString(36)}`
  await daemon(writer).client.addService(service)
  await poll(async () => (await daemon(reader).client.services()).includes(service), {
    ...deadline,
    what: `${service} on host ${reader}`,
  })
}

test('without the host key nobody changes the peers', async () => {
  const unauthorized = (e: unknown) => isFlynnError(e, 'unauthorized')
  await assert.rejects(admin(2, 'wrong').promote(), unauthorized)
  await assert.rejects(admin(1, 'wrong').demote(), unauthorized)
  await assert.rejects(admin(1, 'wrong').remove(addressOf(1)), unauthorized)
  await peersAre([1], [1, 2, 3])
})

test('the only peer cannot be demoted', async () => {
  await assert.rejects(admin(1).demote(), (e: unknown) => isFlynnError(e, 'last_peer'))
  await worksFor(1, 2)
})

test('proxies are promoted one after the other, and twice is as good as once', async () => {
  await admin(2).promote()
  await admin(3).promote()
  await admin(3).promote()
  await peersAre([1, 2, 3], [1, 2, 3])
  await worksFor(3, 1)
})

test('a promoted host votes on after a restart, although its peer list does not name it', async () => {
  await daemon(3).powerOff()
  daemon(3).start()
  await daemon(3).ready()
  await peersAre([1, 2, 3], [3])
  await daemon(3).etcdPid()
})

test('the leader is demoted while writes go on, none of which fails', async () => {
  const first = await leader(2)
  const other = first === 1 ? 2 : 1
  let running = true
  const writing = (async () => {
    for (let n = 0; running; n++) await daemon(other).client.addService(`w${n}`)
  })()
  await admin(first).demote()
  running = false
  await writing
  const rest = [1, 2, 3].filter(n => n !== first)
  await peersAre(rest, [1, 2, 3])
  await worksFor(first, other)
  // A demoted host goes on as a proxy, also after a restart with an old list that names it.
  await daemon(first).powerOff()
  daemon(first).start()
  await daemon(first).ready()
  await peersAre(rest, [first])
  await admin(first).promote()
  await peersAre([1, 2, 3], [1, 2, 3])
})

test('a dead peer is removed by the others, and is a proxy when it comes back', async () => {
  await daemon(2).powerOff()
  await admin(1).remove(addressOf(2))
  await admin(1).remove(addressOf(2))
  await peersAre([1, 3], [1, 3])
  await worksFor(1, 3)
  daemon(2).start()
  await daemon(2).ready()
  await peersAre([1, 3], [2])
  await worksFor(2, 1)
  await admin(2).promote()
  await peersAre([1, 2, 3], [1, 2, 3])
})

test('a demoted host that boots first, with a list that names it, founds no cluster of its own', async () => {
  await admin(1).demote()
  await peersAre([2, 3], [1, 2, 3])
  for (const d of daemons) await d.powerOff()
  daemon(1).start()
  const etcd = new EtcdClient({ endpoints: [`${addressOf(1)}:2379`] })
  try {
    const answers = () => fetch(`${daemon(1).url}/ping`).then(r => r.ok)
    await poll(answers, { ...deadline, what: 'host 1 to serve' })
    await assert.rejects(etcd.members({ timeoutMs: 1_000 }))
  } finally {
    etcd.close()
  }
  daemon(2).start()
  daemon(3).start()
  await Promise.all(daemons.map(d => d.ready()))
  await peersAre([2, 3], [1, 2, 3])
  await worksFor(1, 2)
})

test('while a majority answers, nothing is recovered, and never on a proxy', async () => {
  const code = (wanted: string) => (e: unknown) => isFlynnError(e, wanted)
  await assert.rejects(admin(2).recover(), code('has_majority'))
  await assert.rejects(admin(2, 'wrong').recover(), code('unauthorized'))
  await daemon(3).powerOff()
  await assert.rejects(admin(1).recover(), code('nothing_to_recover_from'))
  daemon(3).start()
  await daemon(3).ready()
})

test('with the other peers gone, one goes on alone with its data; those that return are proxies', async () => {
  await admin(1).promote()
  await peersAre([1, 2, 3], [1, 2, 3])
  await daemon(2).client.addService('kept')
  await poll(async () => (await daemon(1).client.services()).includes('kept'), {
    ...deadline,
    what: 'the service on host 1',
  })
  await daemon(2).powerOff()
  await daemon(3).powerOff()
  await admin(1).recover()
  await peersAre([1], [1])
  assert.ok((await daemon(1).client.services()).includes('kept'))
  await worksFor(1, 1)
  // Not started with the flag again: others can join.
  await daemon(1).killEtcd()
  daemon(2).start()
  daemon(3).start()
  await Promise.all([2, 3].map(n => daemon(n).ready()))
  await peersAre([1], [1, 2, 3])
  await worksFor(2, 3)
  await admin(2).promote()
  await admin(3).promote()
  await peersAre([1, 2, 3], [1, 2, 3])
  await worksFor(3, 1)
})

test('shutdown takes the daemon out of service and ends it', async () => {
  const list = async () => (await daemon(2).client.instances('discoverd')).map(i => i.addr)
  await poll(async () => (await list()).length === 3, { ...deadline, what: 'all three to be registered' })
  const answer = await fetch(`${daemon(1).url}/shutdown`, { method: 'POST', headers: { 'auth-key': key } })
  assert.equal(answer.status, 200)
  assert.ok(((await answer.json()) as { last_index: number }).last_index > 0)
  assert.ok(!(await list()).includes(`${addressOf(1)}:1111`))
  await poll(
    () =>
      fetch(`${daemon(1).url}/ping`).then(
        () => false,
        () => true,
      ),
    { ...deadline, what: 'its end' },
  )
  daemon(1).start()
  await daemon(1).ready()
})
