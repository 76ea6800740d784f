// The DNS server on the bridge address: UDP and TCP sockets around the pure answers of dns.core.ts.
import { randomInt } from 'node:crypto'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server, type Socket } from 'node:net'
import type { Logger } from '../pkg/log/log.ts'
import { answer, type DnsView, inZone } from './dns.core.ts'
import {
  emptyResponse,
  formatError,
  rcodeNotImplemented,
  rcodeRefused,
  rcodeServerFailure,
  readQuery,
  tcpBytesMax,
  udpBytesMax,
  writeResponse,
} from './dns-message.core.ts'
import type { Recursor, Transport } from './recursor.ts'
import type { Store } from './store.ts'
import { splitHostPort } from './validate.core.ts'

export const tcpIdleMs = 10_000
export const tcpConnectionsMax = 256
export const udpBufferBytes = 4 * 1024 * 1024

export type DnsServer = {
  /** `ip:port` it answers on. */
  readonly addr: string
  readonly close: () => Promise<void>
}

/** Fisher-Yates; which three instances a UDP answer shows must not be guessable, or one takes all the load. */
function shuffle<T>(list: readonly T[]): readonly T[] {
  const out = [...list]
  for (let i = out.length - 1; i > 0; i--) {
    const j = randomInt(i + 1)
    const [a, b] = [out[i] as T, out[j] as T]
    out[i] = b
    out[j] = a
  }
  return out
}

/** A known service without instances reads as no such name, like the original (contract 11.2). */
export function viewOf(store: Store): DnsView {
  return {
    instances: name => {
      const instances = store.service(name)?.instances
      return instances && instances.size > 0 ? [...instances.values()] : undefined
    },
    leader: name => {
      const service = store.service(name)
      return service?.leader === undefined ? undefined : service.instances.get(service.leader)
    },
  }
}

type Answering = { readonly store: Store; readonly view: DnsView; readonly recursor: Recursor }

/** The bytes to send back; undefined when the message deserves no answer. */
async function respond(a: Answering, message: Buffer, transport: Transport): Promise<Buffer | undefined> {
  const query = readQuery(message)
  if (!query) return formatError(message)
  const bytesMax = transport === 'udp' ? udpBytesMax : tcpBytesMax
  const recursive = a.recursor.available
  const fail = (rcode: number) =>
    writeResponse(message, query, { ...emptyResponse, recursionAvailable: recursive, rcode }, bytesMax)
  if (query.opcode !== 0) return fail(rcodeNotImplemented)
  if (!inZone(query.name)) {
    if (!recursive) return fail(rcodeRefused)
    return (await a.recursor.ask(message, transport)) ?? fail(rcodeServerFailure)
  }
  // "No such name" would be a lie before the state is loaded, and is believed; a failure is tried again.
  if (!a.store.loaded) return fail(rcodeServerFailure)
  const unixSeconds = Math.floor(Date.now() / 1_000)
  const context = { view: a.view, transport, recursive, unixSeconds, shuffle }
  return writeResponse(message, query, answer(query, context), bytesMax)
}

function serveConnection(a: Answering, socket: Socket, log: Logger): void {
  let rest: Buffer = Buffer.alloc(0)
  let queue: Promise<void> = Promise.resolve()
  socket.setTimeout(tcpIdleMs, () => socket.destroy())
  socket.on('error', e => log.debug({ err: e }, 'dns connection broken'))
  const one = async (message: Buffer) => {
    const reply = await respond(a, message, 'tcp')
    if (!reply || socket.destroyed) return
    const length = Buffer.alloc(2)
    length.writeUInt16BE(reply.length)
    socket.write(Buffer.concat([length, reply]))
  }
  socket.on('data', chunk => {
    rest = Buffer.concat([rest, chunk])
    while (rest.length >= 2) {
      const length = rest.readUInt16BE(0)
      if (rest.length < length + 2) break
      const message = Buffer.from(rest.subarray(2, length + 2))
      rest = rest.subarray(length + 2)
      queue = queue.then(() => one(message)).catch(e => log.error({ err: e }, 'dns query failed'))
    }
  })
}

function listenUdp(a: Answering, host: string, port: number, log: Logger): Promise<UdpSocket> {
  const type = host.includes(':') ? 'udp6' : 'udp4'
  const socket = createSocket({ type, reusePort: true, recvBufferSize: udpBufferBytes })
  socket.on('message', (message, from) => {
    respond(a, message, 'udp')
      .then(reply => {
        if (reply) socket.send(reply, from.port, from.address)
      })
      .catch(e => log.error({ err: e }, 'dns query failed'))
  })
  return new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.bind(port, host, () => {
      socket.off('error', reject)
      socket.on('error', e => log.error({ err: e }, 'dns socket'))
      resolve(socket)
    })
  })
}

function listenTcp(a: Answering, host: string, port: number, log: Logger): Promise<Server> {
  const server = createServer(socket => serveConnection(a, socket, log))
  server.maxConnections = tcpConnectionsMax
  return new Promise((resolve, reject) => {
    server.once('error', reject)
    server.listen({ host, port, reusePort: true }, () => {
      server.off('error', reject)
      server.on('error', e => log.error({ err: e }, 'dns listener'))
      resolve(server)
    })
  })
}

/** Serves on `ip:port`, UDP and TCP; rejects when the address cannot be bound. */
export async function startDns(options: {
  readonly addr: string
  readonly store: Store
  readonly recursor: Recursor
  readonly log: Logger
}): Promise<DnsServer> {
  const split = splitHostPort(options.addr)
  if (typeof split === 'string') throw new Error(split)
  const { store, recursor, log } = options
  const answering: Answering = { store, view: viewOf(store), recursor }
  const port = Number(split.port)
  const udp = await listenUdp(answering, split.host, port, log)
  let tcp: Server
  try {
    tcp = await listenTcp(answering, split.host, udp.address().port, log)
  } catch (e) {
    udp.close()
    throw e
  }
  const sockets = new Set<Socket>()
  tcp.on('connection', socket => {
    sockets.add(socket)
    socket.on('close', () => sockets.delete(socket))
  })
  return {
    addr: `${options.addr.slice(0, options.addr.lastIndexOf(':'))}:${udp.address().port}`,
    close: async () => {
      await new Promise<void>(resolve => udp.close(() => resolve()))
      const closed = new Promise<void>(resolve => tcp.close(() => resolve()))
      for (const socket of sockets) socket.destroy()
      await closed
    },
  }
}
