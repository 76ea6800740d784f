import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { join } from 'node:path'
import { test } from 'node:test'
import { sleep } from '../clock/clock.ts'

test('a reader that begins late gets all that was printed, and the exit code', async () => {
  const bytes = 1_000_000
  const script = `
    import { exitWhenPrinted } from '${join(import.meta.dirname, 'exit.ts')}'
    process.stdout.write('x'.repeat(${bytes}))
    setInterval(() => {}, 60_000)
    await exitWhenPrinted(3)`
  const child = spawn(process.execPath, ['--input-type=module', '--eval', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const closed = once(child, 'close')
  await once(child.stdout, 'readable')
  await sleep(300)
  let read = 0
  child.stdout.on('data', chunk => {
    read += chunk.length
  })
  assert.deepEqual([(await closed)[0], read], [3, bytes])
})
