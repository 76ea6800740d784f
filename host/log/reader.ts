// Reads an app's records from its files, oldest first, and goes on with what is appended. A reader that lags reads
// from disk, so it costs no memory and loses nothing short of a second rotation.
import { type FileHandle, open, stat } from 'node:fs/promises'
import type { AppLog } from './file.ts'
import { logFiles } from './file.ts'
import { type LogRecord, parseFrame } from './record.core.ts'

export const readChunkBytes = 64 * 1024

export type LogReader = {
  /** The next record, or undefined when everything committed so far has been read. */
  next(): Promise<LogRecord | undefined>
  close(): Promise<void>
}

type Source = { readonly handle: FileHandle; readonly generation: number | undefined }

export type LogReaderOptions = {
  readonly dir: string
  readonly log: AppLog
  /** Start with what is on disk; otherwise only what is committed after the reader was opened. */
  readonly history: boolean
  /** Old files that were last written before this time (ms since 1970) are left out. */
  readonly sinceMs?: number
}

async function oldFiles(options: LogReaderOptions): Promise<readonly string[]> {
  const found = (logFiles(options.dir).get(options.log.name) ?? []).filter(f => f !== options.log.path)
  const wanted: string[] = []
  for (const file of found) {
    const info = await stat(file).catch(() => undefined)
    if (info && info.mtimeMs >= (options.sinceMs ?? 0)) wanted.push(file)
  }
  return wanted
}

/** The live file, with the generation and the committed size that belong to it. */
async function openLive(log: AppLog): Promise<{ readonly source: Source; readonly bytes: number }> {
  for (;;) {
    const { generation } = log
    const handle = await open(log.path, 'r')
    if (log.generation === generation) return { source: { handle, generation }, bytes: log.bytes }
    await handle.close()
  }
}

/** Opens the files at once, so that a rotation in between takes nothing away. */
export async function openLogReader(options: LogReaderOptions): Promise<LogReader> {
  const { log } = options
  const queue: Source[] = []
  const live = await openLive(log)
  const old = options.history ? await oldFiles(options) : []
  for (const file of old) queue.push({ handle: await open(file, 'r'), generation: undefined })
  queue.push(live.source)
  let offset = options.history ? 0 : live.bytes
  let buffer: Uint8Array = new Uint8Array(0)
  let at = 0
  let closed = false

  /** End of the committed part of a file: old files are read to their end. */
  const limit = async (source: Source): Promise<number> =>
    source.generation === log.generation ? log.bytes : (await source.handle.stat()).size

  async function fill(source: Source): Promise<boolean> {
    const end = await limit(source)
    const size = Math.min(readChunkBytes, end - offset)
    if (size <= 0) return false
    const chunk = new Uint8Array(size)
    const { bytesRead } = await source.handle.read(chunk, 0, size, offset)
    if (bytesRead === 0) return false
    offset += bytesRead
    const rest = buffer.subarray(at)
    const joined = new Uint8Array(rest.length + bytesRead)
    joined.set(rest)
    joined.set(chunk.subarray(0, bytesRead), rest.length)
    buffer = joined
    at = 0
    return true
  }

  /** Moves on to the next file when an old one has been read. */
  async function advance(source: Source): Promise<void> {
    if (queue.length === 1) queue.push((await openLive(log)).source)
    queue.shift()
    await source.handle.close()
    offset = 0
    buffer = new Uint8Array(0)
    at = 0
  }

  return {
    async next() {
      while (!closed) {
        const source = queue[0]
        if (!source) return undefined
        if (at < buffer.length) {
          const frame = parseFrame(buffer, at)
          if (frame.type !== 'incomplete') {
            at += frame.size
            if (frame.type === 'frame' && frame.record) return frame.record
            continue
          }
        }
        // Decided before the attempt: what was appended just before a rotation must be read first.
        const old = source.generation !== log.generation
        if (await fill(source)) continue
        if (!old) return undefined
        await advance(source)
      }
      return undefined
    },
    async close() {
      if (closed) return
      closed = true
      await Promise.all(queue.map(s => s.handle.close()))
    },
  }
}
