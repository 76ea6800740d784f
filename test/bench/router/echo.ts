// Echo over upgraded or plain TCP connections, as a process of its own so that it can be pinned: `echo.ts serve PORT`, or
// `echo.ts load PORT HOST SECONDS CONNECTIONS` (HOST `-` for plain TCP), which prints what it did as JSON.
import { createServer } from 'node:http'
import { connect, createServer as createTcpServer, type Socket } from 'node:net'

const bytes = 1024
const message = Buffer.alloc(bytes, 'x')

/** Takes both: an upgrade begins with GET, everything else is echoed from its first byte on. */
function serve(port: number): void {
  const http = createServer((_req, res) => res.end())
  http.on('upgrade', (_req, socket) => {
    socket.on('error', () => undefined)
    socket.write('HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n')
    socket.pipe(socket)
  })
  createTcpServer({ noDelay: true }, socket => {
    socket.on('error', () => undefined)
    socket.once('readable', () => {
      const first = socket.read() as Buffer | null
      if (first === null) return
      socket.unshift(first)
      if (first[0] === 0x47) http.emit('connection', socket)
      else socket.pipe(socket)
    })
  }).listen(port, '127.0.0.1')
}

async function opened(port: number, host: string): Promise<Socket> {
  const socket = connect({ port, host: '127.0.0.1', noDelay: true })
  await new Promise((resolve, reject) => {
    socket.once('error', reject)
    socket.once('connect', resolve)
  })
  if (host === '-') return socket
  socket.write(`GET / HTTP/1.1\r\nHost: ${host}\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n`)
  await new Promise((resolve, reject) => {
    let head = ''
    const listen = (chunk: Buffer) => {
      head += chunk.toString('latin1')
      if (!head.includes('\r\n\r\n')) return
      socket.off('data', listen)
      if (head.startsWith('HTTP/1.1 101')) resolve(undefined)
      else reject(new Error(head))
    }
    socket.on('data', listen)
    socket.once('close', () => reject(new Error(`closed after "${head}"`)))
  })
  return socket
}

async function load(port: number, host: string, seconds: number, connections: number): Promise<void> {
  const times: number[] = []
  let failed = 0
  const until = performance.now() + seconds * 1000
  const talk = async () => {
    const socket = await opened(port, host)
    await new Promise<void>(resolve => {
      let [missing, sent] = [0, 0]
      const send = () => {
        if (performance.now() >= until) {
          socket.destroy()
          resolve()
          return
        }
        missing = bytes
        sent = performance.now()
        socket.write(message)
      }
      socket.on('data', chunk => {
        missing -= chunk.length
        if (missing > 0) return
        times.push(performance.now() - sent)
        send()
      })
      socket.once('close', () => {
        if (performance.now() < until) failed++
        resolve()
      })
      socket.on('error', () => undefined)
      send()
    })
  }
  const results = await Promise.allSettled(Array.from({ length: connections }, talk))
  failed += results.filter(r => r.status === 'rejected').length
  times.sort((a, b) => a - b)
  const at = (share: number) => times[Math.floor(times.length * share)] ?? 0
  process.stdout.write(
    JSON.stringify({
      requests: times.length,
      failed,
      p50Ms: at(0.5),
      p99Ms: at(0.99),
      perSecond: times.length / seconds,
    }),
  )
}

const [verb, port = '', host = '', seconds = '', connections = ''] = process.argv.slice(2)
if (verb === 'serve') serve(Number(port))
else await load(Number(port), host, Number(seconds), Number(connections))
