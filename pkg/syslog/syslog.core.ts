// Log records between hosts, the log aggregator and drains: RFC 5424 messages in RFC 6587 octet-counted frames, the
// shape of contract system-apps.md 1.1. Pure: text and bytes in, values out. Used by host, logaggregator, sinks.

/** Facility local7, severity informational, for every stream. */
export const priority = 190
/** A longer message is an error of the connection that carries it. */
export const messageBytesMax = 11_000
/** Digits of a frame's length prefix. */
export const lengthDigitsMax = 5
/** A line of output longer than this becomes several messages. */
export const lineBytesMax = 10_000

export const streams = { stdout: 'ID1', stderr: 'ID2', init: 'ID3' } as const
export type LogStream = keyof typeof streams

export type SyslogMessage = {
  /** Microseconds since 1970 in UTC; below 2^53 for the next two centuries. */
  readonly timestampUs: number
  readonly hostname: string
  readonly appName: string
  readonly procId: string
  readonly msgId: string
  /** As on the wire, brackets included; `-` when there is none. */
  readonly structuredData: string
  readonly msg: string
}

/** A host's place in its own log: later time first, then the larger number (contract 1.1). */
export type Cursor = { readonly timestampUs: number; readonly seq: number }

export function compareCursors(a: Cursor, b: Cursor): number {
  return a.timestampUs === b.timestampUs ? a.seq - b.seq : a.timestampUs - b.timestampUs
}

/** RFC 3339 in UTC with six fractional digits. */
export function formatTimestamp(timestampUs: number): string {
  const ms = Math.floor(timestampUs / 1000)
  const micros = String(timestampUs - ms * 1000).padStart(3, '0')
  return new Date(ms).toISOString().replace('Z', `${micros}Z`)
}

/** The same as Go prints it where JSON is made: trailing zeros of the fraction left out. */
export function formatTimestampNano(timestampUs: number): string {
  return formatTimestamp(timestampUs).replace(/\.?0+Z$/, 'Z')
}

const timestampPattern = /^(\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2})(?:\.(\d{1,9}))?(Z|[+-]\d{2}:\d{2})$/

/** Microseconds since 1970, finer digits cut; undefined when the text is no RFC 3339 time. */
export function parseTimestamp(text: string): number | undefined {
  const parts = timestampPattern.exec(text)
  if (!parts) return undefined
  const seconds = Date.parse(`${parts[1]}${parts[3]}`)
  if (Number.isNaN(seconds)) return undefined
  return seconds * 1000 + Number((parts[2] ?? '').padEnd(6, '0').slice(0, 6))
}

/** `[flynn seq="N"]`, the structured data that every message of ours carries. */
export function sequenceData(seq: number): string {
  return `[flynn seq="${seq}"]`
}

const flynnElement = /\[flynn(?: [^\]\\"]*"(?:[^"\\]|\\.)*")*? seq="(\d{1,10})"/

/** The host's sequence number in structured data, or undefined when there is none. */
export function parseSequence(structuredData: string): number | undefined {
  const digits = flynnElement.exec(structuredData)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

export function formatMessage(message: SyslogMessage): string {
  const { hostname, appName, procId, msgId, structuredData, msg } = message
  const time = formatTimestamp(message.timestampUs)
  const head = `<${priority}>1 ${time} ${hostname || '-'} ${appName || '-'} ${procId || '-'} ${msgId || '-'} ${structuredData || '-'}`
  return msg === '' ? head : `${head} ${msg}`
}

const headerPattern = /^<\d{1,3}>1 (\S+) (\S+) (\S+) (\S+) (\S+) /

/** Index just after the structured data that begins at `from`; undefined when it is malformed. */
function structuredDataEnd(text: string, from: number): number | undefined {
  if (text[from] === '-') return from + 1
  let quoted = false
  let at = from
  if (text[at] !== '[') return undefined
  for (; at < text.length; at++) {
    const c = text[at]
    if (quoted && c === '\\') at++
    else if (c === '"') quoted = !quoted
    else if (!quoted && c === ']' && text[at + 1] !== '[') return at + 1
  }
  return undefined
}

function nilToEmpty(field: string | undefined): string {
  return field === undefined || field === '-' ? '' : field
}

/** A message's fields; undefined when the header or the structured data do not follow RFC 5424. */
export function parseMessage(text: string): SyslogMessage | undefined {
  const header = headerPattern.exec(text)
  if (!header) return undefined
  const timestampUs = parseTimestamp(header[1] ?? '')
  const start = header[0].length
  const end = structuredDataEnd(text, start)
  if (timestampUs === undefined || end === undefined) return undefined
  if (end < text.length && text[end] !== ' ') return undefined
  return {
    timestampUs,
    hostname: nilToEmpty(header[2]),
    appName: nilToEmpty(header[3]),
    procId: nilToEmpty(header[4]),
    msgId: nilToEmpty(header[5]),
    structuredData: text.slice(start, end),
    msg: text.slice(end + 1),
  }
}

/** `<process type>.<job id>` or `<job id>`; the first dot divides (contract 1.3). */
export function splitProcId(procId: string): { readonly processType: string; readonly jobId: string } {
  const dot = procId.indexOf('.')
  return dot === -1
    ? { processType: '', jobId: procId }
    : { processType: procId.slice(0, dot), jobId: procId.slice(dot + 1) }
}

export function streamOf(msgId: string): LogStream | 'unknown' {
  for (const name of Object.keys(streams) as LogStream[]) if (streams[name] === msgId) return name
  return 'unknown'
}

/** Length, space, message: one frame without a newline. */
export function encodeFrame(message: string): Buffer {
  const body = Buffer.from(message)
  return Buffer.concat([Buffer.from(`${body.length} `), body])
}

export type FrameDecoder = {
  /** The whole messages that this chunk completes. Throws on a malformed or over-long frame; do not go on then. */
  push(chunk: Uint8Array): string[]
  /** Bytes of an unfinished frame; 0 at a clean end. */
  readonly pendingBytes: number
}

const newline = 0x0a
const space = 0x20

/** Reads octet-counted frames; newlines between frames are skipped, so that a host's log file reads as well. */
export function frameDecoder(): FrameDecoder {
  let rest: Buffer = Buffer.alloc(0)
  const next = (): string | undefined => {
    let start = 0
    while (rest[start] === newline) start++
    if (start > 0) rest = rest.subarray(start)
    const prefix = rest.subarray(0, lengthDigitsMax + 1)
    const at = prefix.indexOf(space)
    if (at === -1 && prefix.length <= lengthDigitsMax) return undefined
    const digits = prefix.subarray(0, Math.max(at, 0)).toString('latin1')
    if (!/^[1-9]\d*$/.test(digits)) throw new Error('frame does not begin with its length')
    const length = Number(digits)
    if (length > messageBytesMax)
      throw new Error(`frame of ${length} bytes is longer than ${messageBytesMax}`)
    if (rest.length < at + 1 + length) return undefined
    const text = rest.toString('utf8', at + 1, at + 1 + length)
    rest = rest.subarray(at + 1 + length)
    return text
  }
  return {
    push(chunk) {
      rest = rest.length === 0 ? Buffer.from(chunk) : Buffer.concat([rest, chunk])
      const out: string[] = []
      for (let text = next(); text !== undefined; text = next()) out.push(text)
      return out
    },
    get pendingBytes() {
      return rest.length
    },
  }
}
