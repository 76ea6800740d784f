// All of `npm test` that needs node: types, style, unit tests, images, integration tests, and whether anything was left
// on the machine. Started by test/run under a reaper, which is this process's parent.
import { spawn } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { once } from 'node:events'
import { join } from 'node:path'
import { sweep } from './cluster/cluster.ts'
import { clusterNames, readState } from './cluster/state.ts'
import { leftBehind, takeSnapshot } from './leftovers.ts'
import { root } from './runner.ts'

type Section = {
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  readonly timeoutMs: number
  /** Not run when the section of that name failed. */
  readonly needs?: string
}

const minuteMs = 60_000
const bin = (name: string) => join(root, 'node_modules', '.bin', name)
const node = process.execPath
const colors = process.stdout.isTTY ? 'force' : 'off'
const sections: readonly Section[] = [
  { name: 'types', argv: [bin('tsc'), '--noEmit'], timeoutMs: 5 * minuteMs },
  { name: 'style', argv: [bin('biome'), 'ci', `--colors=${colors}`, '.'], timeoutMs: 2 * minuteMs },
  { name: 'unit tests', argv: [node, 'test/unit.ts'], timeoutMs: 5 * minuteMs },
  { name: 'images', argv: [node, 'images/main.ts'], timeoutMs: 15 * minuteMs },
  {
    name: 'integration tests',
    argv: [node, 'test/integration.ts'],
    timeoutMs: 45 * minuteMs,
    needs: 'images',
  },
]

const startedAt = performance.now()
const seconds = (sinceMs: number) => `${((performance.now() - sinceMs) / 1000).toFixed(1)} s`
const heading = (text: string) => process.stdout.write(`\n== ${text} (at ${seconds(startedAt)})\n`)

const testRun = randomUUID()
process.env['FLYNN_TEST_RUN'] = testRun
const look = () => takeSnapshot(process.ppid, testRun)

async function runSection(section: Section): Promise<boolean> {
  const [file, ...args] = section.argv
  const child = spawn(file, args, { cwd: root, stdio: 'inherit' })
  const timer = setTimeout(() => {
    process.stderr.write(`${section.name}: no end within ${section.timeoutMs / minuteMs} minutes\n`)
    child.kill('SIGKILL')
  }, section.timeoutMs)
  const [code] = (await once(child, 'exit')) as [number | null]
  clearTimeout(timer)
  return code === 0
}

/** So that the next run starts on a clean machine although this one failed. */
async function cleanUp(lines: readonly string[]): Promise<void> {
  for (const name of await clusterNames()) if ((await readState(name))?.testRun === testRun) await sweep(name)
  for (const line of lines) {
    const pid = /^processes: (\d+) /.exec(line)?.[1]
    if (pid === undefined) continue
    try {
      process.kill(Number(pid), 'SIGKILL')
    } catch (e) {
      // Many end with the first of them.
      if ((e as NodeJS.ErrnoException).code !== 'ESRCH') throw e
    }
  }
}

const results: string[] = []
const failed: string[] = []
const note = (name: string, good: boolean, time: string) => {
  results.push(`${good ? 'ok    ' : 'FAILED'}  ${time.padStart(8)}  ${name}`)
  if (!good) failed.push(name)
}

const before = await look()
for (const section of sections) {
  heading(section.name)
  const sectionAt = performance.now()
  if (section.needs !== undefined && failed.includes(section.needs)) {
    process.stdout.write(`not run, because ${section.needs} failed\n`)
    note(section.name, false, 'not run')
  } else note(section.name, await runSection(section), seconds(sectionAt))
}

heading('left behind')
const checkAt = performance.now()
const lines = await leftBehind(before, look)
process.stdout.write(lines.length === 0 ? 'nothing\n' : `${lines.join('\n')}\n`)
await cleanUp(lines)
note('left behind', lines.length === 0, seconds(checkAt))

process.stdout.write(
  `\n${results.join('\n')}\n\n${failed.length === 0 ? 'passed' : 'FAILED'} in ${seconds(startedAt)}\n`,
)
process.exitCode = failed.length === 0 ? 0 : 1
