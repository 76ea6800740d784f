// The containerd that this host owns: written configuration, adopted when it runs already, started when it does not,
// started again when it dies. It is in a session of its own and outlives us, as its containers outlive it.
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { mkdir, readdir, readFile, stat, truncate, writeFile } from 'node:fs/promises'
import { basename, dirname } from 'node:path'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import type { ContainerdClient } from '../../pkg/containerd/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { systemPath } from '../../pkg/proc/run.ts'
import type { HostPaths } from '../paths.ts'
import { engineErrors } from './errors.ts'
import { isRunning } from './process.ts'

export const startTimeoutMs = 30_000
const aliveIntervalMs = 250
const probeIntervalMs = 10_000
const probeTimeoutMs = 5_000
/** So many probes in a row without an answer, and a living containerd is taken to be hung. */
const hungProbesMax = 6
const logBytesMax = 16 * 1024 * 1024
const oomScore = '-999'

/** No CRI, no snapshotters: images and root file systems are ours, containerd only runs containers. */
export function containerdConfig(paths: HostPaths): string {
  const disabled = [
    'io.containerd.grpc.v1.cri',
    'io.containerd.snapshotter.v1.aufs',
    'io.containerd.snapshotter.v1.btrfs',
    'io.containerd.snapshotter.v1.devmapper',
    'io.containerd.snapshotter.v1.zfs',
    'io.containerd.internal.v1.opt',
    'io.containerd.internal.v1.tracing',
    'io.containerd.tracing.processor.v1.otlp',
  ]
  const text = (value: string) => JSON.stringify(value)
  return [
    'version = 2',
    `root = ${text(paths.containerdRootDir)}`,
    `state = ${text(paths.containerdStateDir)}`,
    `disabled_plugins = [${disabled.map(text).join(', ')}]`,
    '[grpc]',
    `  address = ${text(paths.containerdSocket)}`,
    '[ttrpc]',
    `  address = ${text(`${paths.containerdSocket}.ttrpc`)}`,
    // How much of its time may be collections. It looks for something to collect as often as that allows, needed or not: with
    // its own 0.02 and a collection of a millisecond that is 20 times a second.
    '[plugins."io.containerd.gc.v1.scheduler"]',
    '  pause_threshold = 0.001',
    '[debug]',
    '  level = "warn"',
    '',
  ].join('\n')
}

const programName = 'containerd'

/** The process that runs `containerd --config <our file>`, whoever started it. */
async function findProcess(configFile: string): Promise<number | undefined> {
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    // A process may end between the two reads.
    const argv = (await readFile(`/proc/${entry}/cmdline`, 'utf8').catch(() => '')).split('\0')
    if (basename(argv[0] ?? '') === programName && argv.includes(configFile)) return Number(entry)
  }
  return undefined
}

export class ContainerdDaemon {
  readonly #paths: HostPaths
  readonly #client: ContainerdClient
  readonly #log: Logger
  readonly #closed = new AbortController()
  #pid: number | undefined
  #child: ChildProcess | undefined
  #watching: Promise<void> | undefined

  constructor(paths: HostPaths, client: ContainerdClient, log: Logger) {
    this.#paths = paths
    this.#client = client
    this.#log = log
  }

  get pid(): number | undefined {
    return this.#pid
  }

  /** Resolves once containerd answers; from then on it is kept running until `close`. */
  async open(signal: AbortSignal): Promise<void> {
    const p = this.#paths
    for (const dir of [p.containerdRootDir, p.containerdStateDir, p.runcRootDir])
      await mkdir(dir, { recursive: true, mode: 0o711 })
    for (const file of [p.containerdSocket, p.containerdConfigFile, p.containerdLogFile])
      await mkdir(dirname(file), { recursive: true })
    await writeFile(p.containerdConfigFile, containerdConfig(p))
    await this.#ensure(AbortSignal.any([signal, this.#closed.signal]))
    this.#watching = this.#watch()
  }

  /** Stops watching; containerd runs on. */
  async close(): Promise<void> {
    this.#closed.abort()
    await this.#watching
  }

  async #answers(timeoutMs: number): Promise<boolean> {
    try {
      await this.#client.version(timeoutMs)
      return true
    } catch {
      // Whatever is wrong, it does not answer; the caller decides what that means.
      return false
    }
  }

  async #ensure(signal: AbortSignal): Promise<void> {
    const delays = backoff({ minMs: 100, maxMs: 5_000 })
    for (;;) {
      signal.throwIfAborted()
      const found = await findProcess(this.#paths.containerdConfigFile)
      this.#pid = found ?? (await this.#start())
      if (await this.#waitForAnswer(this.#pid, signal)) {
        if (found !== undefined) this.#log.info({ pid: found }, 'containerd adopted')
        return
      }
      if (isRunning(this.#pid, programName)) {
        this.#log.error({ pid: this.#pid }, 'containerd does not answer, ending it')
        process.kill(this.#pid, 'SIGKILL')
      }
      await sleep(delays.next(), signal)
    }
  }

  async #waitForAnswer(pid: number, signal: AbortSignal): Promise<boolean> {
    const end = Date.now() + startTimeoutMs
    while (Date.now() < end && isRunning(pid, programName)) {
      if (await this.#answers(probeTimeoutMs)) return true
      await sleep(20, signal)
    }
    return false
  }

  async #start(): Promise<number> {
    const log = openSync(this.#paths.containerdLogFile, 'a', 0o640)
    try {
      const child = spawn(programName, ['--config', this.#paths.containerdConfigFile], {
        // Its own session and only PATH: nothing of ours (terminal, NOTIFY_SOCKET) reaches it.
        detached: true,
        stdio: ['ignore', log, log],
        env: { PATH: process.env['PATH'] ?? systemPath },
        cwd: '/',
      })
      const { pid } = child
      if (pid === undefined) {
        const cause = await new Promise<Error>(resolve => child.once('error', resolve))
        throw engineErrors.RUNTIME_MISSING({ program: programName }, { cause })
      }
      child.once('error', e => this.#log.error({ err: e }, 'containerd child failed'))
      child.once('exit', (code, signal) => this.#log.warn({ pid, code, signal }, 'containerd ended'))
      child.unref()
      this.#child = child
      this.#log.info({ pid }, 'containerd started')
      // Fails where the daemon may not lower scores (no CAP_SYS_RESOURCE); containerd is then as any other process.
      await writeFile(`/proc/${pid}/oom_score_adj`, oomScore).catch(e =>
        this.#log.debug({ pid, err: e }, 'oom score of containerd not lowered'),
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
    let lastProbe = Date.now()
    let silent = 0
    while (!signal.aborted) {
      try {
        await sleep(aliveIntervalMs, signal)
        if (this.#isGone()) await this.#ensure(signal)
        if (Date.now() - lastProbe < probeIntervalMs) continue
        lastProbe = Date.now()
        await this.#limitLog()
        silent = (await this.#answers(probeTimeoutMs)) ? 0 : silent + 1
        if (silent < hungProbesMax || this.#pid === undefined) continue
        this.#log.error({ pid: this.#pid, silent }, 'containerd is hung, ending it')
        process.kill(this.#pid, 'SIGKILL')
        silent = 0
      } catch (e) {
        if (!signal.aborted) this.#log.error({ err: e }, 'watching containerd failed')
      }
    }
  }

  async #limitLog(): Promise<void> {
    const file = this.#paths.containerdLogFile
    const { size } = await stat(file).catch(() => ({ size: 0 }))
    // It is open for appending, so it goes on at the new end.
    if (size > logBytesMax) await truncate(file, 0)
  }
}
