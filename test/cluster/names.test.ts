import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bridgeName, clusterName, freeSubnets, hostsMax, linkName, macAddress } from './names.ts'

test('the lowest subnet is free on a machine without test clusters', () => {
  assert.equal(freeSubnets([])[0], 1)
  assert.equal(freeSubnets(['127.0.0.1', '192.168.1.0/24', 'default'])[0], 1)
})

test('a subnet is taken by an address in it, a network in it and a network around it', () => {
  assert.deepEqual(freeSubnets(['10.213.1.254', '10.213.2.0/24', '10.213.4.0/23']).slice(0, 3), [3, 6, 7])
  assert.equal(freeSubnets(['10.213.3.128/25']).includes(3), false)
})

test('nothing is free when a network of our whole range is in use, but a wider route is no hindrance', () => {
  assert.deepEqual(freeSubnets(['10.213.0.0/16']), [])
  assert.equal(freeSubnets(['10.0.0.0/8'])[0], 1)
})

test('interface names fit the kernel at the largest numbers', () => {
  assert.ok(linkName(254, hostsMax).length <= 15)
  assert.ok(linkName(254, 1).startsWith(`${bridgeName(254)}-`))
})

test('hosts of one subnet and of two subnets differ in their hardware address', () => {
  const all = [macAddress(1, 1), macAddress(1, 2), macAddress(2, 1), macAddress(1, 'gateway')]
  assert.equal(new Set(all).size, all.length)
  assert.equal(macAddress(26, 10), '02:f1:00:00:1a:0a')
})

test('a cluster name that could leave its directory is refused', () => {
  for (const bad of ['', '..', 'a/b', 'A', '1a', 'a'.repeat(32), 'a b'])
    assert.throws(() => clusterName(bad), bad)
  assert.equal(clusterName('host-jobs'), 'host-jobs')
})
