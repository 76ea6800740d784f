import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isProof, proofOf } from './proof.core.ts'

test('a proof holds for its key, number and address, and for nothing else', () => {
  const proof = proofOf('key', 'n1', '192.0.2.1')
  assert.equal(isProof(proof, 'key', 'n1', '192.0.2.1'), true)
  assert.equal(isProof(proof, 'other', 'n1', '192.0.2.1'), false)
  assert.equal(isProof(proof, 'key', 'n2', '192.0.2.1'), false)
  assert.equal(isProof(proof, 'key', 'n1', '192.0.2.2'), false)
  for (const wrong of [undefined, '', 'x', proof.slice(1), `${proof}0`])
    assert.equal(isProof(wrong, 'key', 'n1', '192.0.2.1'), false)
})
