// Log records: RFC 5424 messages as the whole platform knows them, octet-counted on disk and on the way to the
// aggregator (contracts host.md 3.11, system-apps.md 1.1). Pure.

export type LogStream = 'stdout' | 'stderr' | 'init'

/** Longer lines are split into pieces of this many bytes. */
export const lineBytesMax = 10_000
/** A frame that claims more is not ours. */
export const messageBytesMax = 11_000
const lengthDigitsMax = 5

export const messageIds: Readonly<Record<LogStream, string>> = { stdout: 'ID1', stderr: 'ID2', init: 'ID3' }

export type LogRecord = {
  /** Microseconds since 1970; with `seq` the place of the record among all of its host. */
  readonly micros: number
  readonly seq: number
  readonly procId: string
  readonly stream: LogStream
  /** The line without its newline. */
  readonly line: Uint8Array
  /** The RFC 5424 message, as it is sent. */
  readonly message: Uint8Array
}

/** Place of a record in the order of its host: time first, then seq. */
export type LogCursor = { readonly micros: number; readonly seq: number }

export function isAfter(a: LogCursor, b: LogCursor): boolean {
  return a.micros !== b.micros ? a.micros > b.micros : a.seq > b.seq
}

const text = new TextEncoder()
const decoder = new TextDecoder()

/** UTC with exactly six fractional digits. */
export function formatMicros(micros: number): string {
  const ms = Math.floor(micros / 1000)
  const rest = String(micros - ms * 1000).padStart(3, '0')
  return `${new Date(ms).toISOString().slice(0, -1)}${rest}Z`
}

/** Microseconds of an RFC 3339 time in UTC with any number of fractional digits; undefined if it is none. */
export function parseMicros(time: string): number | undefined {
  const match = /^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?Z$/.exec(time)
  if (!match?.[1]) return undefined
  const seconds = Date.parse(`${match[1]}Z`)
  return Number.isNaN(seconds)
    ? undefined
    : seconds * 1000 + Number((match[2] ?? '').padEnd(6, '0').slice(0, 6))
}

/** `<type>.<job id>`, or the job id alone. */
export function procIdOf(type: string | undefined, jobId: string): string {
  return type ? `${type}.${jobId}` : jobId
}

/** What a header field may not hold (RFC 5424: printable ASCII without spaces) is replaced. */
function headerField(value: string | undefined): string {
  return value ? value.replaceAll(/[^\x21-\x7e]/g, '_') : '-'
}

export type NewRecord = {
  readonly micros: number
  readonly seq: number
  readonly hostId: string
  readonly app: string | undefined
  readonly procId: string
  readonly stream: LogStream
  readonly line: Uint8Array
}

/** The RFC 5424 message of a line. */
export function formatMessage(record: NewRecord): Uint8Array {
  const head = `<190>1 ${formatMicros(record.micros)} ${headerField(record.hostId)} ${headerField(record.app)} ${headerField(record.procId)} ${messageIds[record.stream]} [flynn seq="${record.seq}"]`
  if (record.line.length === 0) return text.encode(head)
  const prefix = text.encode(`${head} `)
  const out = new Uint8Array(prefix.length + record.line.length)
  out.set(prefix)
  out.set(record.line, prefix.length)
  return out
}

/** `<length> <message>`, followed by a newline on disk. */
export function frameMessage(message: Uint8Array, end: '' | '\n'): Uint8Array {
  const prefix = text.encode(`${message.length} `)
  const out = new Uint8Array(prefix.length + message.length + end.length)
  out.set(prefix)
  out.set(message, prefix.length)
  if (end) out[out.length - 1] = 10
  return out
}

const space = 32
const newline = 10

function fieldEnd(bytes: Uint8Array, from: number): number {
  const at = bytes.indexOf(space, from)
  return at < 0 ? bytes.length : at
}

/** Reads a message of the form `formatMessage` makes; undefined for anything else. */
export function parseMessage(message: Uint8Array): LogRecord | undefined {
  const fields: string[] = []
  let at = 0
  for (let i = 0; i < 6; i++) {
    const end = fieldEnd(message, at)
    fields.push(decoder.decode(message.subarray(at, end)))
    at = end + 1
  }
  const [, time = '', , , procId = '', messageId] = fields
  const close = message.indexOf(93, at)
  const seq = close < 0 ? null : /^\[flynn seq="(\d+)"$/.exec(decoder.decode(message.subarray(at, close)))
  const micros = parseMicros(time)
  const stream = (['stdout', 'stderr', 'init'] as const).find(s => messageIds[s] === messageId)
  if (!seq || micros === undefined || stream === undefined) return undefined
  const line = message.subarray(Math.min(message.length, close + 2))
  return { micros, seq: Number(seq[1]), procId, stream, line, message }
}

export type ParsedFrame =
  /** `size` bytes were one frame; `record` is undefined when its content is not ours. */
  | { readonly type: 'frame'; readonly record: LogRecord | undefined; readonly size: number }
  | { readonly type: 'incomplete' }
  /** Not a frame: skip `size` bytes, to behind the next newline. */
  | { readonly type: 'garbage'; readonly size: number }

/** The frame at `at`. Damaged places (a file cut by a crash of the machine) are skipped line by line. */
export function parseFrame(bytes: Uint8Array, at: number): ParsedFrame {
  const end = bytes.indexOf(space, at)
  const digits = end < 0 ? '' : decoder.decode(bytes.subarray(at, end))
  const known = end >= 0 && end - at <= lengthDigitsMax && /^\d+$/.test(digits)
  const length = Number(digits)
  if (known && length <= messageBytesMax) {
    const stop = end + 1 + length
    if (stop >= bytes.length) return { type: 'incomplete' }
    if (bytes[stop] === newline) {
      const message = bytes.subarray(end + 1, stop)
      return { type: 'frame', record: parseMessage(message), size: stop + 1 - at }
    }
  } else if (end < 0 && bytes.length - at <= lengthDigitsMax) return { type: 'incomplete' }
  const next = bytes.indexOf(newline, at)
  return { type: 'garbage', size: (next < 0 ? bytes.length : next + 1) - at }
}
