// Sockets to the server that a name of discoverd stands for. A dead host says nothing, so a query sent to it would wait for its
// own time limit, long after another server leads. While an answer is waited for, the name is looked up once a second, and
// the socket is ended when it stands for another address. Used by pg.ts for every connection.
import { lookup } from 'node:dns/promises'
import { Socket } from 'node:net'

export const movedCheckMs = 1_000

/** Answers the address that a name stands for, or nothing when it stands for none. */
export type Resolve = (name: string) => Promise<string | undefined>

async function resolveByDns(name: string): Promise<string | undefined> {
  try {
    return (await lookup(name, { family: 4 })).address
  } catch {
    // No leader at the moment, or no discoverd: nothing to move to.
    return undefined
  }
}

type Watched = { answeredAt: number }

/** A maker of sockets, as `pg` takes it; all of them are watched together. */
export function socketsTo(name: string, resolve: Resolve = resolveByDns): () => Socket {
  const open = new Map<Socket, Watched>()
  let timer: NodeJS.Timeout | undefined
  let looking = false

  async function look(): Promise<void> {
    const waiting = [...open].filter(([socket, seen]) => socket.bytesWritten > seen.answeredAt)
    if (looking || waiting.length === 0) return
    looking = true
    const address = await resolve(name)
    looking = false
    if (address === undefined) return
    for (const [socket] of waiting) {
      if (socket.remoteAddress === undefined || socket.remoteAddress === address) continue
      const text = `${name} has moved from ${socket.remoteAddress} to ${address}`
      socket.destroy(Object.assign(new Error(text), { code: 'ECONNRESET' }))
    }
  }
  function watch(socket: Socket): void {
    const seen: Watched = { answeredAt: 0 }
    open.set(socket, seen)
    timer ??= setInterval(() => void look(), movedCheckMs).unref()
    socket.on('data', () => {
      seen.answeredAt = socket.bytesWritten
    })
  }
  function forget(socket: Socket): void {
    open.delete(socket)
    if (open.size > 0) return
    clearInterval(timer)
    timer = undefined
  }
  return () => {
    const socket = new Socket()
    socket.once('connect', () => watch(socket))
    socket.once('close', () => forget(socket))
    return socket
  }
}
