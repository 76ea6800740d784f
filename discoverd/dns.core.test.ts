// The answers of the zone, read back with another implementation of the protocol.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { type Answer, type DecodedPacket, decode, encode, type RecordType, type SrvAnswer } from 'dns-packet'
import { answer, inZone } from './dns.core.ts'
import { formatError, readQuery, tcpBytesMax, udpBytesMax, writeResponse } from './dns-message.core.ts'
import type { Instance } from './types.ts'

const instance = (id: string, addr: string, proto = 'tcp'): Instance => ({ id, addr, proto })
const services: Readonly<Record<string, readonly Instance[]>> = {
  v4: [instance('a1', '10.0.0.1:80')],
  v6: [instance('b1', '[fd00::1]:80')],
  mixed: [instance('c1', '10.0.0.1:80'), instance('c2', '[fd00::1]:80', 'udp')],
  twice: [instance('d1', '10.0.0.1:80'), instance('d2', '10.0.0.1:81')],
  many: Array.from({ length: 5 }, (_, i) => instance(`e${i}`, `10.0.0.${i + 1}:80`)),
  empty: [],
}
const view = {
  instances: (name: string) => services[name],
  leader: (name: string) => services[name]?.[0],
}
const types = ['A', 'AAAA', 'ANY', 'SRV', 'SOA', 'TXT'] as const
type Transport = 'udp' | 'tcp'

function ask(name: string, type: (typeof types)[number], transport: Transport = 'udp'): DecodedPacket {
  // The library's types do not list ANY; its encoder does.
  const question = { name, type: type as RecordType }
  const message = encode({ type: 'query', id: 7, flags: 0x100, questions: [question] })
  const query = readQuery(message)
  assert.ok(query)
  const context = {
    view,
    transport,
    recursive: true,
    unixSeconds: 1_700_000_000,
    shuffle: <T>(list: readonly T[]) => list.toReversed(),
  }
  const bytesMax = transport === 'udp' ? udpBytesMax : tcpBytesMax
  const packet = decode(writeResponse(message, query, answer(query, context), bytesMax))
  assert.equal(packet.id, 7)
  assert.equal(packet.flag_aa, true)
  assert.equal(packet.flag_ra, true)
  assert.equal(packet.flag_rd, true)
  assert.equal(packet.flag_tc, false)
  for (const r of [...(packet.answers ?? []), ...(packet.authorities ?? [])])
    assert.equal('ttl' in r ? r.ttl : 0, 0)
  return packet
}

const rcode = (p: DecodedPacket) => (p as DecodedPacket & { readonly rcode: string }).rcode

function text(r: Answer): string {
  switch (r.type) {
    case 'A':
    case 'AAAA':
      return `${r.name} ${r.data}`
    case 'SRV': {
      const { priority, weight, port, target } = (r as SrvAnswer).data
      return `${r.name} ${priority} ${weight} ${port} ${target}`
    }
    case 'SOA':
      return `${r.name} SOA ${r.data.mname} ${r.data.rname} ${r.data.serial}`
    default:
      return r.type
  }
}

const answers = (p: DecodedPacket) => (p.answers ?? []).map(text)
const soa = 'discoverd SOA ns.discoverd postmaster.discoverd 1700000000'

function assertEmpty(p: DecodedPacket, code: string): void {
  assert.equal(rcode(p), code)
  assert.deepEqual(p.answers, [])
  assert.deepEqual((p.authorities ?? []).map(text), [soa])
}

describe('names that mean nothing do not exist', () => {
  for (const name of [
    'discoverd',
    'nope.discoverd',
    '_nope._tcp.discoverd',
    'a1.nope._i.discoverd',
    'zz.v4._i.discoverd',
    'leader.nope.discoverd',
    'leader.empty.discoverd',
    'x.v4.discoverd',
    'a1.v4._x.discoverd',
    '_v4.tcp.discoverd',
    'a.b.c.d.discoverd',
    '_v4.discoverd',
  ])
    for (const type of types)
      for (const transport of ['udp', 'tcp'] as const)
        for (const asked of [name, name.toUpperCase()])
          test(`${asked} ${type} over ${transport}`, () => {
            assertEmpty(ask(asked, type, transport), 'NXDOMAIN')
          })
})

