// The texts that clients of the original know, for names and addresses that are wrong.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp } from './ip.core.ts'
import { instanceFault, serviceNameFault, splitHostPort } from './validate.core.ts'

test('service names are lowercase letters, digits and dashes', () => {
  assert.equal(serviceNameFault('a-1'), undefined)
  assert.equal(serviceNameFault(''), 'discoverd: service name must not be empty')
  for (const name of ['A', 'a_b', 'a.b', 'ä', 'a/b', ' '])
    assert.equal(serviceNameFault(name), 'discoverd: service must be lowercase alphanumeric plus dash')
})

test('addresses split at the port', () => {
  assert.deepEqual(splitHostPort('1.2.3.4:80'), { host: '1.2.3.4', port: '80' })
  assert.deepEqual(splitHostPort('[::1]:80'), { host: '::1', port: '80' })
  assert.deepEqual(splitHostPort(':80'), { host: '', port: '80' })
})

for (const [addr, text] of [
  ['1.2.3.4', 'missing port in address'],
  ['', 'missing port in address'],
  ['[::1]', 'missing port in address'],
  ['::1:80', 'too many colons in address'],
  ['[::1:80', "missing ']' in address"],
  ['[::1]80:1', 'missing port in address'],
  ['[::1]::80', 'too many colons in address'],
  ['a]b:80', "unexpected ']' in address"],
  ['a[b:80', "unexpected '[' in address"],
])
  test(`address ${JSON.stringify(addr)} is refused: ${text}`, () => {
    assert.equal(splitHostPort(addr as string), `address ${addr}: ${text}`)
  })

test('an instance is refused for the first thing that is wrong with it', () => {
  const good = { id: 'x', addr: '1.2.3.4:80', proto: 'tcp' }
  assert.equal(instanceFault(good, 'x'), undefined)
  assert.equal(instanceFault({ ...good, proto: '', addr: '' }, 'x'), 'discoverd: proto must be set')
  assert.equal(
    instanceFault({ ...good, proto: 'TCP' }, 'x'),
    'discoverd: proto must be lowercase alphanumeric',
  )
  assert.equal(instanceFault({ ...good, addr: 'h' }, 'x'), 'address h: missing port in address')
  assert.equal(instanceFault(good, 'y'), 'discoverd: instance id is incorrect, expected y')
})

test('addresses become bytes, and nothing else does', () => {
  assert.deepEqual(parseIp('10.0.0.255'), Uint8Array.of(10, 0, 0, 255))
  assert.deepEqual(parseIp('::1'), Uint8Array.of(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1))
  assert.deepEqual(
    parseIp('2001:db8::ffff:1.2.3.4'),
    Uint8Array.of(0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 1, 2, 3, 4),
  )
  for (const text of [
    '',
    'host',
    '1.2.3',
    '1.2.3.256',
    '1.2.3.4.5',
    ':::',
    '1::2::3',
    '1:2:3:4:5:6:7:8:9',
    'g::',
  ])
    assert.equal(parseIp(text), undefined, text)
})
