// What other components use of the log aggregator: an app's lines, and how far it has read each host's log.
import { HttpClient } from '../pkg/http/client.ts'
import type { HostCursors, LogMessage, LogOptions } from './types.ts'

export const defaultUrl = 'http://logaggregator.discoverd'

/** The query string parameters of `GET /log/:channel`. */
export function toLogQuery(options: LogOptions): Record<string, string | undefined> {
  return {
    follow: options.follow ? 'true' : undefined,
    lines: options.lines === undefined ? undefined : String(options.lines),
    job_id: options.jobId,
    process_type: options.processType,
    stream_types: options.streamTypes?.join(','),
  }
}

async function* readLines(body: AsyncIterable<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder()
  let rest = ''
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const line of lines) if (line !== '') yield line
  }
}

export class LogAggregatorClient {
  readonly #http: HttpClient
  constructor(url: string = defaultUrl) {
    this.#http = new HttpClient({ url })
  }

  /**
   * Lines of an app, oldest first. When following, the sequence ends with the signal or the connection.
   * Rejects with `validation_error` when the options are out of range.
   */
  async *log(appId: string, options: LogOptions = {}, signal?: AbortSignal): AsyncGenerator<LogMessage> {
    const res = await this.#http.raw('GET', `/log/${encodeURIComponent(appId)}`, {
      query: toLogQuery(options),
      ...(options.follow ? { timeoutMs: 0 } : {}),
      signal,
    })
    for await (const line of readLines(res.body)) yield JSON.parse(line) as LogMessage
  }

  /** By host id; a host that is not in it has to send everything it has. */
  cursors(): Promise<HostCursors> {
    return this.#http.get<HostCursors>('/cursors')
  }
}
