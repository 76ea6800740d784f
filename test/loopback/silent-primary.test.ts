// When the host of a standby takes the leader key from a primary that neither it nor etcd hears: real etcd and discoverd, the
// keys as Patroni writes them, a listener in the place of Patroni's port.
import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:net'
import { after, before, test } from 'node:test'
import { patroniPort } from '../../appliance/postgresql/client.ts'
import type { Registration } from '../../discoverd/client.ts'
import { replaceSilentPrimary } from '../../host/silent-primary.ts'
import type { ActiveJob } from '../../host/types.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { EtcdClient, type Lease } from '../../pkg/etcd/client.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { newDaemon, type TestDaemon } from '../fixtures/discoverd.ts'
import { loopbackNet } from '../fixtures/etcd.ts'

const net = loopbackNet(92)
const [primary, standby] = [`${net}.2`, `${net}.3`]
const scope = '/flynn/postgres/'
const ttlMs = 10_000
/** More than the questions need until they would take a key that nobody renews. */
const longEnoughMs = 5_000
const attemptsMax = 10
let daemon: TestDaemon
let etcd: EtcdClient
let registration: Registration
let patroni: Server
const stop = new AbortController()
let watching: Promise<void>

async function listen(): Promise<void> {
  patroni = createServer(socket => socket.destroy())
  await new Promise<void>(resolve => patroni.listen(patroniPort, primary, resolve))
}
async function silence(): Promise<void> {
  if (patroni.listening) await new Promise(resolve => patroni.close(resolve))
}
const leader = async () => (await etcd.get(`${scope}leader`))?.value.toString()

before(async () => {
  daemon = await newDaemon({ host: `${net}.1` })
  daemon.start()
  await daemon.ready()
  etcd = new EtcdClient({ endpoints: [`${net}.1:2379`] })
  await daemon.client.addService('postgres')
  registration = await daemon.client.register({ service: 'postgres', addr: `${primary}:5432` })
  for (const [name, address] of [
    ['a', primary],
    ['b', standby],
  ])
    await etcd.put(`${scope}members/${name}`, JSON.stringify({ conn_url: `postgres://${address}:5432/x` }))
  await etcd.put(`${scope}sync`, JSON.stringify({ leader: 'a', sync_standby: 'b' }))
  await listen()
  const job = {
    job: { config: { ports: [{ service: { name: 'postgres' } }] } },
    internal_ip: standby,
  } as unknown as ActiveJob
  const table = { active: () => [job], listen: () => () => undefined }
  const { client: discoverd } = daemon
  watching = replaceSilentPrimary({
    ...{ etcd, discoverd, table, hostId: 'h2', log: silentLogger(), signal: stop.signal },
  })
})

after(async () => {
  stop.abort()
  await watching
  if (patroni) await silence()
  await registration?.close()
  etcd?.close()
  await daemon?.remove()
})

/** False when the machine stood still for so long that this renewal was none. */
async function renewFor(lease: Lease): Promise<boolean> {
  const until = performance.now() + longEnoughMs
  for (let last = performance.now(); last < until; ) {
    assert.ok(await lease.check())
    // Patroni renews each second.
    await sleep(300)
    const now = performance.now()
    if (now - last > 1_000) return false
    last = now
  }
  return true
}

test('a primary that etcd hears keeps its key, although this host does not hear it', async t => {
  await silence()
  for (let attempt = 1; ; attempt++) {
    const lease = await etcd.grantLease(ttlMs)
    await etcd.put(`${scope}leader`, 'a', { lease: lease.id })
    const renewed = await renewFor(lease)
    const held = await leader()
    await lease.revoke()
    if (renewed) {
      assert.equal(held, 'a')
      break
    }
    assert.ok(attempt < attemptsMax, 'the machine was too busy to renew a lease each second')
    t.diagnostic('the machine stood still, once more')
  }
  await listen()
})

test('a primary that this host hears keeps its key for as long as the key lives', async () => {
  const lease = await etcd.grantLease(ttlMs)
  await etcd.put(`${scope}leader`, 'a', { lease: lease.id })
  await lease.release()
  await sleep(longEnoughMs)
  assert.equal(await leader(), 'a')
  await etcd.revokeLease(lease.id)
})

test('a primary that neither hears loses its key before the key ends by itself', async () => {
  const lease = await etcd.grantLease(ttlMs)
  await etcd.put(`${scope}leader`, 'a', { lease: lease.id })
  await lease.release()
  await silence()
  await poll(async () => (await leader()) === undefined, { timeoutMs: ttlMs * 2, what: 'the key to go' })
  const left = await etcd.leaseSecondsLeft(lease.id)
  assert.ok(left !== undefined && left > 0, `${left} s of the key's life were left`)
  await etcd.revokeLease(lease.id)
})
