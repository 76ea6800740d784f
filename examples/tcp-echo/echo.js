// Answers every line with itself. Give it a TCP route: flynn route add tcp -s tcp-echo-web
import { createServer } from 'node:net'

const port = Number(process.env.PORT ?? 8080)
const server = createServer(socket => {
  socket.on('error', e => console.error(`connection lost: ${e.message}`))
  socket.pipe(socket)
})
server.listen(port, () => console.log(`echo listening on ${port}`))
process.on('SIGTERM', () => server.close(() => process.exit(0)))
