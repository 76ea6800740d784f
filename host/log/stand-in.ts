// Stands in for a shim that has stopped copying. containerd's shim (1.6) copies a job's output from a pipe to its file, and
// gives that up for good at the first write that fails, on a full disk for example. Nobody would read the pipe any more, and
// the job would stand still as soon as 64 KB are in it. Whoever finds that the shim has closed the file reads the pipe in its
// place, appends to the file as the shim did, and throws away what the disk does not take. Started by daemon.ts.
import {
  closeSync,
  constants,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  statSync,
  writeSync,
} from 'node:fs'
import { Socket } from 'node:net'
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { ContainerStdio } from '../container/types.ts'

/** A job may stand still for so long. Each look is some twenty `readlink` a job, without a thread each. */
export const copyCheckMs = 10_000
/** Descriptors of a process that are looked at; a shim has some twenty. */
const descriptorsMax = 200

export type CopiedJob = {
  readonly id: string
  /** Of the container's first process. */
  readonly pid: number
  readonly stdio: ContainerStdio
}

export type StandInOptions = {
  /** Jobs that run; those whose output goes to pipes are left alone. */
  readonly jobs: () => readonly CopiedJob[]
  readonly log: Logger
}

/** The shim is the parent of the container's first process. */
function parentOf(pid: number): number {
  const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
  return Number(text.slice(text.lastIndexOf(')') + 2).split(' ')[1])
}

/** Not another process that has got its number. */
function isOfJob({ id, pid }: CopiedJob): boolean {
  return readFileSync(`/proc/${pid}/cgroup`, 'utf8').includes(id)
}

function openFiles(pid: number): ReadonlySet<string> {
  const names = readdirSync(`/proc/${pid}/fd`).slice(0, descriptorsMax)
  return new Set(names.flatMap(name => target(`/proc/${pid}/fd/${name}`) ?? []))
}

function target(link: string): string | undefined {
  try {
    return readlinkSync(link)
  } catch {
    return undefined // Closed meanwhile.
  }
}

/** Writes what the disk takes; what it does not take is counted, and told once and at the end. */
function appender(fd: number, tell: (lost: { readonly bytes: number; readonly err?: unknown }) => void) {
  let bytes = 0
  return {
    append(chunk: Uint8Array) {
      for (let at = 0; at < chunk.length; )
        try {
          at += writeSync(fd, chunk, at)
        } catch (err) {
          if (bytes === 0) tell({ bytes: chunk.length - at, err })
          bytes += chunk.length - at
          return
        }
    },
    close() {
      closeSync(fd)
      if (bytes > 0) tell({ bytes })
    },
  }
}

/** Copies until the job's last writer is gone. */
function standIn(job: CopiedJob, descriptor: 1 | 2, path: string, log: Logger): Socket {
  const pipe = openSync(`/proc/${job.pid}/fd/${descriptor}`, constants.O_RDONLY | constants.O_NONBLOCK)
  // As a socket, so that no thread is tied up.
  const socket = new Socket({ fd: pipe, readable: true, writable: false })
  let file: number
  try {
    file = openSync(path, constants.O_WRONLY | constants.O_APPEND)
  } catch (e) {
    socket.destroy()
    throw e
  }
  const { append, close } = appender(file, lost =>
    log.warn({ job: job.id, path, ...lost }, 'output that the disk does not take is lost'),
  )
  socket.on('data', append)
  socket.on('error', err => log.warn({ job: job.id, path, err }, 'output of a job cannot be read any more'))
  socket.on('close', close)
  return socket
}

/** Of a job that has ended meanwhile. */
function isGone(err: unknown): boolean {
  return err instanceof Error && 'code' in err && (err.code === 'ENOENT' || err.code === 'ESRCH')
}

/** Looks until the signal aborts. The jobs that it stands in for stand still then, until the next daemon looks. */
export async function standInForShims({ jobs, log }: StandInOptions, signal: AbortSignal): Promise<void> {
  const copied = new Map<string, Socket>()
  const look = (job: CopiedJob) => {
    const copying = openFiles(parentOf(job.pid))
    for (const [descriptor, path] of [[1, job.stdio.stdout] as const, [2, job.stdio.stderr] as const])
      if (path !== undefined && !copied.has(path) && !copying.has(realpathSync(path)))
        takeOver(job, descriptor, path)
  }
  const takeOver = (job: CopiedJob, descriptor: 1 | 2, path: string) => {
    const piped = statSync(`/proc/${job.pid}/fd/${descriptor}`).isFIFO()
    if (!piped || !statSync(path).isFile() || !isOfJob(job)) return
    log.warn({ job: job.id, path }, 'the shim has stopped copying the output of a job, doing it instead')
    const socket = standIn(job, descriptor, path, log)
    copied.set(path, socket)
    socket.once('close', () => copied.delete(path))
  }
  while (!signal.aborted) {
    for (const job of jobs())
      try {
        look(job)
      } catch (err) {
        if (!isGone(err)) log.warn({ job: job.id, err }, 'the output of a job cannot be looked after')
      }
    await sleep(copyCheckMs, signal).catch(() => undefined)
  }
  for (const socket of copied.values()) socket.destroy()
}
