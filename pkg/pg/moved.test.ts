import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer, type Socket } from 'node:net'
import { after, test } from 'node:test'
import { movedCheckMs, socketsTo } from './moved.ts'

/** Answers everything but `silence`. */
const server = createServer(socket => {
  socket.on('data', data => String(data) !== 'silence' && socket.write('answer'))
  socket.on('error', () => undefined)
})
server.listen(0, '127.0.0.1')
await once(server, 'listening')
const { port } = server.address() as AddressInfo
let address: string | undefined = '127.0.0.1'
const make = socketsTo('leader.test.discoverd', async () => address)

after(() => server.close())

async function connect(): Promise<Socket> {
  const socket = make()
  socket.connect(port, '127.0.0.1')
  await once(socket, 'connect')
  return socket
}

async function ended(socket: Socket, ms: number): Promise<string | undefined> {
  try {
    const [error] = (await once(socket, 'error', { signal: AbortSignal.timeout(ms) })) as [
      Error & { code: string },
    ]
    return error.code
  } catch {
    return undefined
  }
}

test('a socket that waits for an answer ends when the name stands for another address', async () => {
  const socket = await connect()
  socket.write('silence')
  assert.equal(await ended(socket, movedCheckMs * 1.5), undefined)
  address = undefined
  assert.equal(await ended(socket, movedCheckMs * 1.5), undefined)
  address = '127.0.0.2'
  assert.equal(await ended(socket, movedCheckMs * 10), 'ECONNRESET')
})

test('a socket that waits for nothing is left alone', async () => {
  address = '127.0.0.2'
  const socket = await connect()
  socket.write('question')
  await once(socket, 'data')
  assert.equal(await ended(socket, movedCheckMs * 2.5), undefined)
  socket.destroy()
})
