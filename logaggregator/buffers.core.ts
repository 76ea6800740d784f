// The latest lines of every app, in order of time, within one budget of memory for all. Deterministic, no clock and no
// I/O. Lines are kept as the text they came in and taken apart only when read. Contract system-apps.md 1.3.
import { parseMessage, type SyslogMessage } from '../pkg/syslog/syslog.core.ts'
import { linesMax } from './types.ts'

/** For all apps together; what no app needs, any app may use. */
export const buffersBytesMax = 64 * 1024 * 1024
/** What an entry and a buffer cost beside their text, roughly. */
const entryBytes = 100
const bufferBytes = 1_000
/** Share of the largest buffer that goes at once when memory is short, so that shortage is not met line by line. */
const trimShare = 0.05

export type Entry = { readonly timestampUs: number; readonly text: string }

/** A line as its fields. What is in a buffer has been parsed before, so this cannot fail. */
export function toMessage(entry: Entry): SyslogMessage {
  const message = parseMessage(entry.text)
  if (!message) throw new Error('buffered line is not a message')
  return message
}

const sizeOf = (entry: Entry) => entry.text.length + entryBytes

/** Oldest first, at `entries[head]`; what is before it is gone and cleared away now and then. */
type Buffer = { entries: Entry[]; head: number; bytes: number }

function dropOldest(buffer: Buffer, count: number): number {
  let freed = 0
  for (let n = 0; n < count && buffer.head < buffer.entries.length; n++) {
    freed += sizeOf(buffer.entries[buffer.head] as Entry)
    buffer.head++
  }
  buffer.bytes -= freed
  if (buffer.head > 1_000 && buffer.head * 2 > buffer.entries.length) {
    buffer.entries = buffer.entries.slice(buffer.head)
    buffer.head = 0
  }
  return freed
}

/** Where a line of that time goes: after all that are not later. */
function placeFor(buffer: Buffer, timestampUs: number): number {
  const { entries } = buffer
  const last = entries.at(-1)
  if (last === undefined || last.timestampUs <= timestampUs) return entries.length
  let low = buffer.head
  let high = entries.length
  while (low < high) {
    const middle = (low + high) >>> 1
    if ((entries[middle] as Entry).timestampUs <= timestampUs) low = middle + 1
    else high = middle
  }
  return low
}

function isDuplicate(buffer: Buffer, place: number, entry: Entry, structuredData: string): boolean {
  for (let at = place - 1; at >= buffer.head; at--) {
    const other = buffer.entries[at] as Entry
    if (other.timestampUs !== entry.timestampUs) return false
    if (toMessage(other).structuredData === structuredData) return true
  }
  return false
}

export type Buffers = {
  /** False when the line was there already, or is older than all of a full buffer. */
  add(appId: string, entry: Entry, structuredData: string): boolean
  /** Lines of an app, oldest first; empty for an unknown one. */
  read(appId: string): readonly Entry[]
  /** Every line of every app. */
  all(): Iterable<Entry>
  /** Memory taken, roughly; never more than the budget. */
  readonly bytes: number
}

export function createBuffers(bytesMax: number = buffersBytesMax): Buffers {
  const buffers = new Map<string, Buffer>()
  let bytes = 0

  /** Takes from the largest until all fit; a buffer that ends up empty goes. */
  function trim(): void {
    while (bytes > bytesMax) {
      let largest: [string, Buffer] | undefined
      for (const pair of buffers) if (!largest || pair[1].bytes > largest[1].bytes) largest = pair
      if (!largest) return
      const [appId, buffer] = largest
      const lines = buffer.entries.length - buffer.head
      bytes -= dropOldest(buffer, Math.max(1, Math.floor(lines * trimShare)))
      if (buffer.head < buffer.entries.length) continue
      buffers.delete(appId)
      bytes -= bufferBytes
    }
  }

  function bufferOf(appId: string): Buffer {
    const known = buffers.get(appId)
    if (known) return known
    const fresh: Buffer = { entries: [], head: 0, bytes: 0 }
    buffers.set(appId, fresh)
    bytes += bufferBytes
    return fresh
  }

  return {
    add(appId, entry, structuredData) {
      const buffer = bufferOf(appId)
      const place = placeFor(buffer, entry.timestampUs)
      const full = buffer.entries.length - buffer.head >= linesMax
      if ((full && place === buffer.head) || isDuplicate(buffer, place, entry, structuredData)) return false
      if (place === buffer.entries.length) buffer.entries.push(entry)
      else buffer.entries.splice(place, 0, entry)
      buffer.bytes += sizeOf(entry)
      bytes += sizeOf(entry)
      if (full) bytes -= dropOldest(buffer, 1)
      trim()
      return true
    },
    read(appId) {
      const buffer = buffers.get(appId)
      return buffer ? buffer.entries.slice(buffer.head) : []
    },
    *all() {
      for (const buffer of buffers.values()) yield* buffer.entries.slice(buffer.head)
    },
    get bytes() {
      return bytes
    },
  }
}
