import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ailment, lagBytesMax, type Member, successor } from './patroni.core.ts'

const leader: Member = { name: 'a', role: 'leader', state: 'running', host: '10.0.0.1' }
const sync: Member = { name: 'b', role: 'sync_standby', state: 'streaming', host: '10.0.0.2', lag: 0 }
const replica: Member = { name: 'c', role: 'replica', state: 'streaming', host: '10.0.0.3', lag: 0 }

test('a cluster is well with a primary, all nodes running, caught up, and one of them synchronous', () => {
  assert.equal(ailment([leader], 1), undefined)
  assert.equal(ailment([leader, sync, replica], 3), undefined)
})

test('what ails a cluster is named', () => {
  assert.match(ailment([sync, replica], 2) ?? '', /no primary/)
  assert.match(ailment([leader, sync, { ...replica, state: 'stopped' }], 3) ?? '', /2 of 3/)
  assert.match(ailment([leader, replica], 2) ?? '', /synchronous/)
  for (const lag of ['unknown', lagBytesMax + 1])
    assert.match(ailment([leader, sync, { ...replica, lag }], 3) ?? '', /10\.0\.0\.3 has not caught up/)
})

test('of the new nodes the synchronous one becomes primary, else one that runs', () => {
  const all = [leader, replica, sync]
  assert.equal(successor(all, new Set(['10.0.0.2', '10.0.0.3']))?.name, 'b')
  assert.equal(successor(all, new Set(['10.0.0.3']))?.name, 'c')
  assert.equal(successor(all, new Set(['10.0.0.9'])), undefined)
})
