import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, connect, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { silentLogger } from '../log/log.ts'
import { httpd, refusedBodyBytesMax, type Server } from './httpd.ts'

const bodyBytesMax = 1024
const piece = Buffer.alloc(1024 * 1024, 'x')
let server: Server
let port: number
before(async () => {
  server = httpd({ log: silentLogger(), name: 'test', bodyBytesMax })
  server.post('/', async () => ({}))
  await server.listen({ host: '127.0.0.1', port: 0 })
  port = (server.server.address() as AddressInfo).port
})
after(() => server?.close())

/** Writes the head and `pieces` MiB, and looks for an answer only then, as simple clients do. */
async function send(head: string, pieces: number, frame: (data: Buffer) => Buffer[]): Promise<Socket> {
  const socket = connect({ host: '127.0.0.1', port })
  socket.pause()
  socket.write(`POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n${head}\r\n\r\n`)
  for (let i = 0; i < pieces; i++)
    for (const data of frame(piece)) if (!socket.write(data)) await once(socket, 'drain')
  return socket
}

async function answer(socket: Socket): Promise<string> {
  let text = ''
  for await (const chunk of socket.iterator({ destroyOnReturn: false })) {
    text += String(chunk)
    if (text.endsWith('}')) break
  }
  return text
}

const plain = (data: Buffer) => [data]
const chunked = (data: Buffer) => [Buffer.from(`${data.length.toString(16)}\r\n`), data, Buffer.from('\r\n')]

for (const [name, head, frame] of [
  ['of a length told', `Content-Length: ${8 * piece.length}`, plain],
  ['of unknown length', 'Transfer-Encoding: chunked', chunked],
] as const)
  test(`a client that sends a body ${name} over the limit reads the refusal, and goes on`, async () => {
    for (let i = 0; i < 10; i++) {
      const socket = await send(head, 8, frame)
      if (frame === chunked) socket.write('0\r\n\r\n')
      const text = await answer(socket)
      assert.match(text, /^HTTP\/1\.1 400 /)
      assert.match(text, /"code":"request_body_too_big"/)
      socket.write(
        'POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}',
      )
      assert.match(await answer(socket), /^HTTP\/1\.1 200 /)
      socket.destroy()
    }
  })

test('a refused body that does not come to an end is cut off', async () => {
  const pieces = (4 * refusedBodyBytesMax) / piece.length
  const cut = { code: /ECONNRESET|EPIPE/ }
  await assert.rejects(send('Transfer-Encoding: chunked', pieces, chunked), cut)
  await assert.rejects(send(`Content-Length: ${pieces * piece.length}`, pieces, plain), cut)
})
