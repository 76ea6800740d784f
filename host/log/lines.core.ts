// Splits a byte stream into lines: at newlines, and every `lineBytesMax` bytes of a line that has none. Counts the
// bytes that are in emitted lines, so that a reader of a file can go on after a restart where it was. Pure.
import { lineBytesMax } from './record.core.ts'

export type LineSplitter = {
  /** Lines completed by this chunk, without their newlines. */
  push(chunk: Uint8Array): readonly Uint8Array[]
  /** The unterminated last line, if there is one. */
  end(): readonly Uint8Array[]
  /** Bytes of input that have become lines. */
  readonly consumed: number
}

const newline = 10

export function lineSplitter(max: number = lineBytesMax): LineSplitter {
  let rest: Uint8Array = new Uint8Array(0)
  let consumed = 0
  return {
    push(chunk) {
      let bytes: Uint8Array = chunk
      if (rest.length > 0) {
        bytes = new Uint8Array(rest.length + chunk.length)
        bytes.set(rest)
        bytes.set(chunk, rest.length)
      }
      const lines: Uint8Array[] = []
      let at = 0
      for (;;) {
        const end = bytes.indexOf(newline, at)
        const stop = end < 0 ? bytes.length : end
        if (stop - at > max) {
          lines.push(bytes.subarray(at, at + max))
          at += max
          continue
        }
        if (end < 0) break
        lines.push(bytes.subarray(at, end))
        at = end + 1
      }
      rest = new Uint8Array(bytes.subarray(at))
      consumed += at
      return lines
    },
    end() {
      const last = rest
      consumed += last.length
      rest = new Uint8Array(0)
      return last.length > 0 ? [last] : []
    },
    get consumed() {
      return consumed
    },
  }
}
