// Passes questions outside the zone on to the upstream resolvers, over the transport they came by, and their answers
// back unread. Contract discoverd.md 11.3.
import { createSocket } from 'node:dgram'
import { lookup } from 'node:dns/promises'
import { connect } from 'node:net'
import { joinHostPort } from './config.core.ts'
import { errors } from './errors.ts'
import { parseIp } from './ip.core.ts'
import { splitHostPort } from './validate.core.ts'

/** For one upstream; the next is tried then. */
export const upstreamTimeoutMs = 2_000
export const upstreamQueriesMax = 1_000

export type Transport = 'udp' | 'tcp'

function split(addr: string): { readonly host: string; readonly port: number } {
  const parts = splitHostPort(addr)
  if (typeof parts === 'string') throw errors.FLAG({ text: parts })
  return { host: parts.host, port: Number(parts.port) }
}

/** Resolver addresses with host names looked up once. */
export async function resolveRecursors(addrs: readonly string[]): Promise<readonly string[]> {
  return Promise.all(
    addrs.map(async addr => {
      const { host, port } = split(addr)
      if (parseIp(host)) return addr
      try {
        return joinHostPort((await lookup(host)).address, String(port))
      } catch (e) {
        const text = `discoverd: unable to resolve recursor address ${addr}`
        throw errors.FLAG({ text }, { cause: e })
      }
    }),
  )
}

function askUdp(addr: string, query: Buffer): Promise<Buffer> {
  const { host, port } = split(addr)
  const socket = createSocket(host.includes(':') ? 'udp6' : 'udp4')
  return new Promise<Buffer>((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error(`${addr} did not answer`)), upstreamTimeoutMs)
    socket.once('error', reject)
    socket.on('message', message => {
      // The socket is connected, so this is the resolver's; a late answer to another question has another id.
      if (message.length < 12 || message.readUInt16BE(0) !== query.readUInt16BE(0)) return
      clearTimeout(timer)
      resolve(message)
    })
    socket.connect(port, host, () => socket.send(query))
  }).finally(() => socket.close())
}

function askTcp(addr: string, query: Buffer): Promise<Buffer> {
  const { host, port } = split(addr)
  const socket = connect({ host, port, timeout: upstreamTimeoutMs })
  return new Promise<Buffer>((resolve, reject) => {
    let received: Buffer = Buffer.alloc(0)
    socket.once('timeout', () => reject(new Error(`${addr} did not answer`)))
    socket.once('error', reject)
    socket.once('end', () => reject(new Error(`${addr} closed the connection`)))
    socket.on('data', chunk => {
      received = Buffer.concat([received, chunk])
      if (received.length < 2) return
      const length = received.readUInt16BE(0)
      if (received.length >= length + 2) resolve(received.subarray(2, length + 2))
    })
    socket.once('connect', () => {
      const length = Buffer.alloc(2)
      length.writeUInt16BE(query.length)
      socket.write(Buffer.concat([length, query]))
    })
  }).finally(() => socket.destroy())
}

export class Recursor {
  readonly #addrs: readonly string[]
  #open = 0

  constructor(addrs: readonly string[]) {
    this.#addrs = addrs
  }

  get available(): boolean {
    return this.#addrs.length > 0
  }

  /** The first answer that an upstream gives, in their order; undefined when none does. */
  async ask(query: Buffer, transport: Transport): Promise<Buffer | undefined> {
    if (this.#open >= upstreamQueriesMax) return undefined
    this.#open++
    try {
      for (const addr of this.#addrs) {
        const reply = await (transport === 'udp' ? askUdp(addr, query) : askTcp(addr, query)).catch(
          () => undefined,
        )
        if (reply) return reply
      }
      return undefined
    } finally {
      this.#open--
    }
  }
}
