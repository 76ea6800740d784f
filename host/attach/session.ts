// One attachment to one job, from the request to the last frame (contract host.md 2.5, server state machine). Knows
// frames, not sockets' upgrades; attach/server.ts does those.
import { constants, openSync } from 'node:fs'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { Logger } from '../../pkg/log/log.ts'
import type { ContainerRuntime } from '../container/types.ts'
import type { JobRunner, Waiter } from '../job/runner.ts'
import { isLogged, logJobOf } from '../job/starter.ts'
import type { JobTable } from '../job/table.ts'
import type { LogMux } from '../log/mux.ts'
import type { LogStream } from '../log/record.core.ts'
import { type ActiveJob, type AttachRequest, attachFlags, isActive, jobStatus, zeroTime } from '../types.ts'
import { type AttachFrame, type AttachStream, encodeFrame, frameDecoder } from './frames.core.ts'

/** An attacher that stops reading holds up its job's output; above this many unsent bytes the job is held. */
export const attachBufferBytesMax = 1024 * 1024

export type AttachContext = {
  readonly table: JobTable
  readonly runner: JobRunner
  readonly mux: LogMux
  readonly runtime: ContainerRuntime
  readonly log: Logger
  /** Jobs without a log take one attachment at a time. */
  readonly attached: Set<string>
}

const frameStreams: Readonly<Record<LogStream, AttachStream>> = {
  stdout: 'stdout',
  stderr: 'stderr',
  init: 'initLog',
}
const end = new Uint8Array(0)
const newline = new Uint8Array([10])
const endOfTransmission = new Uint8Array([4])
/** Frames a client may send before the job is there. */
const earlyFramesMax = 1_000

type Wants = Readonly<Record<keyof typeof attachFlags, boolean>>

function wantsOf(flags: number): Wants {
  const has = (name: keyof typeof attachFlags) => (flags & attachFlags[name]) !== 0
  return {
    stdout: has('stdout'),
    stderr: has('stderr'),
    stdin: has('stdin'),
    logs: has('logs'),
    stream: has('stream'),
    initLog: has('initLog'),
  }
}

/** Serves one attachment until either side ends it. Never rejects. */
export async function serveAttach(
  context: AttachContext,
  socket: Duplex,
  head: Buffer,
  request: AttachRequest,
): Promise<void> {
  const gone = new AbortController()
  socket.on('error', () => undefined)
  socket.once('close', () => gone.abort())
  // Input ends with an empty frame, so a closed direction means that the client is gone.
  socket.once('end', () => gone.abort())
  const session = new Session(context, socket, request, gone.signal)
  try {
    session.read(head)
    await session.serve()
  } catch (err) {
    if (!gone.signal.aborted) {
      context.log.warn({ job: request.job_id, err }, 'attachment failed')
      session.send({ type: 'error', message: err instanceof Error ? err.message : String(err) })
    }
  } finally {
    socket.end()
  }
}

class Session {
  readonly #c: AttachContext
  readonly #socket: Duplex
  readonly #id: string
  readonly #wants: Wants
  readonly #size: { readonly rows: number; readonly columns: number } | undefined
  readonly #gone: AbortSignal
  /** Where the client's frames go once the job is there; until then they are kept. */
  #input: ((frame: AttachFrame) => void) | undefined
  #early: AttachFrame[] = []

  constructor(context: AttachContext, socket: Duplex, request: AttachRequest, gone: AbortSignal) {
    this.#c = context
    this.#socket = socket
    this.#id = request.job_id
    this.#wants = wantsOf(request.flags ?? 0)
    this.#gone = gone
    const { height: rows = 0, width: columns = 0 } = request
    this.#size = rows > 0 && columns > 0 ? { rows, columns } : undefined
  }

  send(frame: AttachFrame): boolean {
    return this.#socket.writable ? this.#socket.write(encodeFrame(frame)) : true
  }

