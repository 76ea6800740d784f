import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join, relative } from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { root } from './runner.ts'

const passing = 120

/** Its report is longer than a pipe takes, and something in it goes on after its tests. */
const file = `
import { test } from 'node:test'
for (let i = 0; i < ${passing}; i++) test('passes ' + i + ' ' + 'x'.repeat(2_000), () => {})
test('leaves a timer', () => { setInterval(() => {}, 1_000) })
test('fails', () => { throw new Error('for this reason') })
`

/** Runs the file as unit.ts would, but is busy most of the time and so reads late what the file reports. */
const busyRun = (folder: string) => `
import { runTests } from ${JSON.stringify(join(root, 'test/runner.ts'))}
const busy = () => { for (const end = Date.now() + 500; Date.now() < end; ); }
const timer = setInterval(busy, 510)
const files = [${JSON.stringify(relative(root, join(folder, 'long.test.ts')))}]
const { good, failures } = await runTests({ files, concurrency: 1, fileTimeoutMs: 60_000 })
process.stdout.write(failures.join(''))
process.exitCode = good ? 0 : 1
clearInterval(timer)
`

async function runBusily(t: TestContext): Promise<{ code: number; report: string }> {
  const folder = await mkdtemp(join(tmpdir(), 'flynn-runner-'))
  t.after(() => rm(folder, { recursive: true, force: true }))
  await writeFile(join(folder, 'long.test.ts'), file)
  await writeFile(join(folder, 'run.ts'), busyRun(folder))
  // Without the variable by which node knows that it is inside a test already, where it runs no further files.
  const { NODE_TEST_CONTEXT: _, ...env } = process.env
  const child = spawn(process.execPath, [join(folder, 'run.ts')], {
    env,
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  const [report, [code]] = await Promise.all([text(child.stdout), once(child, 'exit') as Promise<[number]>])
  return { code, report }
}

test('every test of a long file is reported, whatever goes on after it and however late it is read', async t => {
  const { code, report } = await runBusily(t)
  assert.equal(code, 1)
  const counted = [...report.matchAll(/(pass|fail) (\d+)$/gm)].map(([, what, count]) => [what, Number(count)])
  assert.deepEqual(counted, [
    ['pass', passing + 1],
    ['fail', 1],
  ])
  assert.ok(report.includes('Error: for this reason'), 'the reason is told')
  assert.match(report, /long\.test\.ts: fails: for this reason\n$/, 'and told again at the end')
})
