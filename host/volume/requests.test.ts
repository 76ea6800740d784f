import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { askedBytes, bareRequestBytes, readSoFar } from './requests.ts'

const at = (bytes: number, calls: number, pid = 7) => ({ pid, bytes, calls })

test('random numbers for new blocks are nothing that was asked for, a request of any size is', () => {
  const before = at(5_000, 300)
  assert.equal(askedBytes(before, before), 0)
  assert.equal(askedBytes(before, at(5_000 + 120 * 8, 420)), 0)
  for (const request of [40, 48, 56, 81, 4_176, 131_152])
    for (const own of [0, 1, 120])
      assert.equal(askedBytes(before, at(5_000 + own * 8 + request, 301 + own)), request - 8)
  assert.equal(askedBytes(before, at(5_040, 301)), bareRequestBytes)
})

test('across two processes, or without counts, nothing can be told', () => {
  assert.equal(askedBytes(undefined, at(1, 1)), undefined)
  assert.equal(askedBytes(at(1, 1), undefined), undefined)
  assert.equal(askedBytes(at(1, 1, 7), at(1, 1, 8)), undefined)
})

test('a process tells what it has read, one that is gone nothing', async () => {
  const before = await readSoFar(process.pid)
  assert.ok(before)
  readFileSync('/proc/self/stat')
  const now = await readSoFar(process.pid)
  assert.ok(now && now.bytes > before.bytes && now.calls > before.calls)
  assert.equal(await readSoFar(2 ** 30), undefined)
})