  /** Takes what the client sends: input, signals, sizes. Frames that make no sense end the connection. */
  read(head: Buffer): void {
    const decoder = frameDecoder()
    const take = (chunk: Uint8Array) => {
      try {
        for (const frame of decoder.push(chunk)) {
          if (this.#input) this.#input(frame)
          else this.#early.push(frame)
        }
        if (this.#early.length > earlyFramesMax)
          throw new Error('attach: too much input before the job is there')
      } catch (err) {
        this.#c.log.warn({ job: this.#id, err }, 'attachment ended')
        this.#socket.destroy()
      }
    }
    take(head)
    this.#socket.on('data', take)
    // It was held while nobody read.
    this.#socket.resume()
  }

  async serve(): Promise<void> {
    const known = this.#c.table.get(this.#id)
    // Known but without a container yet is as good as unknown: the container comes, or the job fails.
    if (!known || (isActive(known) && !this.#c.runner.output(this.#id))) return this.#serveComing()
    if (!isActive(known)) return this.#serveDown(known)
    const error = this.#refusal(known)
    if (error) return void this.send({ type: 'error', message: error })
    await this.#serveLive(known, () => this.send({ type: 'success' }))
  }

  #fail(job: ActiveJob): void {
    this.send({ type: 'error', message: job.error ?? 'host: job failed' })
  }

  #refusal(job: ActiveJob): string | undefined {
    const exclusive = job.job.config.disable_log && !job.job.config.tty
    return exclusive && this.#c.attached.has(this.#id) ? 'host: job is attached' : undefined
  }

  /** Waits for the job; the container starts once this attachment is connected. */
  async #serveComing(): Promise<void> {
    this.send({ type: 'waiting' })
    let live: Promise<void> | undefined
    const { promise: settled, resolve: settle } = Promise.withResolvers<void>()
    const waiter: Waiter = {
      size: this.#size,
      ready: async () => {
        const job = this.#c.table.get(this.#id)
        const error = job ? this.#refusal(job) : undefined
        if (!job || error) {
          this.send({ type: 'error', message: error ?? 'host: unknown job' })
          return settle()
        }
        const { promise: connected, resolve: connect } = Promise.withResolvers<void>()
        live = this.#serveLive(job, () => {
          this.send({ type: 'success' })
          connect()
        })
        live.catch(() => undefined).finally(connect)
        await connected
        settle()
      },
      down: settle,
    }
    const leave = this.#c.runner.await(this.#id, waiter)
    const onGone = () => settle()
    this.#gone.addEventListener('abort', onGone, { once: true })
    await settled
    leave()
    this.#gone.removeEventListener('abort', onGone)
    if (live) return live
    const job = this.#c.table.get(this.#id)
    if (this.#gone.aborted || !job || isActive(job)) return
    return this.#serveDown(job)
  }

