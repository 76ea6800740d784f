// The way from outside: TLS with a pin in place of chain and name checks, on a server of the test's own.
import assert from 'node:assert/strict'
import { createServer, type Server } from 'node:https'
import type { AddressInfo } from 'node:net'
import { after, before, test } from 'node:test'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { createClusterCertificate } from '../../pkg/tls/certificate.ts'
import { type ConnectOptions, ControllerClient } from '../client.ts'

let server: Server
let pin: string
let ca: string

before(async () => {
  const made = await createClusterCertificate(['controller.example.test'], new Date())
  pin = made.pin
  ca = made.ca_cert
  server = createServer({ cert: made.cert, key: made.private_key }, (req, res) => {
    if (req.url === '/apps/gone') res.writeHead(404).end()
    else res.end(JSON.stringify([{ name: req.headers.host }]))
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
})
after(() => {
  server.closeAllConnections()
  server.close()
})

function client(connect: ConnectOptions): ControllerClient {
  const { port } = server.address() as AddressInfo
  return new ControllerClient({
    url: `https://controller.example.test:${port}`,
    key: 'k',
    connect: { address: '127.0.0.1', ...connect },
  })
}

const call = { retryMs: 0 }

test('the pinned certificate is trusted whoever signed it, at an address without DNS', async () => {
  const [app] = await client({ tlsPin: pin }).apps(call)
  assert.match(app?.name ?? '', /^controller\.example\.test:/)
})

test('another certificate than the pinned one is refused with a remedy', async () => {
  const wrong = client({ tlsPin: Buffer.alloc(32).toString('base64') })
  await assert.rejects(wrong.apps(call), e => isFlynnError(e, 'tls_pin_mismatch') && e.remedy !== undefined)
  await assert.rejects(wrong.runJobAttached('x', { release: 'y' }), e => isFlynnError(e, 'tls_pin_mismatch'))
})

test('without a pin the chain is checked', async () => {
  await assert.rejects(client({}).apps(call))
  assert.equal((await client({ ca }).apps(call)).length, 1)
})

test('an empty 404 is told as not found', async () => {
  await assert.rejects(client({ tlsPin: pin }).app('gone', call), e => isFlynnError(e, 'not_found'))
})
