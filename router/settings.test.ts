// Environment and flags as contract router.md 1 has them.
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { silentLogger } from '../pkg/log/log.ts'
import { unavailablePageBytesMax } from './config.core.ts'
import { fetchPage } from './page.ts'
import { readSettings } from './settings.ts'

const COOKIE_KEY = Buffer.alloc(32, 7).toString('base64')
const read = (env: Record<string, string>, flags: Record<string, string> = {}) =>
  readSettings({ COOKIE_KEY, ...env }, flags)

test('without anything said a router has the ports of the platform and modern TLS', async () => {
  const settings = await read({})
  assert.deepEqual([settings.httpPort, settings.httpsPort, settings.listenIp], [80, 443, '0.0.0.0'])
  assert.deepEqual(settings.tcpRange, { first: 3000, last: 3500 })
  assert.deepEqual([settings.legacyTls, settings.proxyProtocol, settings.accessLog], [false, false, true])
  assert.equal(settings.defaultPem, undefined)
})

test('the environment wins over flags, and 0 turns plain HTTP or the TCP range off', async () => {
  const flags = { 'http-port': '8080', 'https-port': '4433', 'tcp-range-start': '0', 'tcp-range-end': '0' }
  const given = await read({}, flags)
  assert.deepEqual([given.httpPort, given.httpsPort, given.tcpRange], [8080, 4433, undefined])
  const env = await read({ DEFAULT_HTTP_PORT: '0', DEFAULT_HTTPS_PORT: '8443' }, flags)
  assert.deepEqual([env.httpPort, env.httpsPort], [undefined, 8443])
})

test('a cookie key that is missing or of the wrong size is said in the words of the original', async () => {
  await assert.rejects(readSettings({}, {}), /Missing random 32 byte base64-encoded COOKIE_KEY/)
  const short = Buffer.alloc(31).toString('base64')
  await assert.rejects(
    readSettings({ COOKIE_KEY: short }, {}),
    /decoded 31 bytes from COOKIE_KEY, expected 32/,
  )
})

test('HTTPS cannot be turned off, and what is no port is named', async () => {
  await assert.rejects(read({ DEFAULT_HTTPS_PORT: '0' }), /Cannot disable HTTPS access/)
  for (const bad of ['http', '70000', '-1', '1.5'])
    await assert.rejects(read({ ADDITIONAL_HTTP_PORTS: `8080,${bad}` }), /ADDITIONAL_HTTP_PORTS/, bad)
  const settings = await read({ ADDITIONAL_HTTP_PORTS: '8080,8081', ADDITIONAL_HTTPS_PORTS: '8443' })
  assert.deepEqual([settings.additionalHttpPorts, settings.additionalHttpsPorts], [[8080, 8081], [8443]])
})

test('jobs and the host itself connect without a PROXY line unless the operator says who does', async () => {
  const usual = await read({ PROXY_PROTOCOL: 'true', EXTERNAL_IP: '192.0.2.7' })
  assert.deepEqual(usual.proxyExempt, ['127.0.0.0/8', '100.100.0.0/16', '192.0.2.7'])
  const said = await read({ PROXY_PROTOCOL: 'true', PROXY_PROTOCOL_EXEMPT: '10.0.0.0/8,no network' })
  assert.deepEqual(said.proxyExempt, ['10.0.0.0/8'])
})

test('the page for a 503 is fetched once, and one that cannot be used is left out', async () => {
  const pages: Record<string, [number, string]> = {
    '/good': [200, '<h1>soon</h1>'],
    '/missing': [404, 'nothing'],
    '/long': [200, 'x'.repeat(unavailablePageBytesMax + 1)],
  }
  const server = createServer((req, res) => {
    const [status, body] = pages[req.url ?? ''] ?? [500, '']
    res.writeHead(status).end(body)
  }).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const at = (path: string) =>
    fetchPage(`http://127.0.0.1:${(server.address() as AddressInfo).port}${path}`, silentLogger())
  try {
    assert.equal(await at('/good'), '<h1>soon</h1>')
    assert.equal(await at('/missing'), undefined)
    assert.equal(await at('/long'), undefined)
    assert.equal(await fetchPage(undefined, silentLogger()), undefined)
  } finally {
    server.closeAllConnections()
    server.close()
  }
})
