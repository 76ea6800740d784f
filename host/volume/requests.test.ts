import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { readSoFar, wasQuiet } from './requests.ts'

const at = (bytes: number, calls: number, pid = 7) => ({ pid, bytes, calls })

test('random numbers for new blocks are nothing that was asked for, a request of any size is', () => {
  const before = at(5_000, 300)
  assert.equal(wasQuiet(before, before), true)
  assert.equal(wasQuiet(before, at(5_000 + 120 * 8, 420)), true)
  for (const request of [40, 48, 56, 81, 4_176, 131_152])
    for (const own of [0, 1, 120])
      assert.equal(
        wasQuiet(before, at(5_000 + own * 8 + request, 301 + own)),
        false,
        `${request} beside ${own}`,
      )
})

test('what cannot be told is not quiet', () => {
  assert.equal(wasQuiet(undefined, at(1, 1)), false)
  assert.equal(wasQuiet(at(1, 1), undefined), false)
  assert.equal(wasQuiet(at(1, 1, 7), at(1, 1, 8)), false)
})

test('a process tells what it has read, one that is gone nothing', async () => {
  const before = await readSoFar(process.pid)
  assert.ok(before)
  readFileSync('/proc/self/stat')
  const now = await readSoFar(process.pid)
  assert.ok(now && now.bytes > before.bytes && now.calls > before.calls)
  assert.equal(await readSoFar(2 ** 30), undefined)
})
