// Frames of the attach protocol flynn-attach/0 (contract host.md 2.5): encoding and an incremental decoder. Pure;
// used by the daemon, by host/client.ts and by whoever proxies or implements the protocol's other end.

export type AttachStream = 'stdin' | 'stdout' | 'stderr' | 'initLog'

export type AttachFrame =
  | { readonly type: 'success' }
  | { readonly type: 'waiting' }
  | { readonly type: 'error'; readonly message: string }
  /** An empty payload is the end of that stream. */
  | { readonly type: 'data'; readonly stream: AttachStream; readonly data: Uint8Array }
  | { readonly type: 'signal'; readonly signal: number }
  | { readonly type: 'exit'; readonly status: number }
  | { readonly type: 'resize'; readonly rows: number; readonly columns: number }

/** A frame whose length field is larger than this ends the connection. */
export const attachFrameBytesMax = 1024 * 1024

const streams = ['stdin', 'stdout', 'stderr', 'initLog'] as const
const kind = { success: 0, waiting: 1, error: 2, data: 3, signal: 4, exit: 5, resize: 6 } as const
const utf8 = new TextEncoder()
const empty = new Uint8Array(0)

function layout(head: readonly [size: 1 | 2 | 4, value: number][], payload: Uint8Array = empty): Uint8Array {
  const size = head.reduce((sum, [n]) => sum + n, 0)
  const out = new Uint8Array(size + payload.length)
  const view = new DataView(out.buffer)
  let at = 0
  for (const [n, value] of head) {
    if (n === 1) view.setUint8(at, value)
    else if (n === 2) view.setUint16(at, value)
    else view.setUint32(at, value)
    at += n
  }
  out.set(payload, at)
  return out
}

/** One frame as bytes. Payloads above `attachFrameBytesMax` must be split by the caller. */
export function encodeFrame(frame: AttachFrame): Uint8Array {
  switch (frame.type) {
    case 'success':
    case 'waiting':
      return layout([[1, kind[frame.type]]])
    case 'error': {
      const text = utf8.encode(frame.message)
      return layout(
        [
          [1, kind.error],
          [4, text.length],
        ],
        text,
      )
    }
    case 'data':
      return layout(
        [
          [1, kind.data],
          [1, streams.indexOf(frame.stream)],
          [4, frame.data.length],
        ],
        frame.data,
      )
    case 'signal':
      return layout([
        [1, kind.signal],
        [4, frame.signal],
      ])
    case 'exit':
      return layout([
        [1, kind.exit],
        [4, frame.status],
      ])
    case 'resize':
      return layout([
        [1, kind.resize],
        [2, frame.rows],
        [2, frame.columns],
      ])
  }
}

/** Length of the frame at the start of `bytes`, its parsed form, or undefined while bytes are missing. */
function parse(bytes: Uint8Array): { readonly frame: AttachFrame; readonly size: number } | undefined {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const has = (n: number) => bytes.length >= n
  const length = (at: number): number => {
    const n = view.getUint32(at)
    if (n > attachFrameBytesMax) throw new Error(`attach: frame of ${n} bytes is too long`)
    return n
  }
  switch (bytes[0]) {
    case kind.success:
      return { frame: { type: 'success' }, size: 1 }
    case kind.waiting:
      return { frame: { type: 'waiting' }, size: 1 }
    case kind.error: {
      if (!has(5)) return undefined
      const size = 5 + length(1)
      if (!has(size)) return undefined
      return {
        frame: { type: 'error', message: new TextDecoder().decode(bytes.subarray(5, size)) },
        size,
      }
    }
    case kind.data: {
      if (!has(6)) return undefined
      const stream = streams[bytes[1] ?? 255]
      if (stream === undefined) throw new Error(`attach: unknown stream ${bytes[1]}`)
      const size = 6 + length(2)
      if (!has(size)) return undefined
      return { frame: { type: 'data', stream, data: new Uint8Array(bytes.subarray(6, size)) }, size }
    }
    case kind.signal:
      return has(5) ? { frame: { type: 'signal', signal: view.getUint32(1) }, size: 5 } : undefined
    case kind.exit:
      return has(5) ? { frame: { type: 'exit', status: view.getUint32(1) }, size: 5 } : undefined
    case kind.resize:
      return has(5)
        ? { frame: { type: 'resize', rows: view.getUint16(1), columns: view.getUint16(3) }, size: 5 }
        : undefined
    default:
      throw new Error(`attach: unknown frame type ${bytes[0]}`)
  }
}

function concat(a: Uint8Array, b: Uint8Array): Uint8Array {
  if (a.length === 0) return b
  const out = new Uint8Array(a.length + b.length)
  out.set(a)
  out.set(b, a.length)
  return out
}

/** Takes bytes as they come and gives the frames they complete; throws on anything that is not the protocol. */
export function frameDecoder(): { push(chunk: Uint8Array): AttachFrame[]; readonly pending: number } {
  let rest: Uint8Array = empty
  return {
    push(chunk) {
      rest = concat(rest, chunk)
      const frames: AttachFrame[] = []
      while (rest.length > 0) {
        const next = parse(rest)
        if (!next) break
        frames.push(next.frame)
        rest = rest.subarray(next.size)
      }
      return frames
    },
    get pending() {
      return rest.length
    },
  }
}