describe('a service', () => {
  test('answers with the addresses of its family, under the name as asked', () => {
    assert.deepEqual(answers(ask('MiXeD.discoverd', 'A')), ['MiXeD.discoverd 10.0.0.1'])
    assert.deepEqual(answers(ask('mixed.discoverd', 'AAAA')), ['mixed.discoverd fd00::1'])
  })

  test('that has no instance of a family answers nothing, without denying the name', () => {
    assertEmpty(ask('v4.discoverd', 'AAAA'), 'NOERROR')
    assertEmpty(ask('v6.discoverd', 'A'), 'NOERROR')
    assertEmpty(ask('empty.discoverd', 'A'), 'NOERROR')
    assertEmpty(ask('v4.discoverd', 'TXT'), 'NOERROR')
  })

  test('answers SRV with instance names, and over TCP with their addresses', () => {
    const udp = ask('mixed.discoverd', 'SRV')
    assert.deepEqual(answers(udp), [
      'mixed.discoverd 1 1 80 c2.mixed._i.discoverd',
      'mixed.discoverd 1 1 80 c1.mixed._i.discoverd',
    ])
    assert.deepEqual(udp.additionals, [])
    const tcp = ask('mixed.discoverd', 'SRV', 'tcp')
    assert.deepEqual((tcp.additionals ?? []).map(text), [
      'c2.mixed._i.discoverd fd00::1',
      'c1.mixed._i.discoverd 10.0.0.1',
    ])
  })

  test('answers ANY with all addresses, then all SRV records', () => {
    assert.deepEqual(answers(ask('mixed.discoverd', 'ANY')), [
      'mixed.discoverd fd00::1',
      'mixed.discoverd 10.0.0.1',
      'mixed.discoverd 1 1 80 c2.mixed._i.discoverd',
      'mixed.discoverd 1 1 80 c1.mixed._i.discoverd',
    ])
  })

  test('filters by protocol', () => {
    assert.deepEqual(answers(ask('_mixed._udp.discoverd', 'ANY')), [
      '_mixed._udp.discoverd fd00::1',
      '_mixed._udp.discoverd 1 1 80 c2.mixed._i.discoverd',
    ])
    assert.equal(answers(ask('_v4._tcp.discoverd', 'A')).length, 1)
    assertEmpty(ask('_v4._udp.discoverd', 'A'), 'NOERROR')
  })

  test('shows an address once, but every instance as SRV', () => {
    assert.deepEqual(answers(ask('twice.discoverd', 'A')), ['twice.discoverd 10.0.0.1'])
    assert.equal(answers(ask('twice.discoverd', 'SRV')).length, 2)
  })

  test('shows three instances over UDP and all over TCP', () => {
    assert.deepEqual(answers(ask('many.discoverd', 'A')), [
      'many.discoverd 10.0.0.5',
      'many.discoverd 10.0.0.4',
      'many.discoverd 10.0.0.3',
    ])
    assert.equal(answers(ask('many.discoverd', 'A', 'tcp')).length, 5)
    assert.equal(answers(ask('many.discoverd', 'SRV', 'udp')).length, 3)
  })

  test('answers SOA with the SOA alone', () => {
    const packet = ask('v4.discoverd', 'SOA')
    assert.deepEqual(answers(packet), [soa])
    assert.deepEqual(packet.authorities, [])
  })
})

for (const [kind, name4, name6] of [
  ['one instance', 'a1.v4._i.discoverd', 'B1.v6._i.discoverd'],
  ['a leader', 'leader.v4.discoverd', 'LEADER.v6.discoverd'],
] as const)
  describe(kind, () => {
    test('answers with its address', () => {
      assert.deepEqual(answers(ask(name4, 'A')), [`${name4} 10.0.0.1`])
      assert.deepEqual(answers(ask(name6, 'AAAA')), [`${name6} fd00::1`])
      assertEmpty(ask(name4, 'AAAA'), 'NOERROR')
      assertEmpty(ask(name6, 'A'), 'NOERROR')
    })

    test('answers SRV that points at the name asked for', () => {
      assert.deepEqual(answers(ask(name4, 'SRV')), [`${name4} 1 1 80 ${name4}`])
      const tcp = ask(name4, 'SRV', 'tcp')
      assert.deepEqual((tcp.additionals ?? []).map(text), [`${name4} 10.0.0.1`])
    })

    test('answers ANY with both', () => {
      assert.deepEqual(answers(ask(name4, 'ANY')), [`${name4} 10.0.0.1`, `${name4} 1 1 80 ${name4}`])
    })
  })

test('only names that end in discoverd belong to the zone', () => {
  for (const name of ['discoverd', 'a.DISCOVERD', 'x.y.discoverd']) assert.equal(inZone(name), true, name)
  for (const name of ['', 'xdiscoverd', 'discoverd.com', 'a.discoverd.local'])
    assert.equal(inZone(name), false, name)
})

test('messages that are no query are refused or ignored, whatever their bytes', () => {
  const good = encode({ type: 'query', id: 7, questions: [{ name: 'v4.discoverd', type: 'A' }] })
  for (let length = 0; length < good.length; length++)
    assert.equal(readQuery(good.subarray(0, length)), undefined)
  const response = encode({ type: 'response', id: 7, questions: [{ name: 'v4.discoverd', type: 'A' }] })
  assert.equal(readQuery(response), undefined)
  assert.equal(formatError(response), undefined)
  assert.equal(formatError(good)?.readUInt16BE(2), 0x8001)
  const pointer = Buffer.from(good)
  pointer[12] = 0xc0
  assert.equal(readQuery(pointer), undefined)
})

test('an answer of thousands of instances stays within a TCP message', () => {
  const crowd = Array.from({ length: 3_000 }, (_, i) => instance(`i${i}`, `10.1.${i >> 8}.${i & 255}:80`))
  const message = encode({ type: 'query', id: 7, questions: [{ name: 'crowd.discoverd', type: 'SRV' }] })
  const query = readQuery(message)
  assert.ok(query)
  const context = {
    view: { instances: () => crowd, leader: () => undefined },
    transport: 'tcp' as const,
    recursive: false,
    unixSeconds: 0,
    shuffle: <T>(list: readonly T[]) => list,
  }
  const bytes = writeResponse(message, query, answer(query, context), tcpBytesMax)
  assert.ok(bytes.length <= tcpBytesMax)
  const count = decode(bytes).answers?.length ?? 0
  assert.ok(count > 1_000, String(count))
})
