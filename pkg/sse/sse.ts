// Server-sent events as the original frames them (contracts host.md 0.3, controller.md 1.12): optional `id:` line,
// `data: <json>`, empty line; a lone `:` line after 30 s of silence; `event: error` with a plain text.
import type { ServerResponse } from 'node:http'
import type { Readable } from 'node:stream'

export const sseKeepAliveMs = 30_000
/** A subscriber that lets this much pile up is cut off rather than allowed to fill our memory. */
export const sseBufferBytesMax = 8 * 1024 * 1024
/** `drained` waits while more than this is unsent. */
export const sseDrainBytes = 256 * 1024

export type SseWriter = {
  /** Sends one value; false when the stream is closed (also when it was just cut off for being too slow). */
  send(value: unknown, id?: string): boolean
  error(message: string): void
  close(): void
  /** Resolves when the reader has caught up enough to be sent more, or is gone: for whoever sends long lists. */
  drained(): Promise<void>
  readonly closed: boolean
}

/** Takes over a response and writes events to it until closed from either side. */
export function sseWriter(
  res: ServerResponse,
  onClose: () => void,
  keepAliveMs: number = sseKeepAliveMs,
): SseWriter {
  let closed = false
  res.writeHead(200, { 'content-type': 'text/event-stream; charset=utf-8' })
  res.flushHeaders()
  let timer = setInterval(beat, keepAliveMs)
  function beat(): void {
    res.write(':\n')
  }
  function write(text: string): boolean {
    if (closed) return false
    if (res.writableLength > sseBufferBytesMax) {
      finish()
      res.destroy()
      return false
    }
    res.write(text)
    clearInterval(timer)
    timer = setInterval(beat, keepAliveMs)
    return true
  }
  function finish(): void {
    if (closed) return
    closed = true
    clearInterval(timer)
    onClose()
  }
  res.once('close', finish)
  return {
    send: (value, id) => write(`${id === undefined ? '' : `id: ${id}\n`}data: ${JSON.stringify(value)}\n\n`),
    error: message => {
      write(`event: error\ndata: ${message.replaceAll('\n', ' ')}\n\n`)
    },
    close: () => {
      finish()
      res.end()
    },
    async drained() {
      while (!closed && res.writableLength > sseDrainBytes)
        await new Promise<void>(resolve => {
          const go = () => {
            res.off('drain', go)
            res.off('close', go)
            resolve()
          }
          res.once('drain', go)
          res.once('close', go)
        })
    },
    get closed() {
      return closed
    },
  }
}

export type SseMessage = { readonly event: string; readonly data: string; readonly id?: string }

/** Parses a stream of events; keep-alive comments are dropped. Ends when the stream ends, throws when it breaks. */
export async function* readSse(stream: Readable | AsyncIterable<Uint8Array>): AsyncGenerator<SseMessage> {
  const decoder = new TextDecoder()
  let rest = ''
  let event = 'message'
  let id: string | undefined
  let data: string[] = []
  for await (const chunk of stream) {
    rest += decoder.decode(chunk as Uint8Array, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    for (const raw of lines) {
      const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw
      if (line === '') {
        if (data.length > 0) yield { event, data: data.join('\n'), ...(id === undefined ? {} : { id }) }
        event = 'message'
        id = undefined
        data = []
      } else if (line.startsWith('data:')) data.push(line.slice(line[5] === ' ' ? 6 : 5))
      else if (line.startsWith('event:')) event = line.slice(6).trim()
      else if (line.startsWith('id:')) id = line.slice(3).trim()
    }
  }
}
