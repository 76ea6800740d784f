// What a reader asks for, and whether a line is part of it. Pure. Contract system-apps.md 1.3.
import { formatTimestampNano, type SyslogMessage, splitProcId, streamOf } from '../pkg/syslog/syslog.core.ts'
import { errors } from './errors.ts'
import { type LogMessage, linesMax } from './types.ts'

export type LogQuery = {
  readonly follow: boolean
  /** 0: no limit, or nothing of the past when following. */
  readonly lines: number
  readonly jobId: string | undefined
  readonly processType: string | undefined
  readonly streamTypes: ReadonlySet<string> | undefined
}

/** The query of a request; of a repeated parameter the last value counts. Throws BAD_LINES. */
export function fromSearchParams(params: URLSearchParams): LogQuery {
  const last = (name: string) => params.getAll(name).at(-1)
  const text = last('lines') || '0'
  const lines = Number(text)
  if (!/^\d+$/.test(text) || lines > linesMax)
    throw errors.BAD_LINES({ max: linesMax }, { detail: { field: 'lines' } })
  const streams = last('stream_types')
  return {
    follow: last('follow') === 'true',
    lines,
    jobId: last('job_id') || undefined,
    // Present but empty asks for jobs without a type.
    processType: last('process_type'),
    streamTypes: streams ? new Set(streams.split(',')) : undefined,
  }
}

export function isWanted(query: LogQuery, message: SyslogMessage): boolean {
  const { processType, jobId } = splitProcId(message.procId)
  if (query.jobId !== undefined && query.jobId !== jobId) return false
  if (query.processType !== undefined && query.processType !== processType) return false
  return query.streamTypes === undefined || query.streamTypes.has(streamOf(message.msgId))
}

/** The members of a line in the order clients know; empty ones are left out, but for time, source and stream. */
export function toLogMessage(message: SyslogMessage): LogMessage {
  const { processType, jobId } = splitProcId(message.procId)
  return {
    ...(message.hostname === '' ? {} : { host_id: message.hostname }),
    ...(jobId === '' ? {} : { job_id: jobId }),
    ...(message.msg === '' ? {} : { msg: message.msg }),
    ...(processType === '' ? {} : { process_type: processType }),
    source: 'app',
    stream: streamOf(message.msgId),
    timestamp: formatTimestampNano(message.timestampUs),
  }
}
