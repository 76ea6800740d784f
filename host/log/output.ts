// The output of one job: from its files or pipes into the log (unless it has none), and raw to whoever is attached to a
// job without a log. Output nobody wants is thrown away, so that a job never blocks on it (contract host.md 10, no. 41).
import type { Logger } from '../../pkg/log/log.ts'
import type { ContainerStdio } from '../container/types.ts'
import { lineSplitter } from './lines.core.ts'
import type { LogJob, LogMux } from './mux.ts'
import { type OutputSource, openSource } from './source.ts'

type Stream = 'stdout' | 'stderr'

/** Raw output of a job without a log that is kept for its first attachment, as a pipe would. */
export const backlogBytesMax = 64 * 1024

export type RawListener = (stream: Stream, chunk: Uint8Array) => void

export type JobOutput = {
  /** Everything written so far is taken over. */
  drain(): Promise<void>
  /** Call after the container is removed: reads to the end, ends unfinished lines, closes. */
  finish(): Promise<void>
  /** Raw chunks of a job without a log, after what was kept of them. Returns the function that ends it. */
  listen(listener: RawListener): () => void
  pause(): void
  resume(): void
  /** Leaves everything that is unread for the next daemon. */
  close(): void
}

export type JobOutputOptions = {
  readonly job: LogJob
  readonly stdio: ContainerStdio
  /** False for tty and disable_log jobs. */
  readonly logged: boolean
  readonly mux: LogMux
  readonly log: Logger
}

type Part = { readonly source: OutputSource; readonly end: () => void }

/** Lines into the log; only whole lines count as taken over, the rest is read again after a restart. */
function loggedPart(options: JobOutputOptions, stream: Stream, path: string): Part {
  const { job, mux } = options
  const splitter = lineSplitter()
  let pending = 0
  const source = openSource({
    path,
    position: mux.position(job.jobId, stream),
    log: options.log,
    onChunk(chunk, end) {
      const before = splitter.consumed
      const lines = splitter.push(chunk)
      pending += chunk.length - (splitter.consumed - before)
      if (lines.length > 0) mux.write(job, stream, lines, end === 0 ? undefined : end - pending)
    },
  })
  return {
    source,
    end() {
      const last = splitter.end()
      if (last.length > 0) mux.write(job, stream, last)
    },
  }
}

function rawPart(options: JobOutputOptions, stream: Stream, path: string, onChunk: RawListener): Part {
  const { job, mux } = options
  const source = openSource({
    path,
    position: mux.position(job.jobId, stream),
    log: options.log,
    onChunk(chunk, end) {
      if (end > 0) mux.savePosition(job.jobId, stream, end)
      onChunk(stream, chunk)
    },
  })
  return { source, end: () => undefined }
}

/** Starts reading. The streams' files or pipes must exist. */
export function openJobOutput(options: JobOutputOptions): JobOutput {
  const { job, mux, stdio } = options
  const listeners = new Set<RawListener>()
  let backlog: { readonly stream: Stream; readonly chunk: Uint8Array }[] | undefined = []
  let backlogBytes = 0
  const deliver: RawListener = (stream, chunk) => {
    if (backlog && backlogBytes + chunk.length <= backlogBytesMax) {
      backlog.push({ stream, chunk })
      backlogBytes += chunk.length
    }
    for (const listener of [...listeners]) listener(stream, chunk)
  }
  const part = (stream: Stream, path: string) =>
    options.logged ? loggedPart(options, stream, path) : rawPart(options, stream, path, deliver)
  mux.opened(job)
  const parts = [part('stdout', stdio.stdout)]
  if (stdio.stderr !== undefined && stdio.stderr !== stdio.stdout) parts.push(part('stderr', stdio.stderr))

  return {
    async drain() {
      for (const { source } of parts) await source.drain()
    },
    async finish() {
      await Promise.all(parts.map(p => p.source.finish()))
      for (const p of parts) p.end()
      mux.forgetPositions(job.jobId)
      mux.closed(job)
    },
    listen(listener) {
      for (const { stream, chunk } of backlog ?? []) listener(stream, chunk)
      backlog = undefined
      listeners.add(listener)
      return () => listeners.delete(listener)
    },
    pause() {
      for (const { source } of parts) source.pause()
    },
    resume() {
      for (const { source } of parts) source.resume()
    },
    close() {
      for (const { source } of parts) source.close()
    },
  }
}
