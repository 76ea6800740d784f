// The syslog side: TCP connections of hosts, octet-counted frames in (RFC 6587), each message to the aggregator.
import { createServer, type Server, type Socket } from 'node:net'
import type { Logger } from '../pkg/log/log.ts'
import { frameDecoder } from '../pkg/syslog/syslog.core.ts'
import type { Aggregator } from './aggregator.ts'

export const connectionsMax = 1_000
export const keepAliveDelayMs = 30_000
/** Of an unusable message, what is put into our own log. */
const sampleCharsMax = 200

function receive(socket: Socket, aggregator: Aggregator, log: Logger): void {
  const decoder = frameDecoder()
  let skipped = 0
  socket.setKeepAlive(true, keepAliveDelayMs)
  socket.on('data', chunk => {
    try {
      for (const text of decoder.push(chunk)) {
        if (aggregator.ingest(text)) continue
        skipped++
        // Once a connection: a confused sender must not fill this log with its own.
        if (skipped === 1) log.warn({ sample: text.slice(0, sampleCharsMax) }, 'unusable message skipped')
      }
    } catch (err) {
      log.warn({ err, from: socket.remoteAddress }, 'bad frame, connection ended')
      socket.destroy()
    }
  })
  socket.on('error', err => log.debug({ err, from: socket.remoteAddress }, 'connection broke'))
  socket.on('close', () => {
    if (skipped > 1) log.warn({ skipped, from: socket.remoteAddress }, 'unusable messages skipped')
  })
}

export type SyslogServer = { readonly port: number; close(): Promise<void> }

export async function listenSyslog(options: {
  readonly host: string
  readonly port: number
  readonly aggregator: Aggregator
  readonly log: Logger
}): Promise<SyslogServer> {
  const sockets = new Set<Socket>()
  const server: Server = createServer(socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
    receive(socket, options.aggregator, options.log)
  })
  server.maxConnections = connectionsMax
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port, options.host, resolve)
  })
  const address = server.address()
  return {
    port: typeof address === 'object' && address ? address.port : options.port,
    async close() {
      for (const socket of sockets) socket.destroy()
      await new Promise(resolve => server.close(resolve))
    },
  }
}
