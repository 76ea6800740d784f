// Volumes and the command line of one host (contract host.md 1, 2.1, 4, 12).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { VolumeInfoEvent } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { createCluster, type TestCluster, type TestHost } from '../cluster/cluster.ts'
import { type BusyboxImage, busyboxImage } from '../fixtures/busybox.ts'
import { isUp, patienceMs, type TestDaemon, testDaemon } from '../fixtures/flynn-host.ts'

let cluster: TestCluster
let host: TestHost
let image: BusyboxImage
let daemon: TestDaemon

before(async () => {
  image = await busyboxImage()
  cluster = await createCluster({ hosts: 1, binds: [{ source: image.dir, target: image.dir }] })
  host = cluster.host(1)
  daemon = testDaemon(host, image.mountspec)
  await daemon.start()
})

after(async () => {
  await cluster?.down()
  await image?.remove()
})

const bind = (volume: string, deleteOnStop = false) => ({
  config: { volumes: [{ target: '/data', volume, writeable: true, delete_on_stop: deleteOnStop }] },
})
const exists = async (id: string) => (await daemon.client.volumes()).some(v => v.id === id)

test('what one job wrote to a volume another one reads', async () => {
  const { id } = await daemon.client.createVolume({ meta: { 'flynn-controller.app': 'a' } })
  await daemon.finish(['sh', '-c', 'echo kept > /data/file'], bind(id))
  const reader = await daemon.finish(['cat', '/data/file'], bind(id))
  assert.equal((await daemon.output(reader.job.id)).stdout, 'kept\n')
  const info = await daemon.client.volume(id)
  assert.deepEqual([info.type, info.meta], ['data', { 'flynn-controller.app': 'a' }])
  assert.ok(Date.parse(info.created_at) > 0)
})

test('a volume that is to be deleted with its job is gone after the clean-up', async () => {
  const { id } = await daemon.client.createVolume()
  await daemon.finish(['true'], bind(id, true))
  assert.equal(await exists(id), false)
})

test('a volume serves one job at a time and is not destroyed under it', async () => {
  const { id } = await daemon.client.createVolume()
  const owner = await daemon.run(['sleep', '600'], bind(id))
  await daemon.wait(owner, isUp, 'started')
  await assert.rejects(
    daemon.run(['true'], bind(id)),
    e => isFlynnError(e, 'unknown_error') && e.status === 500 && e.message.includes(owner),
  )
  await assert.rejects(daemon.client.destroyVolume(id), /in use by job/)
  await daemon.client.stopJob(owner)
  await daemon.client.destroyVolume(id)
  assert.equal(await exists(id), false)
})

test('a snapshot keeps what was there, and a clone of it can be mounted', async () => {
  const { id } = await daemon.client.createVolume()
  await daemon.finish(['sh', '-c', 'echo one > /data/file'], bind(id))
  const snapshot = await daemon.client.snapshotVolume(id)
  await daemon.finish(['sh', '-c', 'echo two > /data/file'], bind(id))
  assert.notEqual(snapshot.id, id)
  assert.notEqual(snapshot.created_at, '0001-01-01T00:00:00Z')
  const refused = await daemon.finish(['cat', '/data/file'], bind(snapshot.id))
  assert.match(refused.error ?? '', /is a snapshot/)
  const clone = await daemon.client.cloneVolume(snapshot.id)
  const reader = await daemon.finish(['cat', '/data/file'], bind(clone.id))
  assert.equal((await daemon.output(reader.job.id)).stdout, 'one\n')
})

test('a full quota is an error inside the job', async () => {
  const { id } = await daemon.client.createVolume({ quota_bytes: 8 * 1024 * 1024 })
  const job = await daemon.finish(
    ['sh', '-c', 'dd if=/dev/urandom of=/data/big bs=1M count=64 conv=fsync'],
    bind(id),
  )
  assert.notEqual(job.exit_status, 0)
  assert.match((await daemon.output(job.job.id)).stderr, /[Qq]uota|No space/)
})

test('creation and destruction of volumes are told', async () => {
  const stop = new AbortController()
  const events: VolumeInfoEvent[] = []
  const reading = (async () => {
    for await (const e of daemon.client.volumeEvents({ signal: stop.signal })) events.push(e)
  })().catch(() => undefined)
  // The stream tells no start; the first event of ours shows that it is open.
  const { id } = await poll(
    async () => {
      const volume = await daemon.client.createVolume()
      await new Promise(resolve => setTimeout(resolve, 50))
      return events.some(e => e.volume.id === volume.id) ? volume : undefined
    },
    { timeoutMs: patienceMs, what: 'a create event' },
  )
  await daemon.client.destroyVolume(id)
  await poll(() => events.some(e => e.type === 'destroy' && e.volume.id === id), {
    timeoutMs: patienceMs,
    what: 'the destroy event',
  })
  stop.abort()
  await reading
})

