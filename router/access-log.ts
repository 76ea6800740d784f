// Takes the access lines from HAProxy's ring over a unix socket. Lines come in frames of RFC 6587; while nobody listens
// they wait in the ring, the oldest are lost first, and no request ever waits for this.
import { chmod, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import type { Logger } from '../pkg/log/log.ts'
import { frameDecoder } from '../pkg/syslog/syslog.core.ts'
import { type Access, parseAccess } from './access.core.ts'

export type AccessListener = { close(): Promise<void> }

/** Listens at `path`; every worker of HAProxy connects to it. */
export async function listenAccess(options: {
  readonly path: string
  readonly log: Logger
  readonly onAccess: (access: Access) => void
}): Promise<AccessListener> {
  const { path, log, onAccess } = options
  await rm(path, { force: true })
  const sockets = new Set<{ destroy(): void }>()
  const server = createServer(socket => {
    const decoder = frameDecoder()
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
    socket.on('error', err => log.debug({ err }, 'access log connection broke'))
    socket.on('data', chunk => {
      try {
        for (const line of decoder.push(chunk)) {
          const access = parseAccess(line)
          if (access) onAccess(access)
        }
      } catch (err) {
        log.warn({ err }, 'access log connection sent no frame')
        socket.destroy()
      }
    })
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(path, resolve)
  })
  // Workers have given up root when they connect; nothing but access lines is taken here.
  await chmod(path, 0o666)
  return {
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
