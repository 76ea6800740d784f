import assert from 'node:assert/strict'
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { test } from 'node:test'
import { reach } from './reach.ts'

test('a port that listens is open, also when nobody accepts; one that does not is refused', async () => {
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  assert.equal(await reach('127.0.0.1', port, 5_000), 'open')
  server.close()
  await once(server, 'close')
  assert.equal(await reach('127.0.0.1', port, 5_000), 'refused')
})
