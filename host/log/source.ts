// Where a container's output comes from: a regular file that grows (read on change, consumed prefix freed), or a named
// pipe (tty and stdin jobs). Both deliver chunks in order, pause on demand, and tell when everything has been read.
import { closeSync, constants, type FSWatcher, openSync, readSync, statSync, watch } from 'node:fs'
import { Socket } from 'node:net'
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { Logger } from '../../pkg/log/log.ts'
import { run } from '../../pkg/proc/run.ts'

export const outputChunkBytes = 64 * 1024
/** Where there are no change notices (no inotify instance left), the file is looked at this often. */
export const outputPollMs = 500
/** Where there are, they can still be lost when a great many come at once. */
export const outputCheckMs = 15_000
/** A file's consumed prefix is given back to the disk in steps of this size. */
export const outputPunchBytes = 4 * 1024 * 1024
/** How long a pipe may take to end once its container is removed. */
export const outputEndTimeoutMs = 5_000

const blockBytes = 4096
/** Chunks read at a time before the rest of the daemon has its turn. */
const chunksPerTurn = 16

export type OutputSource = {
  readonly path: string
  /** Reads what is there now; nothing to do for a pipe, which is read as it fills. */
  drain(): Promise<void>
  /** Reads to the end and closes; the container must have been removed or be about to be. */
  finish(): Promise<void>
  pause(): void
  resume(): void
  /** Closes at once, unread output stays where it is. */
  close(): void
}

/** `position` is the place behind the chunk in the file; 0 for pipes, which have none. */
export type OnChunk = (chunk: Uint8Array, position: number) => void

export type SourceOptions = {
  readonly path: string
  /** Where to begin in a regular file. */
  readonly position: number
  readonly onChunk: OnChunk
  readonly log: Logger
}

export function openSource(options: SourceOptions): OutputSource {
  return statSync(options.path).isFIFO() ? openPipe(options) : openFile(options)
}

/** Bytes of zeros at the start: a freed prefix that is read again when a power cut took the stored position back. */
function leadingZeros(chunk: Uint8Array): number {
  const at = chunk.findIndex(b => b !== 0)
  return at < 0 ? chunk.length : at
}

function openFile(options: SourceOptions): OutputSource {
  const { path, onChunk, log } = options
  const fd = openSync(path, constants.O_RDONLY)
  const buffer = Buffer.allocUnsafe(outputChunkBytes)
  let position = options.position
  let freed = 0
  let paused = false
  let closed = false
  let fresh = true
  let watcher: FSWatcher | undefined
  let queued: NodeJS.Immediate | undefined

  /** One chunk; false at the end of the file. */
  function step(): boolean {
    const size = readSync(fd, buffer, 0, buffer.length, position)
    if (size === 0) return false
    const skip = fresh ? leadingZeros(buffer.subarray(0, size)) : 0
    fresh = skip === size
    position += size
    // A copy: the consumer keeps parts of it (unfinished lines) while the buffer is filled again.
    if (skip < size) onChunk(Uint8Array.prototype.slice.call(buffer, skip, size), position)
    return true
  }
  /** Goes on in turns of the event loop, so that one loud job does not hold up the daemon. */
  function later(): void {
    if (queued || paused || closed) return
    queued = setImmediate(() => {
      queued = undefined
      if (!paused && !closed && step()) later()
    })
  }
  function punch(): void {
    const length = Math.floor(position / blockBytes) * blockBytes
    if (length - freed < outputPunchBytes) return
    freed = length
    run(['fallocate', '-p', '-o', '0', '-l', String(length), path]).catch((err: unknown) =>
      log.warn({ path, err }, 'consumed output could not be freed'),
    )
  }
  const look = () => {
    later()
    punch()
  }
  const every = (ms: number) => setInterval(look, ms).unref()
  let timer = every(outputCheckMs)
  const unwatched = (err: unknown) => {
    log.warn({ path, err }, 'output is polled, not watched')
    clearInterval(timer)
    if (!closed) timer = every(outputPollMs)
  }
  try {
    watcher = watch(path, { persistent: false }, look)
    watcher.on('error', unwatched)
  } catch (err) {
    unwatched(err)
  }
  look()
  function close(): void {
    if (closed) return
    closed = true
    clearInterval(timer)
    clearImmediate(queued)
    watcher?.close()
    closeSync(fd)
  }
  const drain = async () => {
    for (let n = 1; !closed && step(); n++) if (n % chunksPerTurn === 0) await nextTurn()
  }
  return {
    path,
    drain,
    async finish() {
      await drain()
      close()
    },
    pause: () => {
      paused = true
    },
    resume: () => {
      paused = false
      later()
    },
    close,
  }
}

function openPipe(options: SourceOptions): OutputSource {
  // Non-blocking, so that the open does not wait for a writer; as a socket, so that no thread is tied up.
  const fd = openSync(options.path, constants.O_RDONLY | constants.O_NONBLOCK)
  const socket = new Socket({ fd, readable: true, writable: false })
  const ended = new Promise<void>(resolve => {
    socket.once('close', () => resolve())
  })
  socket.on('data', chunk => options.onChunk(chunk, 0))
  socket.on('error', err => options.log.warn({ path: options.path, err }, 'output pipe broke'))
  return {
    path: options.path,
    drain: async () => undefined,
    async finish() {
      const timer = setTimeout(() => socket.destroy(), outputEndTimeoutMs)
      await ended
      clearTimeout(timer)
    },
    pause: () => void socket.pause(),
    resume: () => void socket.resume(),
    close: () => void socket.destroy(),
  }
}
