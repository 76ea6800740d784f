// One syslog sink at work: connects, sends what the server has not had from disk, then what comes, and starts over from
// its cursor when the connection breaks (contracts host.md 2.7, system-apps.md 1.2, 2.5). Called by sinks.ts.
import { once } from 'node:events'
import { connect, isIP, type Socket } from 'node:net'
import { connect as connectTls } from 'node:tls'
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { LogMux } from '../log/mux.ts'
import type { LogCursor } from '../log/record.core.ts'
import { encodeRecord, type JobWords, type SyslogTarget, wordsOf } from './message.core.ts'
import type { TemplateJob } from './template.core.ts'

export const sinkConnectTimeoutMs = 10_000
/** A server that takes nothing for so long is given up, and met again later. */
export const sinkWriteTimeoutMs = 10_000
export const sinkRetryMs = 10_000
const sinkFirstRetryMs = 500
/** Jobs whose words are remembered. */
export const sinkWordsMax = 1_000

export type SyslogOptions = {
  readonly id: string
  readonly target: SyslogTarget
  readonly mux: LogMux
  /** The job behind a PROCID. */
  readonly job: (procId: string) => TemplateJob | undefined
  readonly cursor: () => LogCursor | undefined
  readonly onSent: (cursor: LogCursor) => void
  readonly log: Logger
}

async function dial(target: SyslogTarget, signal: AbortSignal): Promise<Socket> {
  const { host, port } = target
  const limit = AbortSignal.any([signal, AbortSignal.timeout(sinkConnectTimeoutMs)])
  const socket = target.tls
    ? connectTls({
        host,
        port,
        rejectUnauthorized: !target.insecure,
        ...(isIP(host) === 0 ? { servername: host } : {}),
      })
    : connect({ host, port })
  try {
    await once(socket, target.tls ? 'secureConnect' : 'connect', { signal: limit })
    return socket
  } catch (e) {
    socket.destroy()
    throw e
  }
}

/** Words by PROCID; the oldest go when there are too many. */
function wordsCache(options: SyslogOptions): (procId: string) => JobWords {
  const known = new Map<string, JobWords>()
  return procId => {
    const found = known.get(procId)
    if (found !== undefined) return found
    const job = options.job(procId)
    const words = wordsOf(options.target, job)
    // A job that is not known yet may be so with its next line.
    if (job === undefined) return words
    const [oldest] = known.keys()
    if (known.size >= sinkWordsMax && oldest !== undefined) known.delete(oldest)
    known.set(procId, words)
    return words
  }
}

async function send(options: SyslogOptions, signal: AbortSignal): Promise<void> {
  const { target, mux, log, id } = options
  const socket = await dial(target, signal)
  const broken = new AbortController()
  const limit = AbortSignal.any([signal, broken.signal])
  let failure: Error | undefined
  socket.on('error', e => {
    failure = e
  })
  socket.once('close', () => broken.abort())
  socket.resume()
  const words = wordsCache(options)
  try {
    log.info({ sink: id, host: target.host, port: target.port }, 'log sink connected')
    for await (const record of mux.all(options.cursor(), limit)) {
      const room = socket.write(encodeRecord(target, record, words(record.procId)))
      if (!room)
        await once(socket, 'drain', {
          signal: AbortSignal.any([limit, AbortSignal.timeout(sinkWriteTimeoutMs)]),
        })
      options.onSent(record)
    }
    if (failure) throw failure
  } finally {
    socket.destroy()
  }
}

/** Sends until the signal aborts; connects again after 10 s, sooner at first. */
export async function runSyslogSink(options: SyslogOptions, signal: AbortSignal): Promise<void> {
  let retryMs = sinkFirstRetryMs
  while (!signal.aborted) {
    const startedAt = performance.now()
    try {
      await send(options, signal)
    } catch (err) {
      if (signal.aborted) return
      options.log.warn({ sink: options.id, err, retryMs }, 'log sink connection failed')
    }
    if (performance.now() - startedAt > sinkRetryMs) retryMs = sinkFirstRetryMs
    await sleep(retryMs, signal).catch(() => undefined)
    retryMs = Math.min(sinkRetryMs, retryMs * 2)
  }
}
