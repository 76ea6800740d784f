// One build at a time in one output directory: a file with the holder's process id and start time. A holder that is
// gone does not hold; another one is waited for.
import { randomUUID } from 'node:crypto'
import { link, mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../pkg/clock/clock.ts'
import { errors } from './errors.ts'

const waitMs = 30 * 60_000
const pollMs = 500

/** When a process began, in ticks since the machine's start; undefined when there is none of this id. */
async function startOf(pid: string): Promise<string | undefined> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
  // The name in parentheses may hold anything; the 20th field after it is the start time (proc(5)).
  return text?.slice(text.lastIndexOf(')') + 2).split(' ')[19]
}

/** Takes the lock of `dir`, waiting for a build that is under way; returns the function that gives it back. */
export async function lockDirectory(
  dir: string,
  onWait: (pid: string) => void,
): Promise<() => Promise<void>> {
  await mkdir(dir, { recursive: true })
  const path = join(dir, '.lock')
  const mine = `${path}.${process.pid}.${randomUUID()}`
  await writeFile(mine, `${process.pid} ${await startOf(String(process.pid))}`)
  const end = performance.now() + waitMs
  let told = false
  try {
    while (!(await tryLink(mine, path))) {
      const [pid = '', start] = (await readFile(path, 'utf8').catch(() => '')).split(' ')
      if (pid !== '' && (await startOf(pid)) !== start) await rm(path, { force: true })
      if (performance.now() > end) throw errors.BUILDER_BUSY({ pid, dir })
      if (!told && pid !== '') onWait(pid)
      told = true
      await sleep(pollMs)
    }
  } finally {
    await rm(mine, { force: true })
  }
  return () => rm(path, { force: true })
}

/** A hard link is made or not: never two holders. False when somebody else holds. */
async function tryLink(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code === 'EEXIST') return false
    throw e
  }
}
