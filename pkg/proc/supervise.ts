// Keeps one child process running: started again with back-off when it ends, stopped gracefully then by force.
import { type ChildProcess, type StdioOptions, spawn } from 'node:child_process'
import { backoff } from '../clock/clock.ts'
import type { Logger } from '../log/log.ts'
import { withTimerSlack } from './timer-slack.ts'

export const restartMinMs = 100
export const restartMaxMs = 5_000
/** A child that ran this long is taken to be well: its back-off begins anew. */
export const healthyAfterMs = 10_000
export const stopGraceMs = 10_000

export type SuperviseOptions = {
  readonly name: string
  readonly argv: readonly [string, ...string[]]
  readonly env?: Readonly<Record<string, string>>
  readonly cwd?: string
  readonly stdio?: StdioOptions
  readonly log: Logger
  /** In a process group of its own, so that it outlives this process (containerd must). */
  readonly detached?: boolean
  /** How late its timers may be, nanoseconds; the kernel's 50 µs when absent. */
  readonly timerSlackNs?: number
  readonly onStart?: (pid: number) => void
  readonly onExit?: (code: number | null, signal: NodeJS.Signals | null) => void
}

export type Supervised = {
  readonly pid: number | undefined
  /** Ends the child (SIGTERM, then SIGKILL after the grace) and does not start it again. Safe to call twice. */
  stop(graceMs?: number): Promise<void>
  kill(signal: NodeJS.Signals): void
}

export function supervise(options: SuperviseOptions): Supervised {
  const delays = backoff({ minMs: restartMinMs, maxMs: restartMaxMs })
  let child: ChildProcess | undefined
  let timer: NodeJS.Timeout | undefined
  let stopping = false
  const start = () => {
    const [file, ...args] = options.argv
    const startedAt = performance.now()
    let ended = false
    child = withTimerSlack(options.timerSlackNs, () =>
      spawn(file, args, {
        stdio: options.stdio ?? ['ignore', 'inherit', 'inherit'],
        env: { ...process.env, ...options.env },
        cwd: options.cwd,
        detached: options.detached ?? false,
      }),
    )
    const over = (code: number | null, signal: NodeJS.Signals | null, cause?: Error) => {
      if (ended) return
      ended = true
      child = undefined
      options.onExit?.(code, signal)
      if (stopping) return
      if (performance.now() - startedAt > healthyAfterMs) delays.reset()
      const delayMs = delays.next()
      options.log.warn(
        { name: options.name, code, signal, delayMs, err: cause },
        'child ended, starting again',
      )
      timer = setTimeout(start, delayMs)
    }
    child.once('error', e => over(null, null, e))
    child.once('exit', (code, signal) => over(code, signal))
    if (child.pid !== undefined) {
      options.log.info({ name: options.name, pid: child.pid }, 'child started')
      options.onStart?.(child.pid)
    }
  }
  start()
  return {
    get pid() {
      return child?.pid
    },
    kill: signal => {
      child?.kill(signal)
    },
    async stop(graceMs = stopGraceMs) {
      stopping = true
      clearTimeout(timer)
      const running = child
      if (!running || running.exitCode !== null || running.signalCode !== null) return
      const exited = new Promise<void>(resolve => running.once('exit', () => resolve()))
      running.kill('SIGTERM')
      const force = setTimeout(() => running.kill('SIGKILL'), graceMs)
      await exited
      clearTimeout(force)
    },
  }
}
