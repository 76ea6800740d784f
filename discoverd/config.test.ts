// Flags, environment and the plan for the etcd member.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { normaliseRecursors } from './config.core.ts'
import { readConfig } from './config.ts'
import { etcdArgs, planMember } from './member.core.ts'

describe('configuration', () => {
  test('a job needs no flags', () => {
    const config = readConfig([], {
      EXTERNAL_IP: '10.0.0.1',
      LISTEN_IP: '',
      PORT_0: '1111',
      DISCOVERD_PEERS: '10.0.0.1:1111,10.0.0.2:1111,',
      FLYNN_JOB_ID: 'host1-x',
    })
    assert.deepEqual(config, {
      dataDir: '/data',
      host: '10.0.0.1',
      listenHost: '0.0.0.0',
      port: '1111',
      peers: ['10.0.0.1:1111', '10.0.0.2:1111'],
      listedAsPeer: true,
      dnsAddr: '',
      recursors: [],
      notifyUrl: 'http://10.0.0.1:1113/host/discoverd',
      waitNetDns: true,
      hostUrl: 'http://10.0.0.1:1113',
      jobId: 'host1-x',
      etcdLoopback: true,
      adminKey: undefined,
    })
  })

  test('flags with one dash win over the environment', () => {
    const argv = ['-data-dir', '/d', '-host=10.0.0.9', '-addr', ':7', '-peers', '10.0.0.8:1', '-wait-net-dns']
    const config = readConfig([...argv, '-recursors', '8.8.8.8, ::1 ,'], { EXTERNAL_IP: '10.0.0.1' })
    assert.equal(config.dataDir, '/d')
    assert.equal(config.host, '10.0.0.9')
    assert.equal(config.port, '7')
    assert.deepEqual(config.peers, ['10.0.0.8:7'])
    assert.equal(config.listedAsPeer, false)
    assert.deepEqual(config.recursors, ['8.8.8.8:53', '[::1]:53'])
    assert.equal(config.waitNetDns, true)
  })

  test('no peers means this host alone', () => {
    const config = readConfig(['-host', '10.0.0.1'], {})
    assert.deepEqual(config.peers, ['10.0.0.1:1111'])
    assert.equal(config.listedAsPeer, true)
    assert.equal(config.notifyUrl, '')
  })

  for (const [name, argv, text] of [
    ['an empty data directory', ['-data-dir', '', '-host', 'h'], 'data directory required'],
    ['a missing host', ['-data-dir', '/d'], 'host required'],
    [
      'a peer without a port',
      ['-host', 'h', '-peers', '10.0.0.1'],
      'invalid peer 10.0.0.1: address 10.0.0.1: missing port in address',
    ],
    ['an address without a port', ['-host', 'h', '-addr', 'x'], 'addr must be [ip]:port, not x'],
  ] as const)
    test(`${name} is refused`, () => {
      assert.throws(() => readConfig(argv, {}), { message: text })
    })

  test('resolvers get the DNS port where they have none', () => {
    assert.deepEqual(normaliseRecursors('1.1.1.1,1.1.1.1:5353,fe80::1,[fe80::1]:54,'), [
      '1.1.1.1:53',
      '1.1.1.1:5353',
      '[fe80::1]:53',
      '[fe80::1]:54',
    ])
  })
})

describe('the member plan', () => {
  const facts = {
    hasData: false,
    listed: true,
    name: 'host1',
    host: '10.0.0.1',
    peerHosts: ['10.0.0.1', '10.0.0.2'],
    members: undefined,
    history: false,
  }
  const own = { peerUrls: ['http://10.0.0.1:2380'] }
  const other = { peerUrls: ['http://10.0.0.2:2380'], started: true }

  test('data on disk makes a member, whatever the peer list says', () => {
    assert.deepEqual(planMember({ ...facts, hasData: true, listed: false }), { kind: 'resume' })
  })

  test('peers that know of no cluster found one together', () => {
    assert.deepEqual(planMember(facts), {
      kind: 'found',
      initialCluster: 'host1=http://10.0.0.1:2380,peer1=http://10.0.0.2:2380',
    })
  })

  test('a host that was in a cluster does not found another one beside it', () => {
    assert.deepEqual(planMember({ ...facts, history: true }), { kind: 'proxy', reason: 'was_here_before' })
  })

  test('a host that is not listed is a proxy', () => {
    assert.deepEqual(planMember({ ...facts, listed: false }), { kind: 'proxy', reason: 'not_a_peer' })
  })

  test('a host added to a running cluster joins it', () => {
    const plan = planMember({ ...facts, listed: false, members: [other, { ...own, started: false }] })
    assert.deepEqual(plan, {
      kind: 'join',
      initialCluster: 'peer0=http://10.0.0.2:2380,host1=http://10.0.0.1:2380',
    })
  })

  test('a listed host that the running cluster does not know is a proxy until it is promoted', () => {
    const plan = planMember({ ...facts, members: [other] })
    assert.deepEqual(plan, { kind: 'proxy', reason: 'not_a_member' })
  })

  test('a member that lost its data must not vote again under its old name', () => {
    const plan = planMember({ ...facts, members: [other, { ...own, started: true }] })
    assert.deepEqual(plan, { kind: 'proxy', reason: 'data_lost' })
  })

  test('etcd listens on the loopback address, too, unless told not to', () => {
    const options = { name: 'n', dataDir: '/d', host: '10.0.0.1', plan: { kind: 'resume' } } as const
    const listen = (loopback: boolean) =>
      etcdArgs({ ...options, loopback }).find(a => a.startsWith('--listen-client-urls='))
    assert.equal(listen(true), '--listen-client-urls=http://10.0.0.1:2379,http://127.0.0.1:2379')
    assert.equal(listen(false), '--listen-client-urls=http://10.0.0.1:2379')
  })
})
