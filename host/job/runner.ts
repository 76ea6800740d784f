// Carries jobs through their lives: start, take-over after a restart, stop, exit, clean-up. Every state goes through
// the table; every container that exists is waited for; everything a down job held is given back, however long it takes.
import { backoff, settlesWithin, sleep } from '../../pkg/clock/clock.ts'
import { describeError, isFlynnError } from '../../pkg/errors/errors.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { hostErrors } from '../errors.ts'
import type { Services } from '../health/services.ts'
import type { LogMux } from '../log/mux.ts'
import { type JobOutput, openJobOutput } from '../log/output.ts'
import { type ActiveJob, isActive, type Job, jobStatus, statusName } from '../types.ts'
import { type Gate, gate } from './gate.ts'
import type { JobChange } from './job.core.ts'
import {
  isLogged,
  logJobOf,
  refuseFenced,
  releaseJob,
  type StartContext,
  startJob,
  type TerminalSize,
} from './starter.ts'
import type { JobTable } from './table.ts'

/** From SIGTERM to SIGKILL on a stop (contract host.md 3.6). */
export const stopGraceMs = 30_000
/** How long a stop waits for the end after SIGKILL. */
export const killWaitMs = 5_000
/** Deregistration must not hold up a stop: after this the TTL does it. */
export const deregisterWaitMs = 2_000
/** How long a start waits for attachments that were there first. */
export const attachWaitMs = 5_000
const releaseRetryMinMs = 500
const releaseRetryMaxMs = 30_000

const sigterm = 15
const sigkill = 9

/** Somebody who asked to be let in before the job's first byte of output. */
export type Waiter = {
  readonly size: TerminalSize | undefined
  /** The container is there; the job starts once this resolves. */
  readonly ready: () => Promise<void>
  /** It ended, or failed to start, before that. */
  readonly down: () => void
}

type Run = {
  readonly startAbort: AbortController
  output: JobOutput | undefined
  /** Resolves when the start attempt is over, however it went. */
  started: Promise<void>
  /** Somebody asked for its end. */
  stopping: boolean
  /** It is down, its output is being read to the end. */
  ending: boolean
  /** Resolves when the job is down and cleaned. */
  readonly over: Promise<void>
  readonly finish: () => void
}

export type RunnerOptions = {
  readonly start: StartContext
  readonly table: JobTable
  readonly mux: LogMux
  readonly services: () => Services
  readonly concurrencyMax: number
  readonly log: Logger
}

export class JobRunner {
  readonly #options: RunnerOptions
  readonly #runs = new Map<string, Run>()
  readonly #waiters = new Map<string, Set<Waiter>>()
  readonly #closed = new AbortController()
  readonly #gate: Gate