test('unknown volumes, providers and types are refused', async () => {
  const status = async (path: string, init?: RequestInit) => (await daemon.fetch(path, init)).status
  assert.equal(await status('/storage/volumes/none'), 404)
  assert.equal(await status('/storage/volumes/none', { method: 'DELETE' }), 404)
  assert.equal(await status('/storage/volumes/none/snapshot', { method: 'PUT' }), 404)
  const post = (path: string, body: unknown) => status(path, { method: 'POST', body: JSON.stringify(body) })
  assert.equal(await post('/storage/providers/none/volumes', {}), 404)
  assert.equal(await post('/storage/providers/default/volumes', { type: 'ext2' }), 400)
  assert.equal(await post('/storage/providers/default/volumes', { meta: 'x' }), 400)
  assert.equal(await post('/storage/providers', { id: 'default', kind: 'zfs' }), 409)
  assert.equal(await post('/storage/providers', { kind: 'mock' }), 400)
})

test('flynn-host ps, inspect, log, signal and stop work on a job', async () => {
  const id = await daemon.run(['sh', '-c', 'trap "echo got it" USR1; echo up; while :; do sleep 0.1; done'], {
    metadata: {
      'flynn-controller.app': 'cli-app',
      'flynn-controller.app_name': 'cli',
      'flynn-controller.type': 'web',
    },
  })
  await poll(async () => (await daemon.output(id)).stdout === 'up\n', {
    timeoutMs: patienceMs,
    what: 'the job',
  })
  assert.match((await daemon.cli('ps')).stdout, new RegExp(`${id} +running .* ago +cli +web`))
  assert.equal((await daemon.cli('ps', '-q')).stdout.trim(), id)
  assert.match((await daemon.cli('inspect', id)).stdout, /ENV\[DISCOVERD\] +none/)
  assert.match((await daemon.cli('signal', id, '10')).stdout, /sent signal 10 to .* successfully/)
  await poll(async () => (await daemon.cli('log', id)).stdout === 'up\ngot it\n', {
    timeoutMs: patienceMs,
    what: 'the log',
  })
  assert.equal((await daemon.cli('log', '--lines', '1', id)).stdout, 'got it\n')
  assert.deepEqual((await daemon.cli('stop', id)).stdout, `${id} stopped\n`)
  const again = await daemon.cli('stop', id)
  assert.equal(again.code, 1)
  assert.match(again.stdout, new RegExp(`could not stop job ${id}: host: job ${id} is crashed`))
  const unknown = await daemon.cli('inspect', 'h1-unknown')
  assert.equal(unknown.code, 1)
  assert.match(unknown.stderr, /^\d\d:\d\d:\d\d\.\d{6} inspect: no such job/m)
})

test('flynn-host run runs a job with stdin, streams and exit status', async () => {
  const { url, id, size, hashes } = image.mountspec
  const artifact = {
    type: 'flynn',
    layer_url_template: url,
    manifest: { rootfs: [{ layers: [{ id, length: size, hashes, type: 'x' }] }] },
  }
  await host.writeFile('/var/tmp/artifact.json', JSON.stringify(artifact))
  const run = ['node', '/code/host/main.ts', 'run', '--limits=memory=64M', '/var/tmp/artifact.json']
  const result = await host.exec([...run, 'sh', '-c', 'cat; echo err >&2; exit 3'], {
    input: 'some input\n',
    timeoutMs: patienceMs,
  })
  assert.deepEqual([result.code, result.stdout], [3, 'some input\n'])
  assert.match(result.stderr, /err\n/)
})

test('flynn-host volume creates, lists, deletes, and collects what no job has', async () => {
  const created = await daemon.cli('volume', 'create', 'h1')
  const id = /^created volume (\S+) on h1\n$/.exec(created.stdout)?.[1] ?? ''
  assert.ok(id, created.stdout)
  assert.match((await daemon.cli('volume', 'list')).stdout, new RegExp(`${id} +data +h1`))
  assert.equal((await daemon.cli('volume', 'delete', id)).stdout, `${id} deleted\n`)
  assert.equal((await daemon.cli('volume', 'delete', id)).code, 1)
  const [kept, unused] = [await daemon.client.createVolume(), await daemon.client.createVolume()]
  const job = await daemon.run(['sleep', '600'], bind(kept.id))
  const gc = await daemon.cli('volume', 'gc')
  assert.match(gc.stdout, new RegExp(`Deleted data volume ${unused.id}`))
  assert.equal(await exists(kept.id), true)
  assert.equal(await exists(unused.id), false)
  await daemon.client.stopJob(job)
})
