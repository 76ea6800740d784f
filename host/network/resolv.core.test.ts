import assert from 'node:assert/strict'
import { test } from 'node:test'
import { containerResolv, parseResolv, upstreams } from './resolv.core.ts'

test('comments, options and odd lines are skipped', () => {
  const text = '# c\nnameserver 10.0.0.2 # x\n;y\noptions ndots:5 edns0\nnameserver\nsearch a.b c.d\nfoo\n'
  assert.deepEqual(parseResolv(text), { nameservers: ['10.0.0.2'], search: ['a.b', 'c.d'] })
})

test('the upstreams of systemd-resolved stand in for its stub', () => {
  assert.deepEqual(upstreams('nameserver 127.0.0.53\n', 'nameserver 10.0.0.2\n'), ['10.0.0.2'])
})

test('reachable name servers are kept, loopback ones only when there is nothing else', () => {
  assert.deepEqual(upstreams('nameserver 127.0.0.1\nnameserver 10.0.0.3\n', 'nameserver 10.0.0.2\n'), [
    '10.0.0.3',
  ])
  assert.deepEqual(upstreams('nameserver 127.0.0.1\n', undefined), ['127.0.0.1'])
})

test('containers ask the bridge and keep the search list', () => {
  assert.equal(containerResolv(['a.b'], '100.100.1.1'), 'search a.b\nnameserver 100.100.1.1\n')
  assert.equal(containerResolv([], '100.100.1.1'), 'nameserver 100.100.1.1\n')
})
