// The upgrade of `POST /attach` to flynn-attach/0 on the host's HTTP server. The request has a JSON body, which node
// hands over as the first bytes of the upgraded connection.
import type { Server as HttpServer, IncomingMessage } from 'node:http'
import type { Duplex } from 'node:stream'
import { Value } from 'typebox/value'
import { AttachRequest, attachProtocol } from '../types.ts'
import { type AttachContext, serveAttach } from './session.ts'

export const attachBodyBytesMax = 64 * 1024
export const attachBodyTimeoutMs = 10_000

export type AttachServerOptions = {
  readonly server: HttpServer
  readonly context: Omit<AttachContext, 'attached'>
  /** Whether the request carries an accepted key. */
  readonly authorized: (req: IncomingMessage) => boolean
}

function refuse(socket: Duplex, status: string, text: string): void {
  const body = `${text}\n`
  socket.end(
    `HTTP/1.1 ${status}\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  )
}

/** Reads exactly `length` bytes; answers them and what came behind. Rejects when the client stops or is too slow. */
function readBody(socket: Duplex, head: Buffer, length: number): Promise<{ body: Buffer; rest: Buffer }> {
  return new Promise((resolve, reject) => {
    let bytes = head
    const settle = () => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', onClose)
      socket.pause()
    }
    const check = () => {
      if (bytes.length < length) return false
      settle()
      resolve({ body: bytes.subarray(0, length), rest: bytes.subarray(length) })
      return true
    }
    const onData = (chunk: Buffer) => {
      bytes = Buffer.concat([bytes, chunk])
      check()
    }
    const onClose = () => {
      settle()
      reject(new Error('attach: the client went away'))
    }
    const timer = setTimeout(() => socket.destroy(), attachBodyTimeoutMs)
    socket.on('data', onData)
    socket.once('close', onClose)
    check()
  })
}

async function upgrade(
  options: AttachServerOptions & { readonly attached: Set<string> },
  req: IncomingMessage,
  socket: Duplex,
  head: Buffer,
): Promise<void> {
  socket.on('error', () => undefined)
  if (!options.authorized(req)) return refuse(socket, '401 Unauthorized', 'authentication required')
  if (req.method !== 'POST' || req.url?.split('?')[0] !== '/attach')
    return refuse(socket, '404 Not Found', '404 page not found')
  if (req.headers.upgrade !== attachProtocol)
    return refuse(socket, '400 Bad Request', `Upgrade must be ${attachProtocol}`)
  const length = Number(req.headers['content-length'])
  if (!Number.isInteger(length) || length <= 0 || length > attachBodyBytesMax)
    return refuse(socket, '400 Bad Request', 'invalid JSON')
  const { body, rest } = await readBody(socket, head, length)
  let request: unknown
  try {
    request = JSON.parse(body.toString())
  } catch {
    return refuse(socket, '400 Bad Request', 'invalid JSON')
  }
  if (!Value.Check(AttachRequest, request)) return refuse(socket, '400 Bad Request', 'invalid JSON')
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${attachProtocol}\r\n\r\n`,
  )
  await serveAttach({ ...options.context, attached: options.attached }, socket, rest, request)
}

/** Takes over the upgrades of a server. Returns the function that ends all attachments. */
export function attachServer(options: AttachServerOptions): () => void {
  const attached = new Set<string>()
  const sockets = new Set<Duplex>()
  options.server.on('upgrade', (req: IncomingMessage, socket: Duplex, head: Buffer) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    upgrade({ ...options, attached }, req, socket, head).catch((err: unknown) => {
      options.context.log.info({ err }, 'attach was not served')
      socket.destroy()
    })
  })
  return () => {
    for (const socket of sockets) socket.destroy()
  }
}
