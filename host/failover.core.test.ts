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

test('a lease is unrenewed when two seconds of its life are gone', () => {
  assert.equal(isUnrenewed(8, 10), false)
  assert.equal(isUnrenewed(7, 10), true)
  assert.equal(isUnrenewed(11, 10), false)
})
