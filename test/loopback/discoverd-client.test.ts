// What components get from DiscoverdClient, against a real daemon (contract discoverd.md 13).
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import type { DiscoverdEvent } from '../../discoverd/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { instanceId } from '../../pkg/ids/ids.ts'
import { newDaemon, type TestDaemon } from '../fixtures/discoverd.ts'
import { loopbackNet } from '../fixtures/etcd.ts'

const deadline = { timeoutMs: 20_000, intervalMs: 20 }
let daemon: TestDaemon

before(async () => {
  daemon = await newDaemon({ host: `${loopbackNet(45)}.1` })
  daemon.start()
  await daemon.ready()
})
after(() => daemon.remove())

const put = (service: string, addr: string) =>
  daemon.client.putInstance(service, { id: instanceId('tcp', addr), addr, proto: 'tcp' })

describe('the client', () => {
  test('replaces discoverd names in URLs by addresses', async () => {
    const { client } = daemon
    await client.addService('cli-res')
    await put('cli-res', '10.0.0.1:8080')
    assert.equal(await client.resolve('http://cli-res.discoverd/a?b'), 'http://10.0.0.1:8080/a?b')
    assert.equal(await client.resolve('http://cli-res.discoverd:80/a'), 'http://10.0.0.1:80/a')
    assert.equal(await client.resolve('http://u:p@leader.cli-res.discoverd'), 'http://u:p@10.0.0.1:8080')
    assert.equal(await client.resolve('http://example.com/x'), 'http://example.com/x')
    assert.equal(await client.leaderUrl('cli-res'), 'http://10.0.0.1:8080')
    await assert.rejects(client.resolve('http://cli-none.discoverd'), e => isFlynnError(e, 'no_instances'))
  })

  test('watches a service from before it exists', async () => {
    const events: DiscoverdEvent[] = []
    const abort = new AbortController()
    const watching = (async () => {
      for await (const event of daemon.client.watch('str-later', { signal: abort.signal })) events.push(event)
    })()
    await poll(() => events.some(e => e.kind === 'current'), { ...deadline, what: 'current' })
    const found = daemon.client.instancesWithTimeout('str-later', 10_000)
    await daemon.client.addService('str-later')
    await put('str-later', '10.0.0.1:80')
    await poll(() => events.some(e => e.kind === 'leader'), { ...deadline, what: 'the leader' })
    assert.deepEqual(
      events.map(e => e.kind),
      ['current', 'up', 'leader'],
    )
    assert.equal((await found).length, 1)
    abort.abort()
    await watching
  })

  test('registers, updates and deregisters', async () => {
    const env = { FLYNN_JOB_ID: 'h-1', OTHER: 'x' }
    const addr = '10.0.0.7:80'
    const reg = await daemon.client.register({
      service: 'cli-reg',
      addr,
      create: 'manual',
      env,
      meta: { a: '1' },
    })
    const [one] = await daemon.client.instances('cli-reg')
    assert.deepEqual(one?.meta, { FLYNN_JOB_ID: 'h-1', a: '1' })
    await reg.update({ b: '2' })
    const [changed] = await daemon.client.instances('cli-reg')
    assert.deepEqual(changed?.meta, { FLYNN_JOB_ID: 'h-1', b: '2' })
    await reg.close()
    await reg.close()
    assert.deepEqual(await daemon.client.instances('cli-reg'), [])
  })

  test('gives up waiting for instances in time', async () => {
    await assert.rejects(daemon.client.instancesWithTimeout('cli-never', 300), e =>
      isFlynnError(e, 'no_instances'),
    )
  })
})
