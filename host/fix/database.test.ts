import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DatabaseKeys } from '../failover.core.ts'
import { describeWaiting, waitingDatabase } from './database.core.ts'

const key = (value: unknown, modRevision = 1) => ({ value: JSON.stringify(value), modRevision })
const node = (n: number, position: number, state = 'running') =>
  [
    `n${n}`,
    key({ conn_url: `postgres://10.0.0.${n}:5432/postgres`, state, xlog_location: position }),
  ] as const

const keys = (o: Partial<DatabaseKeys>): DatabaseKeys => ({
  ...{ leader: undefined, sync: undefined, members: new Map() },
  ...o,
})
const sync = key({ leader: 'n1', sync_standby: null }, 7)

test('a database waits when nobody leads and only who is not named is there', () => {
  const found = waitingDatabase(keys({ sync, members: new Map([node(2, 5), node(3, 9, 'starting')]) }))
  assert.equal(found?.syncRevision, 7)
  assert.deepEqual(found?.named, [{ name: 'n1', there: false, state: 'away' }])
  assert.deepEqual(
    found?.others.map(n => [n.name, n.address, n.state]),
    [
      ['n3', '10.0.0.3', 'starting'],
      ['n2', '10.0.0.2', 'running'],
    ],
  )
  const text = describeWaiting(found)
  assert.match(text, /Only n1 \(away\) has .* there are n3 at 10\.0\.0\.3 \(starting\), n2 /)
  assert.match(text, /flynn-host fix --accept-loss/)
})

test('it does not wait when somebody leads, anybody may, or no other is there', () => {
  const members = new Map([node(2, 5)])
  const leader = { value: 'n1', modRevision: 3 }
  assert.equal(waitingDatabase(keys({ sync, members, leader })), undefined)
  assert.equal(waitingDatabase(keys({ members })), undefined)
  assert.equal(waitingDatabase(keys({ sync: key({ leader: null }), members })), undefined)
  assert.equal(waitingDatabase(keys({ sync, members: new Map([node(1, 5)]) })), undefined)
})

test('those that were in step are named with the last primary, and told how they are', () => {
  const named = key({ leader: 'n1', sync_standby: 'n2' })
  const members = new Map([node(2, 5, 'start failed'), node(3, 4)])
  assert.deepEqual(waitingDatabase(keys({ sync: named, members }))?.named, [
    { name: 'n1', there: false, state: 'away' },
    { name: 'n2', there: true, state: 'start failed' },
  ])
})
