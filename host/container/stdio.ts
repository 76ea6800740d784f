// Where a container's output lies or flows. Plain jobs write regular files: nothing blocks, nothing is lost while a
// daemon is away. Jobs with a terminal or stdin have named pipes, and a holder.
//
// The holder is a sleeping child process with the read ends of stdout and stderr open: containerd's shim finds a reader
// when it opens them (creating fails otherwise), and output that nobody has read when the job ends stays in the pipe,
// also while this daemon is away. It writes to nothing, so readers see the end of file when the job's last writer is
// gone. (One that opens a pipe only then gets no event for it: it reads until 0 bytes come.) Stdin needs none: the shim keeps a writer of its own open until `closeStdin`.
import { spawn } from 'node:child_process'
import { closeSync, constants, existsSync, openSync } from 'node:fs'
import { open, readFile, readlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { run } from '../../pkg/proc/run.ts'
import type { ContainerStdio } from './types.ts'

export type StdioKind = { readonly tty: boolean; readonly stdin: boolean }

const holderFile = 'holder.pid'

/** The paths of a job's streams, as they were made. */
export function stdioPaths(dir: string): ContainerStdio {
  const optional = (name: string) => (existsSync(join(dir, name)) ? join(dir, name) : undefined)
  return { stdout: join(dir, 'stdout'), stderr: optional('stderr'), stdin: optional('stdin') }
}

/** Makes the files or pipes of a job in its directory, and the holder of the pipes. */
export async function makeStdio(dir: string, kind: StdioKind): Promise<ContainerStdio> {
  const stdout = join(dir, 'stdout')
  const stderr = kind.tty ? undefined : join(dir, 'stderr')
  const stdin = kind.stdin ? join(dir, 'stdin') : undefined
  const outputs = [stdout, ...(stderr === undefined ? [] : [stderr])]
  if (kind.tty || kind.stdin) {
    await run(['mkfifo', '-m', '600', ...outputs, ...(stdin === undefined ? [] : [stdin])])
    await startHolder(dir, outputs)
  } else {
    for (const path of outputs) await (await open(path, 'a', 0o640)).close()
  }
  return { stdout, stderr, stdin }
}

async function startHolder(dir: string, outputs: readonly string[]): Promise<void> {
  const fds: number[] = []
  try {
    for (const path of outputs) fds.push(openSync(path, constants.O_RDONLY | constants.O_NONBLOCK))
    const child = spawn('sleep', ['infinity'], {
      detached: true,
      stdio: ['ignore', 'ignore', 'ignore', ...fds],
      cwd: '/',
      env: { PATH: process.env['PATH'] ?? '' },
    })
    await new Promise<void>((resolve, reject) => {
      child.once('spawn', resolve)
      child.once('error', reject)
    })
    child.unref()
    await writeFile(join(dir, holderFile), String(child.pid))
  } finally {
    for (const fd of fds) closeSync(fd)
  }
}

/** Lets go of a job's pipes. Safe to repeat. */
export async function endHolder(dir: string): Promise<void> {
  const text = await readFile(join(dir, holderFile), 'utf8').catch(() => '')
  const pid = Number(text)
  if (text === '' || !Number.isInteger(pid)) return
  // After a reboot the number may be somebody else's: it is the holder only if it has our pipe open.
  const held = await readlink(`/proc/${pid}/fd/3`).catch(() => '')
  if (held !== join(dir, 'stdout')) return
  try {
    process.kill(pid, 'SIGKILL')
  } catch (e) {
    if ((e as NodeJS.ErrnoException).code !== 'ESRCH') throw e
  }
}