  constructor(options: RunnerOptions) {
    this.#options = options
    this.#gate = gate(options.concurrencyMax)
    options.start.engines.runtime.onOom(id => this.#noteOom(id))
  }

  /** Accepts a job from outside: stored when this returns, starting in the background (contract host.md 2.2). */
  add(job: Job): void {
    const { table, start } = this.#options
    if (this.#closed.signal.aborted) throw hostErrors.SHUTTING_DOWN()
    if (table.get(job.id)) throw hostErrors.JOB_EXISTS()
    for (const { volume } of job.config.volumes ?? []) {
      refuseFenced(start.fence(volume), volume)
      const bound = table.boundTo(volume)
      if (bound) throw hostErrors.VOLUME_BOUND({ volume, job: bound.job.id })
    }
    if (!this.#gate.tryEnter()) throw hostErrors.GATE_FULL()
    try {
      table.add(job)
    } catch (e) {
      this.#gate.leave()
      throw e
    }
    this.#begin(job.id, true)
  }

  /** Starts a job that is in the table already; resolves when the attempt is over. */
  start(id: string): Promise<void> {
    return this.#begin(id, false).started
  }

  /** Takes over a container that a former daemon started. */
  async adopt(id: string, pid: number): Promise<void> {
    const { table, start } = this.#options
    const { runtime, layers, network } = start.engines
    const active = table.get(id)
    if (!active) return
    const run = this.#newRun(id)
    if (active.internal_ip !== undefined) {
      network.reserve(id, active.internal_ip)
      if (active.job.partition === 'system') await network.allowSystem(active.internal_ip, true)
    }
    await layers.adopt(
      id,
      (active.job.mountspecs ?? []).map(m => m.id),
    )
    run.output = this.#openOutput(active.job)
    const now = table.change(id, { type: 'started', at: new Date(), pid })
    this.#options.services().start(now, { resumed: true })
    void this.#watch(id, run, runtime.wait(id, this.#closed.signal))
  }

  /** A container is gone for good: its last output is taken over, what it held is given back. */
  async lost(id: string, error: string): Promise<void> {
    const active = this.#options.table.get(id)
    if (!active) return
    const run = this.#newRun(id)
    this.#tryOpenOutput(active.job, run)
    await this.#end(id, run, { type: 'failed', at: new Date(), error })
  }

  /** The clean-up of a down job that a former daemon did not finish. */
  async clean(id: string): Promise<void> {
    const active = this.#options.table.get(id)
    if (!active || isActive(active) || this.#runs.has(id)) return
    const run = this.#newRun(id)
    this.#tryOpenOutput(active.job, run)
    await this.#cleanUp(id, run)
  }

  /**
   * Ends a job: out of discoverd, SIGTERM, SIGKILL after the grace. Resolves when it is down and cleaned, or shortly
   * after SIGKILL. Rejects UNKNOWN_JOB or JOB_NOT_ACTIVE.
   */
  async stop(id: string): Promise<void> {
    const { table, start, log } = this.#options
    const active = this.#requireActive(id)
    const run = this.#runs.get(id)
    if (run) run.stopping = true
    if ((active.status ?? 0) === jobStatus.starting) {
      table.change(id, { type: 'stopRequested' })
      run?.startAbort.abort(hostErrors.STOPPED_EARLY())
      await run?.started
    }
    const now = table.get(id)
    if (!run || !now || !isActive(now)) return run?.over
    await this.#deregisterSoon(id)
    await start.engines.runtime.signal(id, sigterm)
    if (await settlesWithin(run.over, stopGraceMs)) return
    log.warn({ job: id, graceMs: stopGraceMs }, 'job did not end in time, killing it')
    await start.engines.runtime.signal(id, sigkill)
    await settlesWithin(run.over, killWaitMs)
  }

  /** Sends a signal to the job's main process. Rejects UNKNOWN_JOB or JOB_NOT_ACTIVE. */
  async signal(id: string, signal: number): Promise<void> {
    this.#requireActive(id)
    await this.#options.start.engines.runtime.signal(id, signal)
  }

  async deregister(id: string): Promise<void> {
    this.#requireActive(id)
    await this.#options.services().deregister(id)
  }

  /** Kills a job that its health check gave up on. */
  kill(id: string, reason: string): void {
    this.note(id, `killed by its health check, ${reason}`)
    this.#options.start.engines.runtime
      .signal(id, sigkill)
      .catch((err: unknown) => this.#options.log.warn({ job: id, err }, 'health check kill failed'))
  }

  /** A line of the host on the job's init stream. */
  note(id: string, message: string, level: 'info' | 'crit' = 'info'): void {
    const active = this.#options.table.get(id)
    if (!active || !isLogged(active.job)) return
    const time = new Date().toISOString()
    const line = `t=${time} lvl=${level} msg=${JSON.stringify(message)} component=flynn-host job.id=${id}`
    this.#options.mux.write(logJobOf(active.job), 'init', [new TextEncoder().encode(line)])
  }

  /** True while this daemon is at work on the job. */
  isRunning(id: string): boolean {
    return this.#runs.has(id)
  }

  /** True from a `stop` until the job is cleaned. */
  isStopping(id: string): boolean {
    return this.#runs.get(id)?.stopping === true
  }

  /** Output of a job whose container exists. */
  output(id: string): JobOutput | undefined {
    return this.#runs.get(id)?.output
  }

  /** Resolves when the job is down and cleaned; at once for one that is not running here. */
  over(id: string): Promise<void> {
    return this.#runs.get(id)?.over ?? Promise.resolve()
  }

  /** Puts somebody in front of the job's start. Returns the function that takes them away. */
  await(id: string, waiter: Waiter): () => void {
    const set = this.#waiters.get(id) ?? new Set()
    this.#waiters.set(id, set.add(waiter))
    return () => {
      set.delete(waiter)
      if (set.size === 0 && this.#waiters.get(id) === set) this.#waiters.delete(id)
    }
  }

  /** The daemon ends: jobs live on, their output is left for the next daemon. */
  async close(): Promise<void> {
    if (this.#closed.signal.aborted) return
    this.#closed.abort(hostErrors.SHUTTING_DOWN())
    const runs = [...this.#runs.values()]
    const busy = runs.map(run => (run.ending ? run.over : run.started))
    await settlesWithin(Promise.allSettled(busy), killWaitMs)
    for (const run of runs) run.output?.close()
  }

  #requireActive(id: string): ActiveJob {
    const active = this.#options.table.get(id)
    const detail = { reason: 'job_not_active' }
    if (!active) throw hostErrors.JOB_NOT_ACTIVE({ id, state: 'unknown' }, { detail })
    if (!isActive(active)) throw hostErrors.JOB_NOT_ACTIVE({ id, state: statusName(active) }, { detail })
    return active
  }

  #newRun(id: string): Run {
    const { promise, resolve } = Promise.withResolvers<void>()
    const run: Run = {
      startAbort: new AbortController(),
      output: undefined,
      started: Promise.resolve(),
      stopping: false,
      ending: false,
      over: promise,
      finish: resolve,
    }
    this.#runs.set(id, run)
    return run
  }

  #openOutput(job: Job): JobOutput {
    const { mux, log, start } = this.#options
    const stdio = start.engines.runtime.stdio(job.id)
    return openJobOutput({ job: logJobOf(job), stdio, logged: isLogged(job), mux, log })
  }

  /** For jobs of which nothing may be left: no files is no output. */
  #tryOpenOutput(job: Job, run: Run): void {
    try {
      run.output = this.#openOutput(job)
    } catch (err) {
      this.#options.log.debug({ job: job.id, err }, 'no output left')
    }
  }

  #begin(id: string, entered: boolean): Run {
    const run = this.#newRun(id)
    run.started = this.#attempt(id, run, entered)
    return run
  }

  async #attempt(id: string, run: Run, entered: boolean): Promise<void> {
    const { table, start, log } = this.#options
    const signal = AbortSignal.any([run.startAbort.signal, this.#closed.signal])
    let inside = entered
    const leave = () => {
      if (inside) this.#gate.leave()
      inside = false
    }
    const enter = async () => {
      if (!inside) await this.#gate.enter(signal)
      inside = true
    }
    try {
      await enter()
      const active = table.get(id)
      if (!active) return
      if (active.force_stop) throw hostErrors.STOPPED_EARLY()
      const hooks = {
        waiting: async <T>(work: () => Promise<T>): Promise<T> => {
          leave()
          const result = await work()
          await enter()
          return result
        },
        addressed: (address: string) => void table.change(id, { type: 'addressed', address }),
        size: () => [...(this.#waiters.get(id) ?? [])].find(w => w.size)?.size,
        created: async () => {
          run.output = this.#openOutput(active.job)
          await this.#letIn(id)
        },
      }
      const pid = await startJob(start, active, hooks, signal)
      const now = table.change(id, { type: 'started', at: new Date(), pid })
      this.#options.services().start(now, { resumed: false })
      void this.#watch(id, run, start.engines.runtime.wait(id, this.#closed.signal))
    } catch (e) {
      // The next daemon starts it again.
      if (this.#closed.signal.aborted) return
      const at = new Date()
      const stopped = run.startAbort.signal.aborted || table.get(id)?.force_stop === true
      if (!stopped) log.warn({ job: id, reason: describeError(e) }, 'job failed to start')
      const change: JobChange = stopped
        ? { type: 'neverStarted', at }
        : { type: 'failed', at, error: describeError(e) }
      await this.#end(id, run, change)
    } finally {
      leave()
    }
  }

  async #letIn(id: string): Promise<void> {
    const waiters = [...(this.#waiters.get(id) ?? [])]
    const ready = Promise.allSettled(waiters.map(w => w.ready()))
    if (!(await settlesWithin(ready, attachWaitMs)))
      this.#options.log.warn({ job: id }, 'an attachment is too slow, starting without it')
  }

  async #watch(
    id: string,
    run: Run,
    exited: ReturnType<StartContext['engines']['runtime']['wait']>,
  ): Promise<void> {
    try {
      const exit = await exited
      await this.#end(id, run, {
        type: 'exited',
        at: exit.at,
        status: exit.status,
        oomKilled: exit.oomKilled,
      })
    } catch (e) {
      if (this.#closed.signal.aborted) return
      if (!isFlynnError(e, 'container_lost'))
        this.#options.log.error({ job: id, err: e }, 'lost sight of a job')
      await this.#end(id, run, { type: 'failed', at: new Date(), error: describeError(e) })
    }
  }

  async #end(id: string, run: Run, change: JobChange): Promise<void> {
    this.#options.table.change(id, change)
    for (const waiter of this.#waiters.get(id) ?? []) waiter.down()
    await this.#cleanUp(id, run)
  }

  /** Gives everything back, trying until it works; the job is not cleaned before. */
  async #cleanUp(id: string, run: Run): Promise<void> {
    const { table, start, log } = this.#options
    const job = table.get(id)
    if (!job) return
    run.ending = true
    const deregistered = this.#options.services().ended(id)
    const delays = backoff({ minMs: releaseRetryMinMs, maxMs: releaseRetryMaxMs })
    const inUse = (volume: string) => table.boundTo(volume) !== undefined
    await run.output?.drain()
    for (;;) {
      try {
        await releaseJob({ engines: start.engines, job, inUse, log })
        break
      } catch {
        // Logged there, part by part.
        if (this.#closed.signal.aborted) return
        await sleep(delays.next(), this.#closed.signal).catch(() => undefined)
      }
      if (this.#closed.signal.aborted) return
    }
    await run.output?.finish()
    await settlesWithin(deregistered, deregisterWaitMs)
    table.change(id, { type: 'cleaned' })
    this.#runs.delete(id)
    run.finish()
  }

  async #deregisterSoon(id: string): Promise<void> {
    await settlesWithin(this.#options.services().deregister(id), deregisterWaitMs)
  }

  #noteOom(id: string): void {
    this.note(id, 'FATAL: a container process was killed due to lack of available memory', 'crit')
  }
}
