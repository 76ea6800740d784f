// DNS messages: queries read, responses written with name compression (RFC 1035), no EDNS. Written by hand because the
// library at hand does not compress names. Pure; hostile input gives undefined, never an exception.

export const typeA = 1
export const typeSoa = 6
export const typeTxt = 16
export const typeAaaa = 28
export const typeSrv = 33
export const typeAny = 255

export const rcodeOk = 0
export const rcodeFormatError = 1
export const rcodeServerFailure = 2
export const rcodeNameError = 3
export const rcodeNotImplemented = 4
export const rcodeRefused = 5

export const udpBytesMax = 512
export const tcpBytesMax = 65_535

export type Query = {
  readonly id: number
  readonly opcode: number
  readonly recursionDesired: boolean
  /** As sent, without the final dot. */
  readonly name: string
  readonly type: number
  /** Where the question ends in the message. */
  readonly end: number
}

export type DnsRecord =
  | { readonly type: typeof typeA | typeof typeAaaa; readonly name: string; readonly address: Uint8Array }
  | { readonly type: typeof typeSrv; readonly name: string; readonly port: number; readonly target: string }
  | { readonly type: typeof typeSoa; readonly serial: number }

export type Response = {
  readonly rcode: number
  readonly authoritative: boolean
  readonly recursionAvailable: boolean
  readonly answers: readonly DnsRecord[]
  readonly authority: readonly DnsRecord[]
  readonly additional: readonly DnsRecord[]
}

export const emptyResponse: Response = {
  rcode: rcodeOk,
  authoritative: false,
  recursionAvailable: false,
  answers: [],
  authority: [],
  additional: [],
}

/** Reads a query with exactly one question; undefined for responses and for what cannot be read. */
export function readQuery(message: Buffer): Query | undefined {
  if (message.length < 17) return undefined
  const flags = message.readUInt16BE(2)
  if ((flags & 0x8000) !== 0 || message.readUInt16BE(4) !== 1) return undefined
  const labels: string[] = []
  let at = 12
  for (;;) {
    const length = message[at]
    if (length === undefined || length > 63) return undefined
    at += 1
    if (length === 0) break
    if (at + length > message.length || at + length > 12 + 255) return undefined
    labels.push(message.toString('latin1', at, at + length))
    at += length
  }
  if (at + 4 > message.length) return undefined
  return {
    id: message.readUInt16BE(0),
    opcode: (flags >> 11) & 0xf,
    recursionDesired: (flags & 0x0100) !== 0,
    name: labels.join('.'),
    type: message.readUInt16BE(at),
    end: at + 4,
  }
}

/** Header bytes of a query that cannot be read, for a format error answer. */
export function formatError(message: Buffer): Buffer | undefined {
  if (message.length < 12 || ((message[2] as number) & 0x80) !== 0) return undefined
  const out = Buffer.alloc(12)
  out.writeUInt16BE(message.readUInt16BE(0), 0)
  out.writeUInt16BE(0x8000 | (message.readUInt16BE(2) & 0x7900) | rcodeFormatError, 2)
  return out
}

class Writer {
  buffer: Buffer = Buffer.allocUnsafe(1024)
  length = 0
  readonly #names = new Map<string, number>()

  #room(bytes: number): void {
    if (this.length + bytes <= this.buffer.length) return
    const grown = Buffer.allocUnsafe(Math.max(this.buffer.length * 2, this.length + bytes))
    this.buffer.copy(grown, 0, 0, this.length)
    this.buffer = grown
  }
  u8(value: number): void {
    this.#room(1)
    this.buffer[this.length++] = value
  }
  u16(value: number): void {
    this.#room(2)
    this.length = this.buffer.writeUInt16BE(value, this.length)
  }
  u32(value: number): void {
    this.#room(4)
    this.length = this.buffer.writeUInt32BE(value >>> 0, this.length)
  }
  bytes(value: Uint8Array): void {
    this.#room(value.length)
    this.buffer.set(value, this.length)
    this.length += value.length
  }
  /** Writes a name; its suffixes become targets of later pointers, earlier ones are pointed at if `compress`. */
  name(name: string, compress: boolean): void {
    const labels = name === '' ? [] : name.split('.')
    for (let i = 0; i < labels.length; i++) {
      const suffix = labels.slice(i).join('.')
      const known = this.#names.get(suffix)
      if (compress && known !== undefined) {
        this.u16(0xc000 | known)
        return
      }
      if (known === undefined && this.length < 0x4000) this.#names.set(suffix, this.length)
      const label = Buffer.from(labels[i] as string, 'latin1').subarray(0, 63)
      this.u8(label.length)
      this.bytes(label)
    }
    this.u8(0)
  }
}

const soaRefresh = 3_600
const soaRetry = 600
const soaExpire = 86_400

/** One record, TTL 0. Names inside SRV data stay uncompressed (RFC 2782). */
function writeRecord(w: Writer, record: DnsRecord): void {
  w.name(record.type === typeSoa ? 'discoverd' : record.name, true)
  w.u16(record.type)
  w.u16(1)
  w.u32(0)
  const lengthAt = w.length
  w.u16(0)
  switch (record.type) {
    case typeA:
    case typeAaaa:
      w.bytes(record.address)
      break
    case typeSrv:
      w.u16(1)
      w.u16(1)
      w.u16(record.port)
      w.name(record.target, false)
      break
    case typeSoa:
      w.name('ns.discoverd', true)
      w.name('postmaster.discoverd', true)
      w.u32(record.serial)
      for (const seconds of [soaRefresh, soaRetry, soaExpire, 0]) w.u32(seconds)
  }
  const dataBytes = w.length - lengthAt - 2
  w.buffer.writeUInt16BE(dataBytes, lengthAt)
}

/** Writes as many of the records as fit; answers how many. */
function writeSection(w: Writer, records: readonly DnsRecord[], bytesMax: number): number {
  let count = 0
  for (const record of records) {
    const before = w.length
    writeRecord(w, record)
    if (w.length > bytesMax) {
      w.length = before
      return count
    }
    count++
  }
  return count
}

/** The response to a query; the question is echoed byte for byte, so answers keep the case of the name. */
export function writeResponse(message: Buffer, query: Query, response: Response, bytesMax: number): Buffer {
  const w = new Writer()
  w.u16(query.id)
  w.u16(
    0x8000 |
      (query.opcode << 11) |
      (response.authoritative ? 0x0400 : 0) |
      (query.recursionDesired ? 0x0100 : 0) |
      (response.recursionAvailable ? 0x0080 : 0) |
      response.rcode,
  )
  w.u16(1)
  for (let i = 0; i < 3; i++) w.u16(0)
  w.name(query.name, false)
  w.bytes(message.subarray(query.end - 4, query.end))
  const counts = [response.answers, response.authority, response.additional].map(records =>
    writeSection(w, records, bytesMax),
  )
  // Only now: writing a section may have moved the buffer.
  for (const [i, count] of counts.entries()) w.buffer.writeUInt16BE(count, 6 + 2 * i)
  return w.buffer.subarray(0, w.length)
}
