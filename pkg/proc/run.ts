// Child processes: argv arrays only, a deadline on every call, output bounded. Nothing here knows a shell.
import { spawn } from 'node:child_process'

export const runTimeoutMs = 30_000
/** Output kept of one call; a command that prints more is ended and reported. */
export const runOutputBytesMax = 16 * 1024 * 1024

export type RunOptions = {
  readonly input?: string | Uint8Array
  readonly timeoutMs?: number
  readonly signal?: AbortSignal
  readonly cwd?: string
  /** Added to the environment; PATH and LC_ALL=C are always set. */
  readonly env?: Readonly<Record<string, string>>
  /** Exit codes besides 0 that are not errors. */
  readonly accept?: readonly number[]
}

export type RunResult = {
  readonly code: number
  readonly stdout: string
  readonly stderr: string
  readonly stdoutBytes: Buffer
}

export class RunError extends Error {
  readonly argv: readonly string[]
  readonly code: number | undefined
  readonly signal: NodeJS.Signals | undefined
  readonly stderr: string
  readonly stdout: string
  constructor(
    argv: readonly string[],
    reason: string,
    result: Partial<RunResult> & { signal?: NodeJS.Signals | undefined; cause?: unknown },
  ) {
    const detail = (result.stderr || result.stdout || '').trim().split('\n').slice(-3).join(' | ')
    super(`${argv[0]} ${argv[1] ?? ''}: ${reason}${detail ? `: ${detail}` : ''}`, { cause: result.cause })
    this.name = 'RunError'
    this.argv = argv
    this.code = result.code
    this.signal = result.signal
    this.stderr = result.stderr ?? ''
    this.stdout = result.stdout ?? ''
  }
}

export const systemPath = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** Runs a program to its end. Rejects with RunError on a bad exit code, a signal, the deadline or too much output. */
export function run(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<RunResult> {
  const [file, ...args] = argv
  return new Promise((resolve, reject) => {
    const child = spawn(file, args, {
      stdio: [options.input === undefined ? 'ignore' : 'pipe', 'pipe', 'pipe'],
      cwd: options.cwd,
      env: { ...process.env, PATH: process.env['PATH'] ?? systemPath, LC_ALL: 'C', ...options.env },
    })
    const out: Buffer[] = []
    const err: Buffer[] = []
    let bytes = 0
    let stopped: string | undefined
    const stop = (reason: string) => {
      stopped ??= reason
      child.kill('SIGKILL')
    }
    const timeoutMs = options.timeoutMs ?? runTimeoutMs
    const timer = setTimeout(() => stop(`no end within ${timeoutMs} ms`), timeoutMs)
    const onAbort = () => stop('aborted')
    options.signal?.addEventListener('abort', onAbort, { once: true })
    if (options.signal?.aborted) onAbort()
    const collect = (into: Buffer[]) => (chunk: Buffer) => {
      bytes += chunk.length
      if (bytes > runOutputBytesMax) stop(`printed more than ${runOutputBytesMax} bytes`)
      else into.push(chunk)
    }
    child.stdout?.on('data', collect(out))
    child.stderr?.on('data', collect(err))
    const settle = () => {
      clearTimeout(timer)
      options.signal?.removeEventListener('abort', onAbort)
    }
    child.once('error', cause => {
      settle()
      reject(new RunError(argv, cause.message, { cause }))
    })
    child.once('close', (code, signal) => {
      settle()
      const stdoutBytes = Buffer.concat(out)
      const result = {
        code: code ?? -1,
        stdout: stdoutBytes.toString(),
        stderr: Buffer.concat(err).toString(),
        stdoutBytes,
      }
      if (stopped !== undefined) reject(new RunError(argv, stopped, result))
      else if (signal) reject(new RunError(argv, `ended by ${signal}`, { ...result, signal }))
      else if (code !== 0 && !options.accept?.includes(code ?? -1))
        reject(new RunError(argv, `exit code ${code}`, result))
      else resolve(result)
    })
    if (options.input !== undefined && child.stdin) {
      // A program may exit before it has read all its input; its exit code tells the story then, not EPIPE.
      child.stdin.on('error', () => undefined)
      child.stdin.end(options.input)
    }
  })
}

/** `run` for programs that print JSON. */
export async function runJson<T>(argv: readonly [string, ...string[]], options: RunOptions = {}): Promise<T> {
  const { stdout } = await run(argv, options)
  return (stdout.trim() === '' ? [] : JSON.parse(stdout)) as T
}
