import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type AttachFrame, encodeFrame, frameDecoder } from './frames.core.ts'

const frames: readonly AttachFrame[] = [
  { type: 'waiting' },
  { type: 'success' },
  { type: 'data', stream: 'stdout', data: new Uint8Array([104, 105]) },
  { type: 'data', stream: 'stderr', data: new Uint8Array(0) },
  { type: 'data', stream: 'initLog', data: new Uint8Array(300).fill(7) },
  { type: 'data', stream: 'stdin', data: new Uint8Array([0, 255]) },
  { type: 'signal', signal: 15 },
  { type: 'resize', rows: 45, columns: 123 },
  { type: 'error', message: 'host: job not running' },
  { type: 'exit', status: 137 },
]

test('frames have the layout of the contract, integers big-endian', () => {
  const hex = (frame: AttachFrame) => Buffer.from(encodeFrame(frame)).toString('hex')
  assert.equal(hex({ type: 'success' }), '00')
  assert.equal(hex({ type: 'waiting' }), '01')
  assert.equal(hex({ type: 'error', message: 'no' }), '02000000026e6f')
  assert.equal(hex({ type: 'data', stream: 'stderr', data: new Uint8Array([1]) }), '03020000000101')
  assert.equal(hex({ type: 'signal', signal: 9 }), '0400000009')
  assert.equal(hex({ type: 'exit', status: 1 }), '0500000001')
  assert.equal(hex({ type: 'resize', rows: 24, columns: 80 }), '0600180050')
})

test('frames are decoded however the bytes are cut', () => {
  const all = Buffer.concat(frames.map(encodeFrame))
  for (const size of [1, 2, 3, 7, 64, all.length]) {
    const decoder = frameDecoder()
    const seen: AttachFrame[] = []
    for (let at = 0; at < all.length; at += size) seen.push(...decoder.push(all.subarray(at, at + size)))
    assert.deepEqual(seen, frames)
    assert.equal(decoder.pending, 0)
  }
})

test('what is not the protocol is refused', () => {
  for (const bytes of [[9], [3, 9, 0, 0, 0, 0], [3, 1, 255, 255, 255, 255]])
    assert.throws(() => frameDecoder().push(new Uint8Array(bytes)), /attach:/)
})
