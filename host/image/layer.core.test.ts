import assert from 'node:assert/strict'
import { test } from 'node:test'
import { checkLayer, isVerified, layerSource } from './layer.core.ts'

const sha256 = 'a'.repeat(64)
const layer = { id: 'x', sizeBytes: 10, hashes: { sha256 } }

test('a layer needs a file name as id, a size and one hash that we know', () => {
  checkLayer(layer)
  checkLayer({ ...layer, hashes: { sha256, md5: 'ignored' } })
  const bad = [
    { ...layer, id: 'a/b' },
    { ...layer, id: '' },
    { ...layer, sizeBytes: 0 },
    { ...layer, sizeBytes: 1.5 },
    { ...layer, sizeBytes: 2 ** 50 },
    { ...layer, hashes: {} },
    { ...layer, hashes: { md5: 'a'.repeat(32) } },
    { ...layer, hashes: { sha256: 'a'.repeat(63) } },
    { ...layer, hashes: { sha512: 'g'.repeat(128) } },
  ]
  for (const request of bad) assert.throws(() => checkLayer(request), { code: 'layer_invalid' })
})

test('sources are files and HTTP, services are told apart', () => {
  assert.deepEqual(layerSource('file:///a/b%20c'), { kind: 'file', path: '/a/b c' })
  const blob = layerSource('http://blobstore.discoverd/x')
  assert.ok(blob?.kind === 'http' && blob.discoverd)
  const plain = layerSource('https://example.org/x')
  assert.ok(plain?.kind === 'http' && !plain.discoverd)
  for (const text of ['', 'x', 'ftp://h/x', '/a/b']) assert.equal(layerSource(text), undefined)
})

test('a stamp counts for the very file and the very hashes that it names', () => {
  const file = { bytes: 10, modifiedMs: 5, inode: 7 }
  const stamp = { ...file, hashes: { sha256 } }
  assert.ok(isVerified(stamp, file, layer))
  assert.ok(isVerified(stamp, file, { ...layer, hashes: { sha256: sha256.toUpperCase() } }))
  assert.ok(!isVerified(stamp, { ...file, inode: 8 }, layer))
  assert.ok(!isVerified(stamp, { ...file, modifiedMs: 6 }, layer))
  assert.ok(!isVerified(stamp, file, { ...layer, hashes: { sha256: 'b'.repeat(64) } }))
  assert.ok(!isVerified(stamp, file, { ...layer, hashes: { sha256, sha512: 'c'.repeat(128) } }))
})
