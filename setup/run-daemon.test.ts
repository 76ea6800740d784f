import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { operatorNeededStatus } from '../host/types.ts'
import { poll } from '../pkg/clock/clock.ts'

const script = join(import.meta.dirname, 'run-daemon')
const timeoutMs = 20_000

/** The script with all its paths below a directory, and a daemon that notes the second of each start and then does `body`. */
async function keep(body: string) {
  const dir = await mkdtemp(join(tmpdir(), 'run-daemon-'))
  const at = (name: string) => join(dir, name)
  const text = (await readFile(script, 'utf8'))
    .replaceAll('/usr/local/bin/flynn-host', at('daemon'))
    .replaceAll('/run/flynn', at('run'))
    .replaceAll('/var/log/flynn', at('log'))
  await writeFile(at('keeper'), text, { mode: 0o755 })
  await writeFile(at('daemon'), `#!/bin/sh\ndate +%s.%N >>${at('starts')}\n${body}\n`, { mode: 0o755 })
  const child = spawn(at('keeper'), { stdio: 'inherit' })
  const end = once(child, 'exit').then(([code]) => code as number | null)
  return {
    stop: () => child.kill('SIGTERM'),
    end,
    pidFile: at('run/flynn-host.pid'),
    /** Seconds. */
    starts: async () =>
      (await readFile(at('starts'), 'utf8').catch(() => '')).split('\n').filter(Boolean).map(Number),
    output: () => readFile(at('log/flynn-host.out'), 'utf8'),
    async [Symbol.asyncDispose]() {
      child.kill('SIGTERM')
      await end
      await rm(dir, { recursive: true, force: true })
    },
  }
}

test('a daemon that needs an operator is not started again, and the last line says what to type', async () => {
  await using kept = await keep(`echo "host h3 was removed"; exit ${operatorNeededStatus}`)
  assert.equal(await kept.end, operatorNeededStatus)
  assert.equal((await kept.starts()).length, 1)
  assert.match(await kept.output(), /^host h3 was removed\n.*type: setsid \S+\/keeper &\n$/)
  assert.equal(existsSync(kept.pidFile), false)
})

test('a daemon that fails is started again, each time a little later, and stopping does not wait for that', async () => {
  await using kept = await keep('exit 1')
  await poll(async () => (await kept.starts()).length === 3, { timeoutMs, what: 'the third start' })
  const [first = 0, second = 0, third = 0] = await kept.starts()
  assert.ok(second - first >= 1 && third - second >= 2, `${[first, second, third]}`)
  kept.stop()
  assert.equal(await kept.end, 0)
  assert.equal((await kept.starts()).length, 3)
  assert.equal(existsSync(kept.pidFile), false)
})

test('stopping stops the daemon and waits for its end', async () => {
  await using kept = await keep('trap "sleep 0.3; echo ended; exit 0" TERM\nwhile :; do sleep 0.05; done')
  await poll(async () => (await kept.starts()).length === 1, { timeoutMs, what: 'the daemon' })
  assert.equal((await readFile(kept.pidFile, 'utf8')).trim().length > 0, true)
  kept.stop()
  assert.equal(await kept.end, 0)
  assert.equal(await kept.output(), 'ended\n')
})
