// Sends access lines to the log aggregator as lines of their app (contract system-apps.md 1.1). It may lose lines, it
// never lets them pile up: what an app's limit or a broken connection keeps back is counted and told in one line.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { backoff, sleep } from '../pkg/clock/clock.ts'
import type { Logger } from '../pkg/log/log.ts'
import { encodeFrame, formatMessage, sequenceData, streams } from '../pkg/syslog/syslog.core.ts'

/** Lines of one app; a busy app's own lines must stay findable among those of its requests. */
export const linesPerSecondMax = 50
export const lineBurstMax = 500
/** Unsent bytes above which lines are left out. */
export const unsentBytesMax = 1_048_576
/** Lines of this long go in one packet. */
export const flushAfterMs = 100
export const connectTimeoutMs = 2_000
const logLineBytesMax = 8_000

type Budget = { tokens: number; atMs: number; leftOut: number }

export type AppLogOptions = {
  /** host:port of the aggregator's syslog side now; undefined while there is none. */
  readonly aggregator: (signal: AbortSignal) => Promise<string | undefined>
  readonly log: Logger
  readonly signal: AbortSignal
  /** Names this sender to the aggregator, which keeps a place in the log for each host: must not be a host's id. */
  readonly hostname: string
  readonly job: string
}

export class AppLog {
  readonly #options: AppLogOptions
  readonly #budgets = new Map<string, Budget>()
  #socket: Socket | undefined
  #frames: Buffer[] = []
  /** Set while frames wait: a timer that always ran would wake a router without requests ten times a second. */
  #flushing: NodeJS.Timeout | undefined
  #seq = 0

  constructor(options: AppLogOptions) {
    this.#options = options
  }

  /** Whether a line of this app would be sent now; takes it from the app's budget. Ask before making the line. */
  admits(app: string, nowMs: number): boolean {
    const budget = this.#budgets.get(app) ?? { tokens: lineBurstMax, atMs: nowMs, leftOut: 0 }
    this.#budgets.set(app, budget)
    const refill = ((nowMs - budget.atMs) / 1000) * linesPerSecondMax
    budget.tokens = Math.min(lineBurstMax, budget.tokens + refill)
    budget.atMs = nowMs
    const socket = this.#socket
    if (budget.tokens < 1 || !socket || socket.writableLength > unsentBytesMax) {
      budget.leftOut++
      return false
    }
    budget.tokens--
    return true
  }

  send(app: string, nowMs: number, text: string): void {
    const budget = this.#budgets.get(app)
    if (budget && budget.leftOut > 0) {
      this.#frame(app, nowMs, `${budget.leftOut} more requests, not shown one by one`)
      budget.leftOut = 0
    }
    this.#frame(app, nowMs, text)
  }

  #frame(app: string, nowMs: number, text: string): void {
    this.#seq = (this.#seq + 1) % 0x1_0000_0000
    const message = formatMessage({
      timestampUs: nowMs * 1000,
      hostname: this.#options.hostname,
      appName: app,
      procId: `router.${this.#options.job}`,
      msgId: streams.stdout,
      structuredData: sequenceData(this.#seq),
      msg: text.slice(0, logLineBytesMax),
    })
    this.#frames.push(encodeFrame(message))
    this.#flushing ??= setTimeout(() => this.#flush(), flushAfterMs)
  }

  /** Keeps a connection to the aggregator until the signal aborts. */
  async run(): Promise<void> {
    const { log, signal } = this.#options
    const delays = backoff({ minMs: 500, maxMs: 10_000 })
    while (!signal.aborted) {
      try {
        await this.#connection(() => delays.reset())
      } catch (err) {
        if (!signal.aborted) log.debug({ err }, 'no log aggregator')
      }
      await sleep(delays.next(), signal).catch(() => undefined)
    }
  }

  async #connection(onOpen: () => void): Promise<void> {
    const { aggregator, signal } = this.#options
    const address = /^(.*):(\d+)$/.exec((await aggregator(signal)) ?? '')
    if (!address) return
    const socket = connect({ host: address[1]?.replace(/^\[|\]$/g, '') ?? '', port: Number(address[2]) })
    // Not `once` of node:events: it rejects at an error, which nobody waits for before the connection stands.
    const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
    socket.on('error', () => undefined)
    socket.resume()
    try {
      await once(socket, 'connect', {
        signal: AbortSignal.any([signal, AbortSignal.timeout(connectTimeoutMs)]),
      })
      onOpen()
      this.#socket = socket
      const stop = () => socket.destroy()
      signal.addEventListener('abort', stop, { once: true })
      await closed
      signal.removeEventListener('abort', stop)
    } finally {
      this.#socket = undefined
      this.#frames = []
      socket.destroy()
    }
  }

  #flush(): void {
    this.#flushing = undefined
    if (this.#frames.length > 0) this.#socket?.write(Buffer.concat(this.#frames))
    this.#frames = []
    // Apps that have been quiet for long need no budget of their own.
    if (this.#budgets.size > 10_000) this.#budgets.clear()
  }
}
