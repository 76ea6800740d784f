import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bridgeMac, containerLinkBatch, hostLinkBatch, refusal, ruleset } from './rules.core.ts'

test('the rules replace our whole table and carry the addresses that are allowed', () => {
  const text = ruleset({
    table: 'flynn',
    bridge: 'flynnbr0',
    subnet: '100.100.5.0/24',
    overlay: '100.100.0.0/16',
    systemJobs: ['100.100.5.2', '100.100.5.3'],
    clusterHosts: [],
    deadSubnets: [],
  })
  assert.deepEqual(text.split('\n').slice(0, 3), [
    'table inet flynn {}',
    'delete table inet flynn',
    'table inet flynn {',
  ])
  assert.match(text, /set system_jobs \{ type ipv4_addr; elements = \{ 100\.100\.5\.2, 100\.100\.5\.3 \}; \}/)
  assert.match(text, /set cluster_hosts \{ type ipv4_addr; \}/)
  assert.match(text, /ip saddr 100\.100\.5\.0\/24 ip daddr != 100\.100\.0\.0\/16 masquerade/)
})

test('a bridge address is locally administered and unicast', () => {
  assert.equal(bridgeMac(Uint8Array.from([0, 1, 10, 255, 16, 99])), 'fe:00:01:0a:ff:10')
})

test('a link is made by the pid of the container, with the MTU on both ends', () => {
  assert.equal(
    hostLinkBatch({ link: 'veth0', bridge: 'br', pid: 42, mtu: 1450 }),
    'link add veth0 mtu 1450 type veth peer name eth0 mtu 1450 netns 42\nlink set veth0 master br up\n',
  )
  assert.match(containerLinkBatch('100.100.5.2', 24, '100.100.5.1'), /addr add 100\.100\.5\.2\/24 dev eth0/)
})

test('etcd and the tunnel are closed to all but the hosts of the cluster', () => {
  const text = ruleset({
    table: 'flynn',
    bridge: 'flynnbr0',
    subnet: '100.100.5.0/24',
    overlay: '100.100.0.0/16',
    systemJobs: [],
    clusterHosts: ['10.0.0.1', '10.0.0.2'],
    deadSubnets: ['100.100.7.0/24'],
  })
  assert.match(text, /set cluster_hosts \{ type ipv4_addr; elements = \{ 10\.0\.0\.1, 10\.0\.0\.2 \}; \}/)
  assert.match(text, /tcp dport \{ 2379, 2380 \} ip saddr != @cluster_hosts reject/)
  assert.match(text, /udp dport 8472 ip saddr != @cluster_hosts drop/)
})

test('packets to the subnets of dead hosts are refused, and the refusal ends by itself', () => {
  assert.equal(refusal('flynn', []), 'flush set inet flynn dead_subnets\n')
  assert.equal(
    refusal('flynn', ['100.100.7.0/24', '100.100.9.0/24']),
    'flush set inet flynn dead_subnets\nadd element inet flynn dead_subnets { 100.100.7.0/24 timeout 30000ms, 100.100.9.0/24 timeout 30000ms }\n',
  )
})
