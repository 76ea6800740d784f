import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Route } from '../types.ts'
import { movedName, movedRoute } from './domain-migration.ts'

test('names under the old domain move, others do not', () => {
  assert.equal(movedName('shop.old.test', 'old.test', 'new.test'), 'shop.new.test')
  assert.equal(movedName('a.b.old.test', 'old.test', 'new.test'), 'a.b.new.test')
  assert.equal(movedName('old.test', 'old.test', 'new.test'), 'new.test')
  assert.equal(movedName('cold.test', 'old.test', 'new.test'), undefined)
  assert.equal(movedName('shop.example.com', 'old.test', 'new.test'), undefined)
})

test("the cluster's own certificate is replaced, another one does not go along", () => {
  const route: Route = {
    type: 'http',
    id: 'r',
    service: 's',
    leader: false,
    created_at: '',
    updated_at: '',
    path: '/x/',
    sticky: true,
    certificate: { cert: 'old cluster\n', key: 'k', created_at: '', updated_at: '' },
  }
  const row = { old_tls_cert: { cert: 'old cluster' } }
  const cert = { cert: 'new', key: 'new key' }
  const own = movedRoute(route, 'x.new.test', row, cert, true)
  assert.deepEqual(own.certificate, cert)
  assert.deepEqual([own.domain, own.path, own.sticky], ['x.new.test', '/x/', true])
  assert.equal(movedRoute(route, 'x', { old_tls_cert: { cert: 'else' } }, cert, true).certificate, undefined)
})

test('what a route asks of the routers moves with it, an automatic certificate while there is an account', () => {
  const route: Route = {
    ...{ type: 'http', id: 'r', service: 's', leader: false, created_at: '', updated_at: '' },
    ...{
      redirect_https: true,
      rate_limit: 5,
      managed_certificate_domain: 'a.old.test',
      acme_thumbprint: 't',
    },
  }
  const moved = movedRoute(route, 'a.new.test', { old_tls_cert: null }, { cert: 'c', key: 'k' }, true)
  assert.deepEqual([moved.redirect_https, moved.rate_limit, moved.maintenance], [true, 5, undefined])
  assert.equal(moved.managed_certificate_domain, 'a.new.test')
  const without = movedRoute(route, 'a.new.test', { old_tls_cert: null }, { cert: 'c', key: 'k' }, false)
  assert.equal(without.managed_certificate_domain, undefined)
})
