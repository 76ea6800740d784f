import assert from 'node:assert/strict'
import { createHash, createPrivateKey, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { createClusterCertificate } from './certificate.ts'

test('a cluster certificate covers its hosts, is signed by its authority and matches its key and pin', async () => {
  const made = await createClusterCertificate(['dev.test', '*.dev.test'], new Date('2026-01-01T00:00:00Z'))
  const leaf = new X509Certificate(made.cert)
  const ca = new X509Certificate(made.ca_cert)
  assert.equal(leaf.checkHost('controller.dev.test') !== undefined, true)
  assert.equal(leaf.verify(ca.publicKey), true)
  assert.equal(leaf.checkPrivateKey(createPrivateKey(made.private_key)), true)
  assert.match(made.private_key, /^-----BEGIN RSA PRIVATE KEY-----/)
  assert.equal(made.pin, createHash('sha256').update(leaf.raw).digest('base64'))
  assert.equal(new Date(leaf.validTo).getUTCFullYear(), 2030)
})
