import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../pkg/random/random.core.ts'
import { Groups, Table } from './table.core.ts'

test('a table holds what a map holds, whatever is done to it', () => {
  const random = seededRandom([1, 2, 3, 4])
  const table = new Table<number>()
  const map = new Map<string, number>()
  for (let i = 0; i < 20_000; i++) {
    const key = `k${random.below(5_000)}`
    if (random.below(3) === 0) assert.equal(table.delete(key), map.delete(key))
    else {
      table.set(key, i)
      map.set(key, i)
    }
  }
  assert.equal(table.size, map.size)
  assert.deepEqual(new Map([...table].sort()), new Map([...map].sort()))
  for (const [key, value] of map) assert.equal(table.get(key), value)
})

test('a fork and its origin do not see what is written to the other', () => {
  const origin = new Table<number>()
  for (let i = 0; i < 1_000; i++) origin.set(`k${i}`, i)
  const fork = origin.fork()
  fork.set('k1', -1).delete('k2')
  origin.set('k3', -3)
  assert.deepEqual([origin.get('k1'), origin.get('k2'), origin.get('k3')], [1, 2, -3])
  assert.deepEqual([fork.get('k1'), fork.get('k2'), fork.get('k3')], [-1, undefined, 3])
  assert.deepEqual([origin.size, fork.size], [1_000, 999])
})

test('a few entries stay in the order in which they came', () => {
  const table = new Table<number>()
  table.set('b', 1).set('a', 2).set('c', 3)
  assert.deepEqual([...table.fork().set('d', 4).keys()], ['b', 'a', 'c', 'd'])
})

test('groups come with their first member and go with their last, each version for itself', () => {
  const origin = new Groups()
  origin.add('g', 'a')
  const fork = origin.fork()
  fork.add('g', 'b')
  origin.delete('g', 'a')
  assert.deepEqual([[...origin.of('g')], [...origin.names()]], [[], []])
  assert.deepEqual([[...fork.of('g')], fork.count('g')], [['a', 'b'], 2])
})
