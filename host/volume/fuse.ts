// The zfs-fuse daemon, where the kernel has no ZFS: adopted when it runs, started when it does not, started again when
// it dies. Containers' volumes hang on it, so it is in a session of its own and outlives us.
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { closeSync, openSync } from 'node:fs'
import { access, mkdir, readdir, readFile, readlink, writeFile } from 'node:fs/promises'
import { delimiter, dirname, join } from 'node:path'
import { backoff, poll, settlesWithin, sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { run, systemPath } from '../../pkg/proc/run.ts'
import { isRunning } from '../container/process.ts'
import type { HostPaths } from '../paths.ts'

export const startTimeoutMs = 30_000
const programName = 'zfs-fuse'
const answerTimeoutMs = 10_000
const endTimeoutMs = 10_000
const aliveIntervalMs = 500
/**
 * Memory for cached blocks, the least there can be: the page cache above it holds the same files again. 64 took 50 MB more
 * at rest and made neither writes nor reads faster. Most of what remains is a table as large as 1/384 of the machine's memory.
 */
const arcMegabytes = 16
/** The pool is a file: the kernel has read ahead already. */
const vdevCacheMegabytes = 0
/** zfs-fuse makes neither of these itself: its socket and its lock. */
const runtimeDirs = ['/run/zfs', '/run/lock']

export type ZfsFuseOptions = {
  readonly paths: Pick<HostPaths, 'zfsFuseLogFile' | 'zfsFusePidFile'>
  readonly log: Logger
  /** After it died and answers again: its mounts are dead and want to be made anew. */
  readonly onRestart: () => Promise<void>
}

/** True where the `zfs` command is that of zfs-fuse: its packages and OpenZFS's exclude each other. */
export async function usesZfsFuse(): Promise<boolean> {
  const dirs = (process.env['PATH'] ?? systemPath).split(delimiter)
  return Promise.any(dirs.map(dir => access(join(dir, programName)))).then(
    () => true,
    () => false,
  )
}

async function answers(): Promise<boolean> {
  const result = run(['zpool', 'list', '-H', '-o', 'name'], { timeoutMs: answerTimeoutMs })
  return result.then(
    () => true,
    () => false,
  )
}

/** The zfs-fuse of our mount namespace: each namespace may have one. */
async function findProcess(): Promise<number | undefined> {
  const own = await readlink('/proc/self/ns/mnt')
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    // A process may end between these reads.
    if ((await readFile(`/proc/${entry}/comm`, 'utf8').catch(() => '')).trim() !== programName) continue
    if ((await readlink(`/proc/${entry}/ns/mnt`).catch(() => '')) === own) return Number(entry)
  }
  return undefined
}

export class ZfsFuse {
  readonly #options: ZfsFuseOptions
  readonly #closed = new AbortController()
  #pid: number | undefined
  #child: ChildProcess | undefined
  #watching: Promise<void> | undefined

  constructor(options: ZfsFuseOptions) {
    this.#options = options
  }

  get pid(): number | undefined {
    return this.#pid
  }

  /** Resolves once it answers; from then on it is kept running until `close`. */
  async open(signal: AbortSignal): Promise<void> {
    await this.#ensure(signal)
    this.#watching = this.#watch()
  }

  /** Stops watching; zfs-fuse runs on. */
  async close(): Promise<void> {
    this.#closed.abort()
    await this.#watching
  }

  /** Ends what `open` started; one that ran before runs on. */
  async end(): Promise<void> {
    await this.close()
    const child = this.#child
    if (child === undefined || this.#isGone()) return
    const ended = once(child, 'exit')
    child.kill('SIGTERM')
    await settlesWithin(ended, endTimeoutMs)
  }

  async #ensure(signal: AbortSignal): Promise<void> {
    const delays = backoff({ minMs: 100, maxMs: 5_000 })
    for (;;) {
      signal.throwIfAborted()
      const found = await findProcess()
      this.#pid = found ?? (await this.#start())
      const pid = this.#pid
      const timeoutMs = startTimeoutMs
      const what = 'zfs-fuse to answer'
      try {
        const up = await poll(
          async () => ((await answers()) ? 'up' : isRunning(pid, programName) ? undefined : 'ended'),
          {
            timeoutMs,
            what,
            signal,
          },
        )
        if (up === 'up') return
      } catch (e) {
        signal.throwIfAborted()
        // It lives and says nothing. Killing it would take every volume with it: that is for a person to decide.
        this.#options.log.error({ pid, err: e }, 'zfs-fuse does not answer')
      }
      await sleep(delays.next(), signal)
    }
  }

  async #start(): Promise<number> {
    const { zfsFuseLogFile, zfsFusePidFile } = this.#options.paths
    for (const dir of [...runtimeDirs, dirname(zfsFuseLogFile), dirname(zfsFusePidFile)])
      await mkdir(dir, { recursive: true })
    const log = openSync(zfsFuseLogFile, 'a', 0o640)
    try {
      const argv = ['--no-daemon', '--no-kstat-mount']
      const caches = [`--max-arc-size=${arcMegabytes}`, `--vdev-cache-size=${vdevCacheMegabytes}`]
      const child = spawn(programName, [...argv, ...caches, '--pidfile', zfsFusePidFile], {
        detached: true,
        stdio: ['ignore', log, log],
        env: { PATH: process.env['PATH'] ?? systemPath },
        cwd: '/',
      })
      await new Promise<void>((resolve, reject) => {
        child.once('spawn', resolve)
        child.once('error', reject)
      })
      const pid = child.pid ?? 0
      child.once('exit', (code, signal) => this.#options.log.error({ pid, code, signal }, 'zfs-fuse ended'))
      child.unref()
      this.#child = child
      this.#options.log.info({ pid }, 'zfs-fuse started')
      // Fails without CAP_SYS_RESOURCE; it is then as any other process when memory runs out.
      await writeFile(`/proc/${pid}/oom_score_adj`, '-1000').catch(e =>
        this.#options.log.debug({ pid, err: e }, 'oom score of zfs-fuse not lowered'),
      )
      return pid
    } finally {
      closeSync(log)
    }
  }

  #isGone(): boolean {
    const child = this.#child
    if (child !== undefined && child.pid === this.#pid)
      return child.exitCode !== null || child.signalCode !== null
    return this.#pid === undefined || !isRunning(this.#pid, programName)
  }

  async #watch(): Promise<void> {
    const signal = this.#closed.signal
    while (!signal.aborted) {
      try {
        await sleep(aliveIntervalMs, signal)
        if (!this.#isGone()) continue
        await this.#ensure(signal)
        await this.#options.onRestart()
      } catch (e) {
        if (!signal.aborted) this.#options.log.error({ err: e }, 'watching zfs-fuse failed')
      }
    }
  }
}
