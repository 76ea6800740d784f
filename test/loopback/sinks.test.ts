// Log sinks from the controller's API to a syslog server: through the scheduler and the host's daemon (contract
// system-apps.md 2). Jobs are plain processes.
import assert from 'node:assert/strict'
import type { AddressInfo } from 'node:net'
import { createServer, type Server, type Socket } from 'node:net'
import { after, before, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import {
  createRelease,
  type Platform,
  patienceMs,
  scaleTo,
  startPlatform,
  uniqueName,
} from '../fixtures/platform.ts'

let platform: Platform
let server: Server
let received = ''
const sockets = new Set<Socket>()

before(async () => {
  platform = await startPlatform(81)
  await platform.startScheduler()
  server = createServer(socket => {
    sockets.add(socket)
    socket.on('data', chunk => {
      received += String(chunk)
    })
    socket.on('error', () => undefined)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
after(async () => {
  await platform?.remove()
  for (const socket of sockets) socket.destroy()
  server?.close()
})

const until = (what: string, good: () => Promise<boolean> | boolean) =>
  poll(async () => good(), { timeoutMs: patienceMs, intervalMs: 50, what })

async function talk(words: string): Promise<string> {
  const app = await platform.client.createApp({ name: uniqueName('talker') })
  const code = `console.log(${JSON.stringify(words)}); setInterval(() => {}, 1000)`
  const release = await createRelease(platform.client, app, { web: { args: [process.execPath, '-e', code] } })
  await scaleTo(platform.client, app, release, { web: 1 })
  return app.name
}

test('what jobs say reaches a sink, from before it was made and after, until it is removed', async () => {
  const early = await talk('said before')
  const { port } = server.address() as AddressInfo
  const config = { url: `syslog://127.0.0.1:${port}`, template: 'to-ops', format: 'newline' as const }
  const sink = await platform.client.createSink({ kind: 'syslog', config })
  await until('the line from before', () => received.includes('to-ops said before'))
  assert.match(received, new RegExp(` ${early} web\\.\\S+ ID1 - to-ops said before\n`))
  await talk('said after')
  await until('the line from after', () => received.includes('to-ops said after'))
  assert.equal(received.split('said before').length, 2, 'each line once')
  await platform.client.deleteSink(sink.id)
  await until('the connection to end', () => [...sockets].every(s => s.destroyed || s.readableEnded))
})
