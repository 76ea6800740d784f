import assert from 'node:assert/strict'
import { test } from 'node:test'
import { allocate, emptyAllocation, parseSubnet, release, reserve } from './address.core.ts'

function subnet(text: string) {
  const parsed = parseSubnet(text)
  assert.ok(parsed)
  return parsed
}

test('a subnet is its bridge address, network and broadcast', () => {
  const s = subnet('100.100.5.1/24')
  assert.deepEqual([s.address, s.prefix, s.broadcast - s.network], ['100.100.5.1', 24, 255])
})

test('what is not a subnet is refused', () => {
  for (const text of [
    '',
    '100.100.5.1',
    '100.100.5/24',
    '100.100.5.256/24',
    '1.2.3.4/31',
    '01.2.3.4/24',
    'x/24',
  ])
    assert.equal(parseSubnet(text), undefined, text)
})

test('addresses are given in order, without the bridge', () => {
  let state = emptyAllocation(subnet('100.100.5.1/24'))
  const given: string[] = []
  for (const job of ['a', 'b', 'c']) {
    const next = allocate(state, job)
    assert.ok(next)
    state = next.state
    given.push(next.address)
  }
  assert.deepEqual(given, ['100.100.5.2', '100.100.5.3', '100.100.5.4'])
})

test('a job that has an address gets the same', () => {
  const first = allocate(emptyAllocation(subnet('100.100.5.1/24')), 'a')
  assert.ok(first)
  assert.equal(allocate(first.state, 'a')?.address, first.address)
})

test('a freed address rests until the search comes round', () => {
  let state = emptyAllocation(subnet('10.0.0.1/29'))
  const take = (job: string) => {
    const next = allocate(state, job)
    if (next) state = next.state
    return next?.address
  }
  assert.equal(take('a'), '10.0.0.2')
  state = release(state, 'a')
  assert.deepEqual(['b', 'c', 'd', 'e', 'f'].map(take), [
    '10.0.0.3',
    '10.0.0.4',
    '10.0.0.5',
    '10.0.0.6',
    '10.0.0.2',
  ])
  assert.equal(take('g'), undefined)
  state = release(state, 'd')
  assert.equal(take('g'), '10.0.0.5')
})

test('the bridge may have any address of the subnet', () => {
  const found = allocate(emptyAllocation(subnet('10.0.0.6/29')), 'a')
  assert.equal(found?.address, '10.0.0.1')
})

test('reserved addresses are not given, and those of another subnet do not matter', () => {
  let state = emptyAllocation(subnet('10.0.0.1/29'))
  state = reserve(state, 'a', '10.0.0.2')
  state = reserve(state, 'b', '192.168.1.1')
  assert.equal(allocate(state, 'c')?.address, '10.0.0.3')
  assert.equal(allocate(state, 'a')?.address, '10.0.0.2')
})
