// The token service over real HTTP: its contract (host.md 6.1), its limits, hosts that find each other by it, and whom a host
// of the cluster turns away.
import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { after, before, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { findOnlineHosts } from '../../bootstrap/actions/hosts.ts'
import { tokensPerHourMax } from '../../discovery/api.ts'
import { createToken, registerHost, tokenAddresses } from '../../discovery/client.ts'
import { instancesPerTokenMax, openStore, tokenIdleDaysMax } from '../../discovery/store.ts'
import { HostClient } from '../../host/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { version } from '../../pkg/version/version.ts'
import { loopbackNet } from '../fixtures/etcd.ts'
import { freePort } from '../fixtures/ports.ts'
import { type ProcessHost, startProcessHost } from '../fixtures/process-host.ts'

const main = fileURLToPath(new URL('../../host/main.ts', import.meta.url))
const key = 'the-key-of-this-test'
let dir: string
let server: ChildProcess
let url: string
let port: number

/** The command that a user runs. */
async function startServer(): Promise<void> {
  const argv = [main, 'discovery-server', '--listen', `127.0.0.1:${port}`, '--data', `${dir}/tokens.sqlite`]
  server = spawn(process.execPath, argv, { stdio: 'ignore' })
  const answers = async () => (await fetch(`${url}/.well-known/status`)).ok
  await poll(answers, { timeoutMs: 30_000, what: 'the token server' })
}

async function stopServer(): Promise<void> {
  const ended = once(server, 'exit')
  server.kill('SIGTERM')
  assert.deepEqual(await ended, [0, null])
}

before(async () => {
  dir = await mkdtemp('/var/tmp/discovery-test-')
  port = await freePort()
  url = `http://127.0.0.1:${port}`
  await startServer()
})

after(async () => {
  await stopServer()
  await rm(dir, { recursive: true, force: true })
})

const post = (path: string, body?: unknown) =>
  fetch(`${url}${path}`, { method: 'POST', ...(body === undefined ? {} : { body: JSON.stringify(body) }) })
const newPath = async () => (await post('/clusters')).headers.get('location') ?? ''
const code = (wanted: string) => (e: unknown) => isFlynnError(e, wanted)

test('a token is a Location, hosts behind it are listed, and the same host is a 409 with its id', async () => {
  const made = await post('/clusters')
  assert.equal(made.status, 201)
  const path = made.headers.get('location') ?? ''
  assert.match(path, /^\/clusters\/[0-9a-f-]{36}$/)
  assert.deepEqual(await (await fetch(`${url}${path}/instances`)).json(), { data: [] })
  const keys = [{ type: 'rsa', data: 'AAAA' }]
  const host = { name: 'h1', url: 'http://192.0.2.1:1113', flynn_version: 'v1', ssh_public_keys: keys }
  const first = await post(`${path}/instances`, { data: host })
  assert.equal(first.status, 201)
  const { data } = (await first.json()) as { data: { id: string } }
  const again = await post(`${path}/instances`, { data: host })
  assert.equal(again.status, 409)
  assert.deepEqual(await again.json(), { data })
  const listed = (await (await fetch(`${url}${path}/instances`)).json()) as { data: Record<string, string>[] }
  assert.equal(listed.data.length, 1)
  const { created_at, ...rest } = listed.data[0] ?? {}
  assert.ok(!Number.isNaN(Date.parse(created_at ?? '')))
  assert.deepEqual(rest, { ...host, id: data.id, cluster_id: path.split('/')[2] })
})

test('a host that comes from another address is known by its name', async () => {
  const token = await createToken(url)
  await registerHost(token, { name: 'h1', url: 'http://192.0.2.1:1113' })
  await registerHost(token, { name: 'h2', url: 'http://192.0.2.2:1113' })
  await registerHost(token, { name: 'h1', url: 'http://192.0.2.9:1113' })
  assert.deepEqual((await tokenAddresses(token)).toSorted(), ['192.0.2.2', '192.0.2.9'])
})

test('tokens outlive the server', async () => {
  const token = await createToken(url)
  await registerHost(token, { name: 'h1', url: 'http://192.0.2.1:1113' })
  await stopServer()
  await startServer()
  assert.deepEqual(await tokenAddresses(token), ['192.0.2.1'])
})

test('wrong input names the field, unknown tokens are 404, tokens cannot be listed', async () => {
  const path = await newPath()
  const good = { name: 'h1', url: 'http://192.0.2.1:1113' }
  for (const [body, field] of [
    [{ data: { ...good, name: '' } }, 'data.name'],
    [{ data: { ...good, url: 'file:///etc/passwd' } }, 'data.url'],
    [{ data: { ...good, url: 'http://a/b?c' } }, 'data.url'],
    [{ data: { ...good, flynn_version: 'x'.repeat(200) } }, 'data.flynn_version'],
    [{}, 'data'],
    [[], 'data'],
  ] as const) {
    const answer = await post(`${path}/instances`, body)
    assert.equal(answer.status, 400, JSON.stringify(body))
    const error = (await answer.json()) as { code: string; message: string }
    assert.equal(error.code, 'validation_error')
    assert.ok(error.message.startsWith(field), error.message)
  }
  assert.equal((await fetch(`${url}${path}/instances`, { method: 'POST', body: '{' })).status, 400)
  assert.equal((await post(`${path}/instances`, { data: { ...good, pad: 'x'.repeat(70_000) } })).status, 400)
  assert.equal((await fetch(`${url}/clusters/nonsense/instances`)).status, 404)
  assert.equal((await post('/clusters/nonsense/instances', { data: good })).status, 404)
  assert.equal((await fetch(`${url}/clusters`)).status, 404)
})

test('clients say what is wrong with a token, and that no server is known by default', async () => {
  await assert.rejects(createToken(undefined), code('no_server'))
  await assert.rejects(createToken('http://127.0.0.1:1'), code('unreachable'))
  await assert.rejects(tokenAddresses('abc'), code('bad_token'))
  await assert.rejects(tokenAddresses('file:///etc/passwd'), code('bad_token'))
  await assert.rejects(tokenAddresses(`${url}/clusters/nonsense`), (e: unknown) => {
    return isFlynnError(e, 'unreachable') && /404.*no such discovery token/.test(e.message)
  })
})

test('hosts of one token are limited in number', async () => {
  const token = await createToken(url)
  for (let n = 0; n < instancesPerTokenMax; n++)
    await registerHost(token, { name: `h${n}`, url: 'http://192.0.2.1:1113' })
  const more = await post(`${new URL(token).pathname}/instances`, {
    data: { name: 'one-more', url: 'http://192.0.2.1:1113' },
  })
  assert.equal(more.status, 409)
  assert.equal(((await more.json()) as { code?: string }).code, 'conflict')
})

test('tokens that nobody uses end, those in use do not', () => {
  let now = Date.parse('2026-01-01T00:00:00Z')
  const store = openStore(':memory:', () => now)
  const dayMs = 24 * 60 * 60 * 1000
  const [used, unused] = [store.createToken(), store.createToken()]
  now += (tokenIdleDaysMax - 1) * dayMs
  store.instances(used)
  now += 2 * dayMs
  assert.deepEqual(store.instances(used), [])
  assert.throws(() => store.instances(unused), code('object_not_found'))
  store.close()
})

test('hosts find each other by a token, and bootstrap finds them', async () => {
  const token = await createToken(url)
  const [a, b] = [loopbackNet(90), loopbackNet(91)]
  const hosts: ProcessHost[] = []
  try {
    hosts.push(await startProcessHost({ id: 'hosta', net: a, discovery: token, authKey: key }))
    hosts.push(await startProcessHost({ id: 'hostb', net: b, discovery: token, authKey: key }))
    assert.deepEqual((await tokenAddresses(token)).toSorted(), [`${a}.1`, `${b}.1`].toSorted())
    for (const host of hosts)
      await poll(async () => (await host.client.hosts()).length === 2, {
        timeoutMs: 10_000,
        what: `${host.id} to know both`,
      })
    const found = await findOnlineHosts({
      urls: async () => (await tokenAddresses(token)).map(ip => `http://${ip}:1113`),
      ...{ authKey: key, wanted: 2, timeoutMs: 10_000, signal: AbortSignal.timeout(20_000) },
    })
    assert.deepEqual(found.map(h => h.id).sort(), ['hosta', 'hostb'])
    // A server that is away keeps no host from coming back.
    await hosts[1]?.stopDaemon()
    await stopServer()
    await hosts[1]?.startDaemon()
    assert.equal((await hosts[1]?.client.hosts())?.length, 2)
  } finally {
    for (const host of hosts) await host.remove()
    await startServer()
  }
})

test('a new host needs the token server, and the key of the cluster', async () => {
  const net = loopbackNet(92)
  const dead = `http://127.0.0.1:1/clusters/x`
  await assert.rejects(
    startProcessHost({ id: 'hostc', net, discovery: dead, authKey: key }),
    code('unreachable'),
  )
  const token = await createToken(url)
  const first = await startProcessHost({ id: 'hosta', net: loopbackNet(90), discovery: token, authKey: key })
  try {
    const wrong = { id: 'hostd', net: loopbackNet(93), discovery: token, authKey: 'another-key' }
    await assert.rejects(startProcessHost(wrong), (e: unknown) => {
      return isFlynnError(e, 'wrong_key') && /flynn-host init/.test(e.remedy ?? '')
    })
  } finally {
    await first.remove()
  }
})

test('a stranger behind the token is never shown the key, and keeps nobody out', async () => {
  const token = await createToken(url)
  const seen: string[] = []
  const genuine = await startProcessHost({
    id: 'hosta',
    net: loopbackNet(90),
    discovery: token,
    authKey: key,
  })
  // Passes every question on to a host that has the key.
  const stranger = createServer(async (req, res) => {
    seen.push(JSON.stringify(req.headers))
    const answer = await fetch(`http://${genuine.address}:1113${req.url}`)
    res.writeHead(answer.status, { 'content-type': 'application/json' }).end(await answer.text())
  })
  const at = `${loopbackNet(94)}.1`
  await new Promise<void>(resolve => stranger.listen(1113, at, () => resolve()))
  await registerHost(token, { name: 'stranger', url: `http://${at}:1113` })
  const hosts = [genuine]
  try {
    hosts.push(await startProcessHost({ id: 'hostb', net: loopbackNet(91), discovery: token, authKey: key }))
    assert.deepEqual((await hosts[1]?.client.hosts())?.map(h => h.id).sort(), ['hosta', 'hostb'])
    assert.equal(seen.length, 1)
    assert.ok(!seen.join().includes(key))
  } finally {
    stranger.close()
    for (const host of hosts) await host.remove()
  }
})

test('a host of another version is turned away with both versions named, a member is not', async () => {
  const net = loopbackNet(90)
  const host = await startProcessHost({ id: 'hosta', net, authKey: key })
  const client = new HostClient({ url: `http://${host.address}:1113`, authKey: key })
  try {
    const newcomer = { id: 'hostb', address: '192.0.2.7', version: 'v20200101.0' }
    await assert.rejects(client.join(newcomer, { retryMs: 0 }), (e: unknown) => {
      if (!isFlynnError(e, 'version_mismatch')) return false
      assert.equal(e.status, 409)
      assert.match(e.message, new RegExp(`hosta .*${version.replaceAll('.', '\\.')}.*v20200101\\.0`))
      return /same version/.test(e.remedy ?? '')
    })
    assert.equal((await client.hosts()).length, 1)
    await client.join({ ...newcomer, version })
    // During an update it is ahead for a while.
    await client.join({ ...newcomer, version: 'v20300101.0' })
    // Somebody else under the name of one that answers.
    const taken = { id: 'hosta', address: '192.0.2.8', version }
    await assert.rejects(client.join(taken, { retryMs: 0 }), code('host_id_taken'))
  } finally {
    await host.remove()
  }
})

test('new tokens of one address are limited in an hour', async () => {
  let limited = 0
  for (let n = 0; n <= tokensPerHourMax; n++) if ((await post('/clusters')).status === 429) limited++
  assert.ok(limited > 0)
})
