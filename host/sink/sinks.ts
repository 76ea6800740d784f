// The log sinks of this host: kept with their cursors in the host's settings, each with its own connection. Aggregators
// that the host feeds by itself (log/aggregator.ts) are listed as host-managed and cannot be changed from outside.
import type { Logger } from '../../pkg/log/log.ts'
import type { HostDatabase } from '../database.ts'
import { hostErrors } from '../errors.ts'
import type { LogMux } from '../log/mux.ts'
import type { LogCursor } from '../log/record.core.ts'
import type { Job } from '../types.ts'
import { parseTarget } from './message.core.ts'
import { runSyslogSink } from './syslog.ts'
import type { TemplateJob } from './template.core.ts'
import type { SinkInfo, SinkInput } from './types.ts'

export const hostSinksMax = 100
export const cursorSaveMs = 10_000
const settingKey = 'sinks'

type Stored = SinkInfo & { readonly cursor?: LogCursor | undefined }
type Running = { info: SinkInfo; cursor: LogCursor | undefined; readonly stop: AbortController }

export type SinksOptions = {
  readonly database: HostDatabase
  readonly mux: LogMux
  /** The job of an id. */
  readonly job: (id: string) => Job | undefined
  /** Addresses of the aggregators that this host feeds. */
  readonly aggregators: ReadonlySet<string>
  readonly log: Logger
}

function templateJob(job: Job): TemplateJob {
  return {
    ID: job.id,
    Partition: job.partition ?? '',
    Metadata: job.metadata ?? {},
    Config: job.config,
  }
}

/** PROCID is `<type>.<job id>` or the job id. */
function jobIdOf(procId: string): string {
  return procId.slice(procId.indexOf('.') + 1)
}

export class Sinks {
  readonly #options: SinksOptions
  readonly #running = new Map<string, Running>()
  #saving: NodeJS.Timeout | undefined
  #dirty = false
  #closed = false

  constructor(options: SinksOptions) {
    this.#options = options
  }

  /** Goes on with the sinks of before; call when the logs may be read. */
  start(): void {
    for (const { cursor, ...info } of this.#options.database.getSetting<Stored[]>(settingKey) ?? [])
      this.#run(info, cursor)
    this.#saving = setInterval(() => this.#save(), cursorSaveMs)
  }

  list(): readonly SinkInfo[] {
    const managed = [...this.#options.aggregators].map(
      (addr): SinkInfo => ({ id: addr, kind: 'logaggregator', host_managed: true, config: { addr } }),
    )
    return [...[...this.#running.values()].map(r => r.info), ...managed]
  }

  /** Adds a sink, or gives a known one its new configuration; it goes on where the old one was. */
  put(id: string, input: SinkInput): SinkInfo {
    const info: SinkInfo = { id, kind: input.kind, config: input.config }
    if (this.#options.aggregators.has(id)) return info
    if (input.kind !== 'syslog') throw hostErrors.SINK_KIND({ kind: input.kind })
    const target = parseTarget(input.config)
    if (typeof target === 'string') throw hostErrors.SINK_CONFIG({ text: target })
    const known = this.#running.get(id)
    if (known && JSON.stringify(known.info.config) === JSON.stringify(info.config)) return info
    if (!known && this.#running.size >= hostSinksMax) throw hostErrors.SINKS_FULL({ max: hostSinksMax })
    known?.stop.abort()
    this.#run(info, known?.cursor)
    this.#dirty = true
    this.#save()
    return info
  }

  /** Rejects UNKNOWN_SINK. */
  remove(id: string): void {
    const known = this.#running.get(id)
    if (!known) throw hostErrors.UNKNOWN_SINK()
    known.stop.abort()
    this.#running.delete(id)
    this.#dirty = true
    this.#save()
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    clearInterval(this.#saving)
    for (const { stop } of this.#running.values()) stop.abort()
    this.#save()
  }

  #run(info: SinkInfo, cursor: LogCursor | undefined): void {
    const { mux, log } = this.#options
    const target = parseTarget(info.config)
    if (typeof target === 'string') {
      log.error({ sink: info.id, reason: target }, 'a stored log sink is not understood and was left out')
      return
    }
    const running: Running = { info, cursor, stop: new AbortController() }
    this.#running.set(info.id, running)
    const job = (procId: string): TemplateJob | undefined => {
      const found = this.#options.job(jobIdOf(procId))
      return found && templateJob(found)
    }
    const onSent = ({ micros, seq }: LogCursor): void => {
      running.cursor = { micros, seq }
      this.#dirty = true
    }
    void runSyslogSink(
      { id: info.id, target, mux, job, log, cursor: () => running.cursor, onSent },
      running.stop.signal,
    )
  }

  #save(): void {
    if (!this.#dirty) return
    this.#dirty = false
    const stored = [...this.#running.values()].map((r): Stored => ({ ...r.info, cursor: r.cursor }))
    this.#options.database.setSetting(settingKey, stored)
  }
}
