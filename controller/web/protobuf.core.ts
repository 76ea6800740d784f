// The little of protocol buffers that access tokens need (contract controller.md 1.3): fields of one message, the last
// value of each. Pure. Called by auth.ts.

export const fieldsMax = 64

type Value = bigint | Uint8Array
export type Fields = ReadonlyMap<number, Value>

type Cursor = { readonly bytes: Uint8Array; at: number }

function varint(cursor: Cursor): bigint | undefined {
  let value = 0n
  for (let shift = 0n; shift < 70n; shift += 7n) {
    const byte = cursor.bytes[cursor.at++]
    if (byte === undefined) return undefined
    value |= BigInt(byte & 0x7f) << shift
    if (byte < 0x80) return value
  }
  return undefined
}

function take(cursor: Cursor, length: number): Uint8Array | undefined {
  if (length < 0 || length > cursor.bytes.length - cursor.at) return undefined
  cursor.at += length
  return cursor.bytes.subarray(cursor.at - length, cursor.at)
}

/** Fields by number; undefined when the bytes are no message. */
export function decodeFields(bytes: Uint8Array): Fields | undefined {
  const cursor: Cursor = { bytes, at: 0 }
  const fields = new Map<number, Value>()
  for (let n = 0; cursor.at < bytes.length; n++) {
    const tag = varint(cursor)
    if (tag === undefined || n >= fieldsMax) return undefined
    const kind = Number(tag & 7n)
    let value: Value | undefined
    if (kind === 0) value = varint(cursor)
    else if (kind === 1) value = take(cursor, 8)
    else if (kind === 5) value = take(cursor, 4)
    else if (kind === 2) value = take(cursor, Number(varint(cursor) ?? -1n))
    if (value === undefined) return undefined
    fields.set(Number(tag >> 3n), value)
  }
  return fields
}

/** Whole seconds since 1970 of a Timestamp message, or of a plain number; undefined when absent or none. */
export function timeField(value: Value | undefined): number | undefined {
  if (typeof value === 'bigint') return value > 0n ? Number(value) : undefined
  if (value === undefined) return undefined
  const seconds = decodeFields(value)?.get(1)
  return typeof seconds === 'bigint' && seconds > 0n ? Number(seconds) : undefined
}
