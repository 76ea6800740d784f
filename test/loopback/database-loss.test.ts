// A database that waits for a lost node is given another leader, on a real etcd with what Patroni writes there.
import assert from 'node:assert/strict'
import { after, before, beforeEach, test } from 'node:test'
import { scopePrefix } from '../../host/failover.ts'
import { letNewestLead, readWaitingDatabase } from '../../host/fix/database.ts'
import { EtcdClient } from '../../pkg/etcd/client.ts'
import { loopbackNet, startEtcd, type TestEtcd } from '../fixtures/etcd.ts'

const { signal } = new AbortController()
let server: TestEtcd
let etcd: EtcdClient

before(async () => {
  server = await startEtcd({ members: 1, net: loopbackNet(97) })
  etcd = new EtcdClient({ endpoints: server.endpoints })
})

after(async () => {
  etcd?.close()
  await server?.stop()
})

const put = (key: string, value: unknown) => etcd.put(`${scopePrefix}${key}`, JSON.stringify(value))
const keys = async () => (await etcd.list(scopePrefix)).kvs.map(kv => kv.key.slice(scopePrefix.length))
const member = (state: string) => ({ conn_url: 'postgres://10.0.0.2:5432/postgres', state, xlog_location: 7 })

beforeEach(async () => {
  await etcd.txn({ guards: [], ops: [{ op: 'deletePrefix', prefix: scopePrefix }] })
  await put('sync', { leader: 'lost', sync_standby: null })
  await put('status', { optime: 9 })
  await put('members/other', member('running'))
})

test('Patroni forgets whom it waited for, and how far that one was', async () => {
  assert.ok(await readWaitingDatabase(etcd, signal))
  await letNewestLead(etcd, signal)
  assert.deepEqual(await keys(), ['members/other'])
  await assert.rejects(letNewestLead(etcd, signal), { code: 'not_waiting' })
})

test('nothing is given up while somebody leads, or one runs that has every commit', async () => {
  await put('members/lost', member('running'))
  await assert.rejects(letNewestLead(etcd, signal), { code: 'may_lead' })
  await put('leader', 'other')
  await assert.rejects(letNewestLead(etcd, signal), { code: 'not_waiting' })
  assert.ok((await keys()).includes('sync'))
})

test('one that has every commit and does not start may be given up', async () => {
  await put('members/lost', member('start failed'))
  await letNewestLead(etcd, signal)
  assert.deepEqual(await keys(), ['members/lost', 'members/other'])
})
