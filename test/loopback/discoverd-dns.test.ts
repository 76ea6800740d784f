// discoverd's DNS on real sockets, and the words it passes with flynn-host (contract discoverd.md 1.3, 11).
import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { createServer, type IncomingMessage } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { decode, encode, type RecordType } from 'dns-packet'
import { poll } from '../../pkg/clock/clock.ts'
import { instanceId } from '../../pkg/ids/ids.ts'
import { newDaemon, type TestDaemon } from '../fixtures/discoverd.ts'
import { loopbackNet } from '../fixtures/etcd.ts'

const net = loopbackNet(44)
const host = `${net}.1`
const deadline = { timeoutMs: 20_000, intervalMs: 20 }
let daemon: TestDaemon

before(async () => {
  daemon = await newDaemon({ host, flags: ['-dns-addr', `${host}:53`, '-recursors', `${net}.53:53`] })
  daemon.start()
  await daemon.ready()
})
after(() => daemon.remove())

async function askUdp(name: string, type: RecordType): Promise<ReturnType<typeof decode>> {
  const socket = createSocket('udp4')
  try {
    const query = encode({ type: 'query', id: 1, flags: 0x100, questions: [{ name, type }] })
    socket.send(query, 53, host)
    const [message] = (await once(socket, 'message', { signal: AbortSignal.timeout(8_000) })) as [Buffer]
    return decode(message)
  } finally {
    socket.close()
  }
}

async function askTcp(name: string, type: RecordType): Promise<ReturnType<typeof decode>> {
  const socket = connect(53, host)
  const query = encode({ type: 'query', id: 1, questions: [{ name, type }] })
  const length = Buffer.alloc(2)
  length.writeUInt16BE(query.length)
  // In two pieces: a stream has no message borders.
  socket.write(Buffer.concat([length, query.subarray(0, 5)]))
  socket.write(query.subarray(5))
  let received = Buffer.alloc(0)
  for await (const chunk of socket) {
    received = Buffer.concat([received, chunk as Buffer])
    if (received.length >= 2 && received.length >= received.readUInt16BE(0) + 2) break
  }
  return decode(received.subarray(2))
}

describe('DNS', () => {
  test('answers over UDP and TCP from the same state', async () => {
    await daemon.client.addService('dns-web')
    const addr = '10.0.0.1:80'
    await daemon.client.putInstance('dns-web', { id: instanceId('tcp', addr), addr, proto: 'tcp' })
    for (const ask of [askUdp, askTcp]) {
      const packet = await ask('dns-web.discoverd', 'A')
      assert.deepEqual(
        packet.answers?.map(a => ('data' in a ? a.data : undefined)),
        ['10.0.0.1'],
      )
    }
    assert.equal((await askUdp('leader.dns-web.discoverd', 'A')).answers?.length, 1)
  })

  test('denies names that do not exist', async () => {
    const packet = await askUdp('dns-nope.discoverd', 'A')
    assert.equal(packet.flags ? packet.flags & 0xf : 0, 3)
    assert.equal(packet.authorities?.[0]?.type, 'SOA')
  })

  test('passes other names to the resolvers, and says so when they fail', async () => {
    const failed = await askUdp('example.com', 'A')
    assert.equal((failed.flags ?? 0) & 0xf, 2)
    const upstream = createSocket('udp4')
    upstream.on('message', (message, from) => {
      const query = decode(message)
      const answers = [{ type: 'A' as const, name: 'example.com', ttl: 5, data: '192.0.2.1' }]
      const reply = encode({ type: 'response', id: query.id ?? 0, questions: query.questions ?? [], answers })
      upstream.send(reply, from.port, from.address)
    })
    upstream.bind(53, `${net}.53`)
    await once(upstream, 'listening')
    try {
      const packet = await askUdp('example.com', 'A')
      assert.deepEqual(
        packet.answers?.map(a => ('data' in a ? a.data : undefined)),
        ['192.0.2.1'],
      )
    } finally {
      upstream.close()
    }
  })
})

test('flynn-host is told where discoverd is, and DNS starts once the host has a network', async () => {
  const notifications: unknown[] = []
  let network: unknown
  const read = async (req: IncomingMessage) => {
    let text = ''
    for await (const chunk of req) text += String(chunk)
    return JSON.parse(text) as unknown
  }
  const hostApi = createServer(async (req, res) => {
    if (req.method === 'POST') notifications.push({ path: req.url, body: await read(req) })
    res.setHeader('content-type', 'application/json')
    res.end(req.url === '/host/status' ? JSON.stringify({ network }) : '')
  })
  hostApi.listen(0, `${net}.2`)
  await once(hostApi, 'listening')
  const hostUrl = `http://${net}.2:${(hostApi.address() as AddressInfo).port}`
  const second = await newDaemon({
    host: `${net}.2`,
    env: { EXTERNAL_IP: `${net}.2`, FLYNN_JOB_ID: 'host2-job' },
    flags: ['-host-url', hostUrl],
  })
  try {
    second.start()
    const first = { job_id: 'host2-job', url: `${net}.2:1111`, dns: '' }
    await poll(() => notifications.length === 1, { ...deadline, what: 'the first notification' })
    assert.deepEqual(notifications[0], { path: '/host/discoverd', body: first })
    network = { subnet: `${net}.3/24`, mtu: 1500, resolvers: [] }
    await poll(() => notifications.length === 2, { ...deadline, what: 'the second notification' })
    assert.deepEqual(notifications[1], { path: '/host/discoverd', body: { ...first, dns: `${net}.3:53` } })
  } finally {
    await second.remove()
    hostApi.closeAllConnections()
    hostApi.close()
  }
})
