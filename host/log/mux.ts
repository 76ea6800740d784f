// Takes the lines of all jobs into the app logs and hands them out again: to attachments (one job), to the aggregator
// (everything, in order). Contract host.md 2.6, 2.7, system-apps.md 1.2.
import { mkdirSync } from 'node:fs'
import type { HostDatabase } from '../database.ts'
import { AppLog, logFileName, logFiles, type OutputPosition } from './file.ts'
import { type LogReader, openLogReader } from './reader.ts'
import {
  formatMessage,
  frameMessage,
  isAfter,
  type LogCursor,
  type LogRecord,
  type LogStream,
  procIdOf,
} from './record.core.ts'

/** Whose output it is. */
export type LogJob = {
  readonly jobId: string
  readonly app: string | undefined
  readonly processType: string | undefined
}

export type LogMuxOptions = {
  readonly dir: string
  readonly hostId: string
  readonly database: HostDatabase
  readonly trustDatabase: boolean
  readonly rotateBytesMax?: number
}

export class LogMux {
  readonly #options: LogMuxOptions
  readonly #logs = new Map<string, AppLog>()
  /** Jobs whose output may still grow. */
  readonly #open = new Set<string>()
  readonly #listeners = new Set<(name: string) => void>()
  #seq = 0
  #lastMicros = 0

  constructor(options: LogMuxOptions) {
    this.#options = options
    mkdirSync(options.dir, { recursive: true, mode: 0o755 })
  }

  /** From here on the job's streams are open: followers wait for more. */
  opened(job: LogJob): void {
    this.#open.add(job.jobId)
  }