  async #serveDown(job: ActiveJob): Promise<void> {
    const { tty, disable_log } = job.job.config
    // One that failed after it had run (its host went away) still has its words to be read.
    const ran = job.started_at !== zeroTime && isLogged(job.job)
    if (job.status === jobStatus.failed && !(ran && this.#wants.logs)) return this.#fail(job)
    if (tty || this.#wants.stdin) return void this.send({ type: 'error', message: 'host: job not running' })
    this.send({ type: 'success' })
    if (!disable_log) await this.#sendLog(job, () => undefined)
    await this.#conclude(job)
  }

  async #serveLive(job: ActiveJob, connected: () => void): Promise<void> {
    const { tty, disable_log } = job.job.config
    const output = this.#c.runner.output(this.#id)
    if (!output) return
    this.#takeInput(job)
    if (isLogged(job.job)) {
      await this.#sendLog(job, connected)
      return this.#conclude(job)
    }
    if (disable_log) this.#c.attached.add(this.#id)
    const onDrain = () => output.resume()
    this.#socket.on('drain', onDrain)
    connected()
    if (tty && this.#size && this.#wants.stdout) await this.#resize(this.#size.rows, this.#size.columns)
    const unlisten = output.listen((stream, data) => {
      if (!this.#wants[stream]) return
      this.send({ type: 'data', stream, data })
      if (this.#socket.writableLength > attachBufferBytesMax) output.pause()
    })
    try {
      await Promise.race([this.#c.runner.over(this.#id), aborted(this.#gone)])
      if (this.#gone.aborted && tty) await this.#stopQuietly()
    } finally {
      unlisten()
      this.#socket.off('drain', onDrain)
      output.resume()
      this.#c.attached.delete(this.#id)
    }
    await this.#conclude(job)
  }

  /** Records of the job as data frames; `connected` is called when nothing that comes later can be missed. */
  async #sendLog(job: ActiveJob, connected: () => void): Promise<void> {
    const { logs, stream } = this.#wants
    const records = this.#c.mux.stream(logJobOf(job.job), {
      history: logs,
      follow: stream || !logs,
      signal: this.#gone,
      onOpen: connected,
    })
    for await (const { stream: from, line } of records) {
      if (!this.#wants[from === 'init' ? 'initLog' : from]) continue
      const data = new Uint8Array(line.length + 1)
      data.set(line)
      data.set(newline, line.length)
      if (this.send({ type: 'data', stream: frameStreams[from], data })) continue
      await Promise.race([drained(this.#socket), aborted(this.#gone)])
    }
  }

  /** The last frames: exit or error for those who wait for the end, else the ends of the streams. */
  async #conclude(job: ActiveJob): Promise<void> {
    if (this.#gone.aborted) return
    if (job.job.config.tty || this.#wants.stream) {
      await Promise.race([this.#c.runner.over(this.#id), aborted(this.#gone)])
      const last = this.#c.table.get(this.#id)
      if (!last || isActive(last)) return
      if (last.status === jobStatus.failed) return this.#fail(last)
      return void this.send({ type: 'exit', status: last.exit_status ?? 0 })
    }
    if (this.#wants.stdout) this.send({ type: 'data', stream: 'stdout', data: end })
    if (this.#wants.stderr) this.send({ type: 'data', stream: 'stderr', data: end })
  }

  /** From here on frames reach the job; those that came early are first. */
  #takeInput(job: ActiveJob): void {
    const stdin = this.#wants.stdin ? this.#openStdin() : undefined
    const tty = job.job.config.tty ?? false
    this.#input = frame => this.#take(frame, stdin, tty)
    for (const frame of this.#early.splice(0)) this.#input(frame)
    this.#gone.addEventListener('abort', () => this.#endStdin(stdin, tty), { once: true })
  }

  #openStdin(): Socket | undefined {
    const { stdin: path } = this.#c.runtime.stdio(this.#id)
    if (path === undefined) return undefined
    const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK)
    const pipe = new Socket({ fd, readable: false, writable: true })
    // The job may close its stdin or end at any time.
    pipe.on('error', () => undefined)
    return pipe
  }

  #take(frame: AttachFrame, stdin: Socket | undefined, tty: boolean): void {
    switch (frame.type) {
      case 'data':
        if (frame.stream !== 'stdin') throw new Error('attach: data for an output stream')
        if (frame.data.length === 0) this.#endStdin(stdin, tty)
        else if (stdin?.writable && !stdin.write(frame.data)) {
          this.#socket.pause()
          stdin.once('drain', () => this.#socket.resume())
        }
        return
      case 'signal':
        this.#c.runner
          .signal(this.#id, frame.signal)
          .catch((err: unknown) => this.#c.log.info({ job: this.#id, err }, 'signal was not delivered'))
        return
      case 'resize':
        if (!tty) throw new Error('attach: resize without a tty')
        void this.#resize(frame.rows, frame.columns)
        return
      default:
        throw new Error(`attach: a client may not send ${frame.type}`)
    }
  }

  #endStdin(stdin: Socket | undefined, tty: boolean): void {
    if (!stdin || stdin.destroyed || stdin.writableEnded) return
    if (tty) {
      // A terminal's input has no end of its own: people type ^D.
      if (!this.#gone.aborted) stdin.write(endOfTransmission)
      else stdin.destroy()
      return
    }
    stdin.end(() => {
      this.#c.runtime
        .closeStdin(this.#id)
        .catch((err: unknown) => this.#c.log.info({ job: this.#id, err }, 'stdin was not closed'))
    })
  }

  async #resize(rows: number, columns: number): Promise<void> {
    try {
      await this.#c.runtime.resize(this.#id, rows, columns)
    } catch (err) {
      this.#c.log.info({ job: this.#id, err }, 'resize failed')
    }
  }

  /** The terminal is gone, so is its job (contract host.md 2.5, no. 6). */
  async #stopQuietly(): Promise<void> {
    await this.#c.runner.stop(this.#id).catch((err: unknown) => {
      this.#c.log.info({ job: this.#id, err }, 'job of a closed terminal was not stopped')
    })
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
}

function drained(socket: Duplex): Promise<void> {
  return new Promise(resolve => socket.once('drain', () => resolve()))
}
