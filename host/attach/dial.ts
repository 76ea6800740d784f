// The client's end of the attach protocol: the upgrade, and a parsed view on the connection. Used by host/client.ts.
import { once } from 'node:events'
import { type ClientRequest, request as httpRequest } from 'node:http'
import type { Duplex } from 'node:stream'
import { FlynnError } from '../../pkg/errors/errors.ts'
import { type AttachRequest, attachProtocol } from '../types.ts'
import { type AttachFrame, attachFrameBytesMax, encodeFrame, frameDecoder } from './frames.core.ts'

export const attachDialTimeoutMs = 10_000
/** An answer that is no upgrade is read this far. */
export const attachErrorBytesMax = 64 * 1024

/** The upgraded connection, before any frame was read; `head` holds bytes that came with the upgrade. */
export type RawAttachment = { readonly socket: Duplex; readonly head: Buffer }

export type Attachment = {
  /** Frames from the host in order; ends when the connection ends. One reader. */
  frames(): AsyncGenerator<AttachFrame>
  /** Resolves when the bytes may be followed by more (back-pressure). */
  writeStdin(data: Uint8Array): Promise<void>
  closeStdin(): void
  signal(signal: number): void
  resize(rows: number, columns: number): void
  /** Safe to call twice. */
  close(): void
}

export type DialOptions = {
  readonly url: string
  readonly authKey: string | undefined
  readonly request: AttachRequest
  readonly signal?: AbortSignal | undefined
}

/** Asks for the upgrade. Rejects with the host's error when it refuses. */
export function dialAttach(options: DialOptions): Promise<RawAttachment> {
  const body = JSON.stringify(options.request)
  return new Promise((resolve, reject) => {
    const req: ClientRequest = httpRequest(new URL('/attach', options.url), {
      method: 'POST',
      headers: {
        connection: 'upgrade',
        upgrade: attachProtocol,
        'content-type': 'application/json',
        'content-length': Buffer.byteLength(body),
        ...(options.authKey === undefined ? {} : { 'auth-key': options.authKey }),
      },
      ...(options.signal === undefined ? {} : { signal: options.signal }),
    })
    const timer = setTimeout(
      () => req.destroy(new Error(`no answer to attach within ${attachDialTimeoutMs} ms`)),
      attachDialTimeoutMs,
    )
    req.once('error', e => {
      clearTimeout(timer)
      reject(e)
    })
    req.once('upgrade', (_res, socket: Duplex, head: Buffer) => {
      clearTimeout(timer)
      options.signal?.addEventListener('abort', () => socket.destroy(), { once: true })
      resolve({ socket, head })
    })
    req.once('response', res => {
      clearTimeout(timer)
      let text = ''
      res.on('data', (chunk: Buffer) => {
        if (text.length < attachErrorBytesMax) text += chunk.toString()
      })
      res.once('end', () =>
        reject(
          new FlynnError({
            code: res.statusCode === 401 ? 'unauthorized' : 'attach_refused',
            status: res.statusCode ?? 500,
            message: `attach: HTTP ${res.statusCode} ${text.trim()}`,
          }),
        ),
      )
    })
    req.end(body)
  })
}

/** Wraps an upgraded connection. */
export function openAttachment(raw: RawAttachment): Attachment {
  const { socket, head } = raw
  const send = (frame: AttachFrame): boolean => socket.writable && socket.write(encodeFrame(frame))
  // A broken connection shows as the end of `frames`; without a listener node would end the process.
  socket.on('error', () => undefined)
  return {
    async *frames() {
      const decoder = frameDecoder()
      yield* decoder.push(head)
      for await (const chunk of socket) yield* decoder.push(chunk as Uint8Array)
    },
    async writeStdin(data) {
      for (let at = 0; at < data.length; at += attachFrameBytesMax) {
        const part = data.subarray(at, at + attachFrameBytesMax)
        if (!send({ type: 'data', stream: 'stdin', data: part }) && socket.writable)
          await Promise.race([once(socket, 'drain'), once(socket, 'close')])
      }
    },
    closeStdin: () => void send({ type: 'data', stream: 'stdin', data: new Uint8Array(0) }),
    signal: signal => void send({ type: 'signal', signal }),
    resize: (rows, columns) => void send({ type: 'resize', rows, columns }),
    close: () => socket.destroy(),
  }
}