  /** All output of the job has been written: its followers end. */
  closed(job: LogJob): void {
    if (!this.#open.delete(job.jobId)) return
    this.#tell(logFileName(job.app))
  }

  /** Writes lines and remembers how far the job's output file has been consumed, in one commit. */
  write(job: LogJob, stream: LogStream, lines: readonly Uint8Array[], position?: number): void {
    const procId = procIdOf(job.processType, job.jobId)
    const frames = lines.map(line =>
      frameMessage(
        formatMessage({
          micros: this.#now(),
          seq: this.#nextSeq(),
          hostId: this.#options.hostId,
          app: job.app,
          procId,
          stream,
          line,
        }),
        '\n',
      ),
    )
    const positions: OutputPosition[] = position === undefined ? [] : [{ jobId: job.jobId, stream, position }]
    this.#log(logFileName(job.app)).append(frames, positions)
  }

  /** How far the output file of a stream had been taken over. */
  position(jobId: string, stream: LogStream): number {
    const row = this.#options.database.relaxed
      .prepare('SELECT position FROM log_positions WHERE job_id = ? AND stream = ?')
      .get(jobId, stream)
    return row === undefined ? 0 : Number(row['position'])
  }

  /** Remembers a position without a line: output that is not logged. */
  savePosition(jobId: string, stream: LogStream, position: number): void {
    this.#options.database.relaxed
      .prepare(
        `INSERT INTO log_positions (job_id, stream, position) VALUES (?, ?, ?)
         ON CONFLICT (job_id, stream) DO UPDATE SET position = excluded.position`,
      )
      .run(jobId, stream, position)
  }

  forgetPositions(jobId: string): void {
    this.#options.database.relaxed.prepare('DELETE FROM log_positions WHERE job_id = ?').run(jobId)
  }

  /**
   * Records of one job: with `history` everything on disk first, with `follow` also what comes, until the job's streams
   * are closed or the signal aborts.
   */
  async *stream(
    job: LogJob,
    options: {
      readonly history: boolean
      readonly follow: boolean
      readonly signal: AbortSignal
      /** Called when the place in the log is taken: everything written from now on will be seen. */
      readonly onOpen?: () => void
    },
  ): AsyncGenerator<LogRecord> {
    const name = logFileName(job.app)
    const bell = this.#bell(n => n === name, options.signal)
    const reader = await openLogReader({
      dir: this.#options.dir,
      log: this.#log(name),
      history: options.history,
    })
    options.onOpen?.()
    const mine = (procId: string) => procId === job.jobId || procId.endsWith(`.${job.jobId}`)
    try {
      while (!options.signal.aborted) {
        const open = options.follow && this.#open.has(job.jobId)
        bell.clear()
        for (let r = await reader.next(); r && !options.signal.aborted; r = await reader.next())
          if (mine(r.procId)) yield r
        if (!open) return
        await bell.rung()
      }
    } finally {
      bell.close()
      await reader.close()
    }
  }

  /** Every record of this host newer than the cursor, in order, for ever: what an aggregator wants. */
  async *all(cursor: LogCursor | undefined, signal: AbortSignal): AsyncGenerator<LogRecord> {
    const dirty = new Set<string>(logFiles(this.#options.dir).keys())
    for (const name of this.#logs.keys()) dirty.add(name)
    const bell = this.#bell(name => {
      dirty.add(name)
      return true
    }, signal)
    const readers = new Map<string, LogReader>()
    const heads = new Map<string, LogRecord>()
    const sinceMs = cursor === undefined ? 0 : Math.floor(cursor.micros / 1000)
    const refill = async (name: string): Promise<void> => {
      let reader = readers.get(name)
      if (!reader) {
        const log = this.#log(name)
        reader = await openLogReader({ dir: this.#options.dir, log, history: true, sinceMs })
        readers.set(name, reader)
      }
      let record = await reader.next()
      while (record && cursor && !isAfter(record, cursor)) record = await reader.next()
      if (record) heads.set(name, record)
    }
    try {
      while (!signal.aborted) {
        bell.clear()
        const names = [...dirty].filter(name => !heads.has(name))
        dirty.clear()
        for (const name of names) await refill(name)
        const first = [...heads].reduce<[string, LogRecord] | undefined>(
          (a, b) => (a && !isAfter(a[1], b[1]) ? a : b),
          undefined,
        )
        if (first) {
          heads.delete(first[0])
          dirty.add(first[0])
          yield first[1]
        } else await bell.rung()
      }
    } finally {
      bell.close()
      for (const reader of readers.values()) await reader.close()
    }
  }

  #log(name: string): AppLog {
    const known = this.#logs.get(name)
    if (known) return known
    const log = new AppLog({
      dir: this.#options.dir,
      name,
      database: this.#options.database,
      trustDatabase: this.#options.trustDatabase,
      ...(this.#options.rotateBytesMax === undefined ? {} : { rotateBytesMax: this.#options.rotateBytesMax }),
    })
    log.listen(() => this.#tell(name))
    this.#logs.set(name, log)
    return log
  }

  #tell(name: string): void {
    for (const listener of [...this.#listeners]) listener(name)
  }

  /** A condition to wait on: rings for logs that `wants` says yes to, and when the signal aborts. */
  #bell(wants: (name: string) => boolean, signal: AbortSignal) {
    let ringing = false
    let wake: (() => void) | undefined
    const ring = () => {
      ringing = true
      wake?.()
    }
    const listener = (name: string) => {
      if (wants(name)) ring()
    }
    this.#listeners.add(listener)
    signal.addEventListener('abort', ring, { once: true })
    return {
      clear: () => {
        ringing = signal.aborted
      },
      rung: () =>
        new Promise<void>(resolve => {
          wake = resolve
          if (ringing) resolve()
        }),
      close: () => {
        this.#listeners.delete(listener)
        signal.removeEventListener('abort', ring)
      },
    }
  }

  /** Microseconds that never repeat or go back, so that (time, seq) orders the records. */
  #now(): number {
    this.#lastMicros = Math.max(Date.now() * 1000, this.#lastMicros + 1)
    return this.#lastMicros
  }

  #nextSeq(): number {
    this.#seq = this.#seq === 0xffff_ffff ? 1 : this.#seq + 1
    return this.#seq
  }
}
