import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DeviceState, devicePlan, peerPlan, vtepMac } from './vxlan.core.ts'

const self = { subnet: '100.100.5.0/24', publicIp: '10.0.0.5' }
const options = { device: 'flynn.1', self, mtu: 1450 }
const right: DeviceState = {
  mac: '02:42:64:64:05:00',
  mtu: 1450,
  up: true,
  local: '10.0.0.5',
  id: 1,
  port: 8472,
  learning: false,
  addresses: ['100.100.5.0/32'],
}
const nothing = { fdb: [], neighbours: [], routes: [] }
const peer = { subnet: '100.100.7.0/24', publicIp: '10.0.0.7' }
const connected = {
  fdb: [{ mac: '02:42:64:64:07:00', dst: '10.0.0.7' }],
  neighbours: [{ address: '100.100.7.0', mac: '02:42:64:64:07:00' }],
  routes: [{ subnet: '100.100.7.0/24', via: '100.100.7.0', src: '100.100.5.1' }],
}
const plan = (current: typeof connected | typeof nothing, peers: readonly (typeof peer)[]) =>
  peerPlan(current, { device: 'flynn.1', source: '100.100.5.1', peers })

test('the hardware address follows from the subnet', () => {
  assert.equal(vtepMac('100.100.28.0/24'), '02:42:64:64:1c:00')
})

test('a device that is right is left alone', () => {
  assert.deepEqual(devicePlan(right, options), [])
})

test('a host without a device gets one', () => {
  assert.deepEqual(devicePlan(undefined, options), [
    'link add flynn.1 address 02:42:64:64:05:00 mtu 1450 type vxlan id 1 local 10.0.0.5 dstport 8472 nolearning',
    'addr add 100.100.5.0/32 dev flynn.1',
    'link set flynn.1 up',
  ])
})

test('a host whose address has changed gets a new device', () => {
  const [first, second] = devicePlan({ ...right, local: '10.0.0.9' }, options)
  assert.equal(first, 'link del flynn.1')
  assert.match(second ?? '', /^link add flynn\.1 .* local 10\.0\.0\.5 /)
})

test('what a link-up or another program changed is put right', () => {
  const changed = { ...right, mac: '02:42:00:00:00:01', mtu: 1500, addresses: ['100.100.9.0/32'], up: false }
  assert.deepEqual(devicePlan(changed, options), [
    'addr del 100.100.9.0/32 dev flynn.1',
    'link set flynn.1 address 02:42:64:64:05:00',
    'link set flynn.1 mtu 1450',
    'addr add 100.100.5.0/32 dev flynn.1',
    'link set flynn.1 up',
  ])
})

test('a host that came gets an entry, a neighbour and a route', () => {
  assert.deepEqual(plan(nothing, [peer]), {
    bridge: ['fdb append 02:42:64:64:07:00 dev flynn.1 dst 10.0.0.7'],
    ip: [
      'neigh replace 100.100.7.0 lladdr 02:42:64:64:07:00 dev flynn.1 nud permanent',
      'route replace 100.100.7.0/24 via 100.100.7.0 dev flynn.1 onlink src 100.100.5.1',
    ],
  })
})

test('hosts that are connected already need nothing', () => {
  assert.deepEqual(plan(connected, [peer]), { bridge: [], ip: [] })
})

test('a host that moved has its old entry replaced and nothing else', () => {
  assert.deepEqual(plan(connected, [{ ...peer, publicIp: '10.0.0.8' }]), {
    bridge: [
      'fdb del 02:42:64:64:07:00 dev flynn.1 dst 10.0.0.7',
      'fdb append 02:42:64:64:07:00 dev flynn.1 dst 10.0.0.8',
    ],
    ip: [],
  })
})

test('a host that left is forgotten', () => {
  assert.deepEqual(plan(connected, []), {
    bridge: ['fdb del 02:42:64:64:07:00 dev flynn.1 dst 10.0.0.7'],
    ip: ['route del 100.100.7.0/24 dev flynn.1', 'neigh del 100.100.7.0 dev flynn.1'],
  })
})
