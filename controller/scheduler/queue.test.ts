import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KeyedQueue } from './queue.ts'

function gate() {
  const { promise, resolve } = Promise.withResolvers<void>()
  return { promise, open: resolve }
}

test('work of one key is done in order, work of other keys beside it', async () => {
  const queue = new KeyedQueue(10)
  const seen: string[] = []
  const first = gate()
  const a1 = queue.run('a', async () => {
    await first.promise
    seen.push('a1')
  })
  const a2 = queue.run('a', async () => void seen.push('a2'))
  await queue.run('b', async () => void seen.push('b'))
  first.open()
  await Promise.all([a1, a2])
  assert.deepEqual(seen, ['b', 'a1', 'a2'])
})

test('work waits for what is queued under the keys that it names', async () => {
  const queue = new KeyedQueue(10)
  const seen: string[] = []
  const first = gate()
  const volume = queue.run('volume', async () => {
    await first.promise
    seen.push('volume')
  })
  const job = queue.run('job', async () => void seen.push('job'), ['volume'])
  first.open()
  await Promise.all([volume, job])
  assert.deepEqual(seen, ['volume', 'job'])
})

test('no more than the limit is under way, and chains behind each other do not block it', async () => {
  const queue = new KeyedQueue(2)
  let running = 0
  let most = 0
  const work = async () => {
    running++
    most = Math.max(most, running)
    await new Promise(resolve => setImmediate(resolve))
    running--
  }
  const all = Array.from({ length: 20 }, (_, i) => queue.run(`k${i % 5}`, work, [`k${(i + 1) % 5}`]))
  await Promise.all(all)
  assert.equal(most, 2)
  assert.equal(queue.size, 0)
})

test('an error reaches its caller and stops nothing else', async () => {
  const queue = new KeyedQueue(1)
  const failed = queue.run('a', async () => {
    throw new Error('no')
  })
  const next = queue.run('a', async () => undefined)
  await assert.rejects(failed, /no/)
  await next
})
