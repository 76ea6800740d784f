// What a syslog sink sends for a record (contract system-apps.md 2.5): names in place of ids, prefix, structured data,
// framing. Pure. Called by syslog.ts.
import { type LogRecord, lineBytesMax } from '../log/record.core.ts'
import { parseTemplate, type Template, type TemplateJob } from './template.core.ts'
import type { SinkConfig, SinkFormat } from './types.ts'

export const syslogPortDefault = 514

export type SyslogTarget = {
  readonly host: string
  readonly port: number
  readonly tls: boolean
  readonly insecure: boolean
  readonly format: SinkFormat
  readonly useIds: boolean
  readonly structuredData: boolean
  readonly template: Template
}

/** What a sink's configuration asks for; a text says what is wrong with it. */
export function parseTarget(config: SinkConfig): SyslogTarget | string {
  const match = /^syslog(\+tls)?:\/\/(\[[0-9a-fA-F:.]+\]|[^/:\s?#@]+)(?::(\d{1,5}))?\/?$/.exec(
    config.url ?? '',
  )
  const [, tls, host, port] = match ?? []
  if (host === undefined) return 'url must be syslog://HOST[:PORT] or syslog+tls://HOST[:PORT]'
  const number = port === undefined ? syslogPortDefault : Number(port)
  if (number < 1 || number > 65_535) return 'url must name a port from 1 to 65535'
  const template = parseTemplate(config.template ?? '')
  if (template === undefined)
    return 'template may hold text, {{.Path}} and {{index .Map "key"}} only, 10,000 characters at most'
  return {
    host: host.replace(/^\[(.*)\]$/, '$1'),
    port: number,
    tls: tls !== undefined,
    insecure: config.insecure ?? false,
    format: config.format ?? 'rfc6587',
    useIds: config.use_ids ?? false,
    structuredData: config.structured_data ?? false,
    template,
  }
}

/** What a sink says of one job: its name in the message, and the prefix. */
export type JobWords = { readonly app: string; readonly prefix: string }

const printable = (text: string): string => text.replaceAll(/[^\x21-\x7e]/g, '_')
/** A line break in a prefix would end the message early. */
const oneLine = (text: string): string => text.replaceAll(/[\r\n\0]/g, ' ')

/** `undefined` job: the host no longer knows it. */
export function wordsOf(target: SyslogTarget, job: TemplateJob | undefined): JobWords {
  return {
    app: printable(job?.Metadata['flynn-controller.app_name'] ?? ''),
    prefix: job === undefined ? '' : oneLine(target.template(job)).slice(0, lineBytesMax),
  }
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()

/** The bytes on the wire. */
export function encodeRecord(target: SyslogTarget, record: LogRecord, words: JobWords): Uint8Array {
  const header = decoder.decode(record.message.subarray(0, record.message.length - record.line.length))
  const match = /^(\S+ \S+ \S+) (\S+) (\S+ \S+) (\[.*\]) ?$/s.exec(header)
  const [, head, app, procAndId, data] = match ?? []
  const name = target.useIds ? app : words.app
  const start = `${head} ${name || '-'} ${procAndId} ${target.structuredData ? data : '-'}`
  const after = target.format === 'prefixed_newline' || words.prefix === '' ? '' : `${words.prefix} `
  const before = target.format === 'prefixed_newline' ? `${words.prefix} ` : ''
  const body = concat(encoder.encode(`${before}${start} ${after}`), record.line)
  if (target.format === 'rfc6587') return concat(encoder.encode(`${body.length} `), body)
  return concat(body, encoder.encode('\n'))
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}
