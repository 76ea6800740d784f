import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bridgeSubnet, chooseSubnet } from './lease.core.ts'

const request = { network: '100.100.0.0/16', prefix: 24, host: 'h1', taken: [], random: 0 }

test('the first host gets the second subnet: the first holds the network address', () => {
  assert.equal(chooseSubnet(request), '100.100.1.0/24')
})

test('a host finds its own lease again', () => {
  const taken = [
    { subnet: '100.100.7.0/24', host: 'h1' },
    { subnet: '100.100.1.0/24', host: 'h2' },
  ]
  assert.equal(chooseSubnet({ ...request, taken, previous: '100.100.9.1/24' }), '100.100.7.0/24')
})

test('without a lease the previous subnet is taken when it is free', () => {
  assert.equal(chooseSubnet({ ...request, previous: '100.100.9.1/24' }), '100.100.9.0/24')
  const taken = [{ subnet: '100.100.9.0/24', host: 'h2' }]
  assert.equal(chooseSubnet({ ...request, previous: '100.100.9.1/24', taken }), '100.100.1.0/24')
  assert.equal(chooseSubnet({ ...request, previous: '192.168.9.1/24' }), '100.100.1.0/24')
})

test('taken subnets are not drawn', () => {
  const taken = [1, 2, 3].map(n => ({ subnet: `100.100.${n}.0/24`, host: `h${n + 1}` }))
  assert.equal(chooseSubnet({ ...request, taken }), '100.100.4.0/24')
})

test('the draw is among the first hundred free ones', () => {
  assert.equal(chooseSubnet({ ...request, random: 0.999 }), '100.100.100.0/24')
})

test('when all are taken there is none', () => {
  const taken = Array.from({ length: 256 }, (_, n) => ({
    subnet: `100.100.${n}.0/24`,
    host: `other${n}`,
  }))
  assert.equal(chooseSubnet({ ...request, taken }), undefined)
})

test('the bridge has the first address of the lease', () => {
  assert.equal(bridgeSubnet('100.100.28.0/24'), '100.100.28.1/24')
})
