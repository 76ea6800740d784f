// discoverd's HTTP interface, streams and expiry, on one daemon with its real etcd (contract discoverd.md 3-10, 17).
import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { after, before, describe, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { instanceId } from '../../pkg/ids/ids.ts'
import { newDaemon, type TestDaemon } from '../fixtures/discoverd.ts'
import { loopbackNet } from '../fixtures/etcd.ts'

const host = `${loopbackNet(42)}.1`
const deadline = { timeoutMs: 20_000, intervalMs: 20 }
let daemon: TestDaemon

before(async () => {
  daemon = await newDaemon({ host })
  daemon.start()
  await daemon.ready()
})
after(() => daemon.remove())

type Answer = { readonly status: number; readonly body: string; readonly headers: Headers }

async function call(method: string, path: string, body?: string, type = 'application/json'): Promise<Answer> {
  const res = await fetch(`${daemon.url}${path}`, {
    method,
    redirect: 'manual',
    ...(body === undefined ? {} : { body, headers: { 'content-type': type } }),
  })
  return { status: res.status, body: await res.text(), headers: res.headers }
}

const fault = (code: string, message: string) => JSON.stringify({ code, message, retry: false })

function instance(addr: string, meta?: Record<string, string>) {
  return { id: instanceId('tcp', addr), addr, proto: 'tcp', ...(meta ? { meta } : {}) }
}

async function register(service: string, addr: string, meta?: Record<string, string>): Promise<string> {
  const i = instance(addr, meta)
  const res = await call('PUT', `/services/${service}/instances/${i.id}`, JSON.stringify(i))
  assert.deepEqual([res.status, res.body], [200, ''])
  return i.id
}

/** Reads a stream's bytes until the text satisfies the condition, then lets go. */
async function streamText(path: string, enough: (text: string) => boolean): Promise<string> {
  const abort = AbortSignal.timeout(15_000)
  const res = await fetch(`${daemon.url}${path}`, { headers: { accept: 'text/event-stream' }, signal: abort })
  assert.equal(res.headers.get('content-type'), 'text/event-stream; charset=utf-8')
  assert.ok(res.body)
  let text = ''
  for await (const chunk of res.body) {
    text += Buffer.from(chunk).toString()
    if (enough(text)) return text
  }
  return text
}

describe('services', () => {
  test('a service is created once', async () => {
    const created = await call('PUT', '/services/svc-create', '{}')
    assert.deepEqual([created.status, created.body, created.headers.get('content-type')], [200, '', null])
    const again = await call('PUT', '/services/svc-create', '{"leader_type":"manual"}')
    const text = fault('object_exists', 'discoverd: service "svc-create" already exists')
    assert.deepEqual([again.status, again.body], [409, text])
    assert.ok((await daemon.client.services()).includes('svc-create'))
  })

  test('bad names, bodies and types are refused before anything is stored', async () => {
    const name = await call('PUT', '/services/Bad_Name', 'no json either')
    assert.deepEqual(
      [name.status, name.body],
      [400, fault('validation_error', 'discoverd: service must be lowercase alphanumeric plus dash')],
    )
    const syntax = fault('syntax_error', 'The provided JSON input is invalid')
    for (const body of ['{', '', '[]', '"x"', '{"leader_type":1}']) {
      const res = await call('PUT', '/services/svc-bad', body)
      assert.deepEqual([res.status, res.body], [400, syntax], body)
    }
    const type = await call('PUT', '/services/svc-bad', '{}', 'text/plain')
    assert.deepEqual(
      [type.status, type.body],
      [400, fault('validation_error', 'Content-Type must be application/json')],
    )
    assert.ok(!(await daemon.client.services()).includes('svc-bad'))
  })

  test('a body over the limit is refused', async () => {
    const body = JSON.stringify({ x: 'x'.repeat(1024 * 1024) })
    const res = await call('PUT', '/services/svc-big', body)
    assert.equal(res.status, 400)
    assert.equal(JSON.parse(res.body).code, 'request_body_too_big')
  })

  test('a removed service is gone with its instances, leader and metadata', async () => {
    await call('PUT', '/services/svc-gone', '{}')
    await register('svc-gone', '10.0.0.1:80')
    await call('PUT', '/services/svc-gone/meta', '{"data":1,"index":0}')
    assert.equal((await call('DELETE', '/services/svc-gone')).status, 200)
    for (const rest of ['/instances', '/leader', '/meta'])
      assert.equal((await call('GET', `/services/svc-gone${rest}`)).status, 404)
    const again = await call('DELETE', '/services/svc-gone')
    assert.deepEqual(
      [again.status, again.body],
      [404, fault('object_not_found', 'discoverd: service "svc-gone" not found')],
    )
    await call('PUT', '/services/svc-gone', '{}')
    assert.deepEqual(await daemon.client.instances('svc-gone'), [])
  })

  test('unknown paths and methods are a plain 404', async () => {
    for (const [method, path] of [
      ['GET', '/nothing'],
      ['POST', '/services/x'],
      ['PATCH', '/raft/peers/1.2.3.4:1111'],
    ] as const) {
      const res = await call(method, path)
      assert.deepEqual([res.status, res.body], [404, '404 page not found\n'])
    }
  })

  test('answers name the peers and the index', async () => {
    const res = await call('GET', '/ping')
    assert.deepEqual([res.status, res.body], [200, ''])
    assert.equal(res.headers.get('discoverd-peers'), `${host}:1111`)
    assert.ok(Number(res.headers.get('discoverd-index')) > 0)
    assert.equal((await call('GET', '/.well-known/status')).body, '{"data":{"status":"healthy"}}')
    assert.equal((await call('GET', '/raft/leader')).body, `{"host":"${host}:1111"}`)
    assert.equal((await call('GET', '/raft/peers')).body, `["${host}:1111"]`)
  })
})

describe('instances', () => {
  test('are listed by age and keep their index through updates', async () => {
    await call('PUT', '/services/ins-order', '{}')
    const first = await register('ins-order', '10.0.0.2:80')
    const second = await register('ins-order', '10.0.0.1:80', { a: '1' })
    const before = await daemon.client.instances('ins-order')
    assert.deepEqual(
      before.map(i => i.id),
      [first, second],
    )
    assert.ok((before[0]?.index ?? 0) > 0 && (before[0]?.index ?? 0) < (before[1]?.index ?? 0))
    await register('ins-order', '10.0.0.2:80', { b: '2' })
    const now = await daemon.client.instances('ins-order')
    assert.deepEqual(now[0], { ...before[0], meta: { b: '2' } })
    assert.equal((await daemon.client.leader('ins-order'))?.id, first)
  })

  test('that are wrong are refused with what is wrong', async () => {
    await call('PUT', '/services/ins-bad', '{}')
    const good = instance('10.0.0.1:80')
    for (const [body, message] of [
      [{ ...good, proto: '' }, 'discoverd: proto must be set'],
      [{ ...good, proto: 'TCP' }, 'discoverd: proto must be lowercase alphanumeric'],
      [{ ...good, addr: 'x' }, 'address x: missing port in address'],
      [{ ...good, id: 'x' }, `discoverd: instance id is incorrect, expected ${good.id}`],
    ] as const) {
      const res = await call('PUT', '/services/ins-bad/instances/any', JSON.stringify(body), 'text/plain')
      assert.deepEqual([res.status, res.body], [400, fault('validation_error', message)])
    }
    const list = await call('GET', '/services/ins-bad/instances')
    assert.deepEqual(
      [list.status, list.body],
      [404, fault('object_not_found', 'service not found: "ins-bad"')],
    )
  })

  test('of an unknown service are refused', async () => {
    const i = instance('10.0.0.1:80')
    const text = fault('object_not_found', 'discoverd: service "ins-unknown" not found')
    const put = await call('PUT', `/services/ins-unknown/instances/${i.id}`, JSON.stringify(i))
    assert.deepEqual([put.status, put.body], [404, text])
    const del = await call('DELETE', `/services/ins-unknown/instances/${i.id}`)
    assert.deepEqual([del.status, del.body], [404, text])
  })

  test('are removed, also ones that were not there', async () => {
    await call('PUT', '/services/ins-del', '{}')
    const id = await register('ins-del', '10.0.0.1:80')
    for (const _ of [1, 2])
      assert.equal((await call('DELETE', `/services/ins-del/instances/${id}`)).status, 200)
    assert.deepEqual(await daemon.client.instances('ins-del'), [])
  })

  test('may be named in one request, which tells of each what became of it', async () => {
    await call('PUT', '/services/ins-many', '{}')
    const [a, b] = [instance('10.0.0.1:80'), instance('10.0.0.2:80')]
    const beats = [
      { service: 'ins-many', instance: a },
      { service: 'ins-unknown', instance: b },
      { service: 'ins-many', instance: { ...b, id: 'another' } },
    ]
    const { status, body } = await call('POST', '/heartbeats', JSON.stringify(beats))
    const codes = (JSON.parse(body) as ({ readonly code: string } | null)[]).map(r => r?.code ?? null)
    assert.deepEqual([status, codes], [200, [null, 'object_not_found', 'validation_error']])
    assert.deepEqual(
      (await daemon.client.instances('ins-many')).map(i => i.id),
      [a.id],
    )
    for (const wrong of ['{}', '[{}]', '[{"service":"ins-many"}]', JSON.stringify(Array(201).fill(beats[0]))])
      assert.equal((await call('POST', '/heartbeats', wrong)).status, 400)
  })

  test('without heartbeats expire, others stay', async () => {
    await call('PUT', '/services/ins-ttl', '{}')
    const silent = await register('ins-ttl', '10.0.0.1:80')
    const kept = await daemon.client.register({ service: 'ins-ttl', addr: '10.0.0.2:80' })
    // Its heartbeats go in one request with those of the other.
    const beside = await daemon.client.register({ service: 'ins-ttl-2', addr: '10.0.0.3:80', create: true })
    try {
      assert.equal((await daemon.client.leader('ins-ttl'))?.id, silent)
      await poll(async () => (await daemon.client.instances('ins-ttl')).length === 1, {
        ...deadline,
        what: 'the silent instance to expire',
      })
      assert.equal((await daemon.client.leader('ins-ttl'))?.id, kept.instance.id)
      assert.deepEqual(
        (await daemon.client.instances('ins-ttl-2')).map(i => i.id),
        [beside.instance.id],
      )
    } finally {
      await Promise.all([kept.close(), beside.close()])
    }
    assert.deepEqual(await daemon.client.instances('ins-ttl'), [])
  })
})

describe('metadata', () => {
  const put = (service: string, body: unknown) =>
    call('PUT', `/services/${service}/meta`, JSON.stringify(body))

  test('is written only with the index last read', async () => {
    await call('PUT', '/services/meta-cas', '{}')
    assert.equal((await call('GET', '/services/meta-cas/meta')).status, 404)
    const created = await put('meta-cas', { data: { a: 1 }, index: 0 })
    const { index } = JSON.parse(created.body)
    assert.deepEqual(JSON.parse(created.body), { data: { a: 1 }, index })
    const stored = await call('GET', '/services/meta-cas/meta')
    assert.equal(stored.body, created.body)
    const updated = JSON.parse((await put('meta-cas', { data: 2, index })).body)
    assert.ok(updated.index > index)
    for (const [sent, status, code, message] of [
      [0, 409, 'object_exists', 'Service metadata for "meta-cas" already exists, use index=n to set'],
      [index, 412, 'precondition_failed', 'Service metadata for "meta-cas" exists, but wrong index provided'],
    ] as const) {
      const res = await put('meta-cas', { data: 3, index: sent })
      assert.deepEqual([res.status, res.body], [status, fault(code, message)])
    }
  })

  test('that does not exist cannot be updated, nor that of no service', async () => {
    await call('PUT', '/services/meta-none', '{}')
    const none = await put('meta-none', { data: 1, index: 5 })
    const text = 'Service metadata for "meta-none" does not exist, use index=0 to set'
    assert.deepEqual([none.status, none.body], [412, fault('precondition_failed', text)])
    const unknown = await put('meta-unknown', { data: 1, index: 0 })
    assert.deepEqual(
      [unknown.status, unknown.body],
      [404, fault('object_not_found', 'discoverd: service "meta-unknown" not found')],
    )
  })

  test('one of many writers with the same index wins', async () => {
    await daemon.client.addService('meta-race')
    const writes = Array.from({ length: 10 }, (_, n) =>
      daemon.client.setMeta('meta-race', { data: n, index: 0 }).then(
        () => n,
        e => {
          assert.ok(isFlynnError(e, 'object_exists'))
          return undefined
        },
      ),
    )
    const winners = (await Promise.all(writes)).filter(n => n !== undefined)
    assert.equal(winners.length, 1)
    assert.equal((await daemon.client.getMeta('meta-race'))?.data, winners[0])
  })
})

describe('leaders', () => {
  test('of a manual service are named by clients', async () => {
    await call('PUT', '/services/lead-manual', '{"leader_type":"manual"}')
    const first = await register('lead-manual', '10.0.0.1:80')
    const second = await register('lead-manual', '10.0.0.2:80')
    assert.equal(await daemon.client.leader('lead-manual'), undefined)
    await daemon.client.setLeader('lead-manual', second)
    assert.equal((await daemon.client.leader('lead-manual'))?.id, second)
    await daemon.client.setMeta('lead-manual', { data: null, index: 0, leader_id: first })
    assert.equal((await daemon.client.leader('lead-manual'))?.id, first)
    assert.deepEqual((await daemon.client.getMeta('lead-manual'))?.data, null)
  })

  test('of other services cannot be named', async () => {
    await call('PUT', '/services/lead-auto', '{}')
    for (const service of ['lead-auto', 'lead-unknown']) {
      const res = await call('PUT', `/services/${service}/leader`, 'not even json')
      assert.deepEqual(
        [res.status, res.body],
        [400, fault('validation_error', 'service leader election type is not manual')],
      )
    }
    const none = await call('GET', '/services/lead-auto/leader')
    assert.deepEqual([none.status, none.body], [404, fault('object_not_found', 'no leader found')])
  })
})

describe('streams', () => {
  test('replay what is there, in order, then show live changes', async () => {
    await call('PUT', '/services/str-all', '{}')
    const id = await register('str-all', '10.0.0.1:80')
    await call('PUT', '/services/str-all/meta', '{"data":1,"index":0}')
    const [one] = await daemon.client.instances('str-all')
    const meta = await daemon.client.getMeta('str-all')
    let seen = ''
    const reading = streamText('/services/str-all', text => {
      seen = text
      return text.includes('"down"')
    })
    await poll(() => seen.includes('"current"'), { ...deadline, what: 'the replay' })
    await call('DELETE', `/services/str-all/instances/${id}`)
    const expected = [
      { service: 'str-all', kind: 'up', instance: one },
      { service: 'str-all', kind: 'leader', instance: one },
      { service: 'str-all', kind: 'service_meta', service_meta: meta },
      { service: 'str-all', kind: 'current' },
      { service: 'str-all', kind: 'down', instance: one },
    ]
    const frames = expected.map(e => `data: ${JSON.stringify(e)}\n\n`).join('')
    assert.ok((await reading).startsWith(frames), seen)
  })

  test('of instances show no leader and no current', async () => {
    await call('PUT', '/services/str-ins', '{}')
    await register('str-ins', '10.0.0.1:80')
    const reading = streamText('/services/str-ins/instances', text => text.split('\n\n').length > 2)
    await register('str-ins', '10.0.0.2:80')
    const kinds = (await reading).match(/"kind":"\w+"/g)
    assert.deepEqual(kinds, ['"kind":"up"', '"kind":"up"'])
  })

  test('of leaders show leaders only', async () => {
    await call('PUT', '/services/str-lead', '{}')
    await register('str-lead', '10.0.0.1:80')
    const text = await streamText('/services/str-lead/leader', t => t.includes('\n\n'))
    assert.match(text, /^data: \{"service":"str-lead","kind":"leader","instance":/)
  })

  test('whose reader does not read are cut off and hold nobody up', async () => {
    await daemon.client.addService('str-slow')
    const socket = connect(1111, host)
    await once(socket, 'connect')
    socket.pause()
    socket.write('GET /services/str-slow HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n\r\n')
    const data = 'x'.repeat(500_000)
    let index = 0
    for (let n = 0; n < 25; n++)
      index = (await daemon.client.setMeta('str-slow', { data, index }, { timeoutMs: 20_000 })).index
    let text = ''
    socket.on('data', chunk => {
      text = (text + chunk.toString()).slice(-1_000)
    })
    socket.resume()
    const farewell = 'event: error\ndata: discoverd: channel send failed due to blocked receiver\n\n'
    await poll(() => text.includes(farewell), { ...deadline, what: 'the farewell' })
    socket.destroy()
  })
})
