import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DatabaseKeys, isUnrenewed, judgeLeader } from './failover.core.ts'

const key = (value: unknown, modRevision = 7) => ({
  value: typeof value === 'string' ? value : JSON.stringify(value),
  modRevision,
})
const member = (address: string) => key({ conn_url: `postgres://${address}:5432/postgres` }, 21)
const keys: DatabaseKeys = {
  leader: key('a'),
  sync: key({ leader: 'a', sync_standby: 'b' }, 20),
  members: new Map([
    ['a', member('100.100.1.2')],
    ['b', member('100.100.2.2')],
  ]),
}
const deadAt = (address: string) => (other: string) => other === address

test('the key of a dead leader is freed when a standby is in step with it', () => {
  assert.deepEqual(judgeLeader(keys, deadAt('100.100.1.2')), {
    kind: 'free',
    leader: 'a',
    address: '100.100.1.2',
    syncRevision: 20,
    memberRevision: 21,
  })
})

test('the key stays when the leader is not where somebody died', () => {
  assert.equal(judgeLeader(keys, deadAt('100.100.2.2')).kind, 'leave')
})

test('the key stays while no standby has every acknowledged commit', () => {
  for (const sync of [
    undefined,
    key({ leader: 'a', sync_standby: null }),
    key({ leader: 'a', sync_standby: '' }),
    key({ leader: 'a', sync_standby: 'a' }),
    key({ leader: 'a', sync_standby: 'gone' }),
    key({ leader: 'b', sync_standby: 'a' }),
    key('not JSON'),
  ])
    assert.equal(judgeLeader({ ...keys, sync }, deadAt('100.100.1.2')).kind, 'leave')
})

test('the key stays when nobody leads, or the leader tells no address', () => {
  assert.equal(judgeLeader({ ...keys, leader: undefined }, () => true).kind, 'leave')
  const members = new Map([...keys.members, ['a', key('{}')] as const])
  assert.equal(judgeLeader({ ...keys, members }, () => true).kind, 'leave')
})

const sample = (secondsLeft: number, atMs = 0, lease = '1') => ({ secondsLeft, atMs, lease })

test('a lease is unrenewed when more than two seconds of its life are gone', () => {
  assert.equal(isUnrenewed(sample(8), sample(8), 10), false)
  assert.equal(isUnrenewed(sample(8), sample(7), 10), true)
})

test('a lease that a new leader of etcd made longer is unrenewed when it ran on for two seconds', () => {
  assert.equal(isUnrenewed(sample(11), sample(10, 1_900), 10), false)
  assert.equal(isUnrenewed(sample(11), sample(9, 2_100), 10), false)
  assert.equal(isUnrenewed(sample(11), sample(9, 2_200), 10), true)
  assert.equal(isUnrenewed(sample(10), sample(9, 2_200), 10), false)
})

test('another lease says nothing of the first', () => {
  assert.equal(isUnrenewed(sample(9), sample(3, 5_000, '2'), 10), false)
})
