// Whether a job's program is there, looked up in the container's own root before it starts: an init as process 1 would
// otherwise turn a wrong command into an exit status of its own (contract host.md 3.1, 3.9 "Command lookup").
import { lstat, readlink } from 'node:fs/promises'
import { posix } from 'node:path'
import { hostErrors } from '../errors.ts'

const linksMax = 40

/**
 * Follows a path inside `root` link by link, so that absolute links stay inside too. Answers the mode of what it leads
 * to, undefined when it leads nowhere.
 */
async function modeInside(root: string, path: string): Promise<number | undefined> {
  let rest = path.split('/').filter(p => p !== '')
  let at = '/'
  let mode: number | undefined
  for (let links = 0; rest.length > 0; ) {
    const [name = '', ...more] = rest
    rest = more
    if (name === '.') continue
    if (name === '..') {
      at = posix.dirname(at)
      continue
    }
    const next = posix.join(at, name)
    const info = await lstat(`${root}${next}`).catch(() => undefined)
    if (!info) return undefined
    if (info.isSymbolicLink()) {
      if (++links > linksMax) return undefined
      const target = await readlink(`${root}${next}`)
      if (target.startsWith('/')) at = '/'
      rest = [...target.split('/').filter(p => p !== ''), ...rest]
      mode = undefined
    } else {
      at = next
      mode = info.mode
    }
  }
  return mode
}

const fileType = 0o170000
const regularFile = 0o100000
const anyExecute = 0o111

async function isProgram(root: string, path: string): Promise<boolean> {
  const mode = await modeInside(root, path)
  return mode !== undefined && (mode & fileType) === regularFile && (mode & anyExecute) !== 0
}

export type ProgramOptions = {
  /** A process whose root is the container's. */
  readonly pid: number
  readonly program: string
  /** PATH of the job. */
  readonly path: string
  readonly cwd: string
}

/** Rejects NO_PROGRAM when the container could not execute the program. */
export async function verifyProgram(options: ProgramOptions): Promise<void> {
  const { program, cwd } = options
  const root = `/proc/${options.pid}/root`
  const candidates = program.includes('/')
    ? [posix.resolve(cwd, program)]
    : options.path.split(':').map(dir => posix.resolve(cwd, dir, program))
  for (const candidate of candidates) if (await isProgram(root, candidate)) return
  throw program.includes('/') ? hostErrors.NO_PROGRAM({ program }) : hostErrors.NOT_IN_PATH({ program })
}
