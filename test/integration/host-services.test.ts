// The host as the keeper of services: discoverd's arrival, health checks, registration, drain, tags, logs to the
// aggregator (contract discoverd.md 14, host.md 2.4, 2.7, 12). discoverd runs as a plain process on the test host.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { DiscoverdClient, type Instance } from '../../discoverd/client.ts'
import { attachFlags, capacityMeta, type HealthCheck, type JobRequest } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { jobId } from '../../pkg/ids/ids.ts'
import { createCluster, type TestCluster, type TestHost } from '../cluster/cluster.ts'
import type { BackgroundProcess } from '../cluster/types.ts'
import { type BusyboxImage, busyboxImage } from '../fixtures/busybox.ts'
import { collect, isDown, isUp, patienceMs, type TestDaemon, testDaemon } from '../fixtures/flynn-host.ts'

const seconds = 1_000_000_000
let cluster: TestCluster
let host: TestHost
let image: BusyboxImage
let daemon: TestDaemon
let discoverd: DiscoverdClient
let discoverdProcess: BackgroundProcess

async function startDiscoverd(): Promise<void> {
  discoverdProcess = await host.spawn(
    [
      ...['node', '/code/discoverd/main.ts', '-data-dir', '/var/lib/flynn/discoverd', '-host', host.address],
      ...['-addr', ':1111', '-peers', `${host.address}:1111`, '-wait-net-dns'],
      ...['-notify', `http://${host.address}:1113/host/discoverd`],
    ],
    { env: { EXTERNAL_IP: host.address, FLYNN_JOB_ID: 'h1-discoverd' }, log: '/var/log/discoverd.log' },
  )
}

before(async () => {
  image = await busyboxImage()
  cluster = await createCluster({ hosts: 1, binds: [{ source: image.dir, target: image.dir }] })
  host = cluster.host(1)
  daemon = testDaemon(host, image.mountspec)
  discoverd = new DiscoverdClient({ servers: `http://${host.address}:1111` })
  await daemon.start()
})

after(async () => {
  await discoverd?.close()
  await cluster?.down()
  await image?.remove()
})

const env = { FLYNN_APP_ID: 'app', FLYNN_APP_NAME: 'name', FLYNN_PROCESS_TYPE: 'web' }
const httpd = (port = 80) =>
  `mkdir -p /tmp/www; echo ok > /tmp/www/index.html; httpd -f -p ${port} -h /tmp/www & pid=$!; trap "kill $pid; exit 0" TERM; wait`

function withService(name: string, check?: Partial<HealthCheck>, port = 80): JobRequest {
  const service = {
    name,
    create: true,
    ...(check ? { check: { type: 'http', interval: 0.2 * seconds, ...check } } : {}),
  }
  return { config: { env, ports: [{ port, proto: 'tcp', service }] } }
}

const instances = (service: string) => discoverd.instances(service)
const registered = (service: string, count = 1) =>
  poll(
    async () => {
      const found = await instances(service)
      return found.length === count ? { found } : undefined
    },
    { timeoutMs: patienceMs, what: `${count} instances of ${service}` },
  ).then(r => r.found)

test('jobs that need discoverd wait for it; a host without it has no network to tell', async () => {
  const id = jobId('h1')
  await daemon.client.addJob({
    id,
    mountspecs: [image.mountspec],
    config: { args: ['sh', '-c', 'echo $DISCOVERD; exec sleep 600'] },
  })
  assert.equal((await daemon.client.job(id)).status, undefined)
  await startDiscoverd()
  await daemon.wait(id, isUp, 'started')
  const status = await daemon.client.status()
  assert.deepEqual(status.discoverd?.job_id, 'h1-discoverd')
  assert.equal(status.discoverd?.url, `${host.address}:1111`)
  assert.equal(status.discoverd?.dns, `${status.network?.subnet.split('/')[0]}:53`)
  await poll(async () => (await daemon.output(id)).stdout === `http://${host.address}:1111\n`, {
    timeoutMs: patienceMs,
    what: 'the value of DISCOVERD',
  })
  await daemon.client.stopJob(id)
})

test('the host registers itself with its tags, and changes of tags are seen', async () => {
  const [instance] = await registered('flynn-host')
  assert.equal(instance?.addr, `${host.address}:1113`)
  const { id, [capacityMeta.memory]: memory, [capacityMeta.cpu]: cpu, ...other } = instance?.meta ?? {}
  assert.deepEqual([id, other], ['h1', {}])
  const { resources } = await daemon.client.status()
  assert.deepEqual([Number(memory), Number(cpu)], [resources?.memory, resources?.cpu])
  const kinds: string[] = []
  const stop = new AbortController()
  const watching = (async () => {
    for await (const e of discoverd.watch('flynn-host', { signal: stop.signal })) kinds.push(e.kind)
  })()
  await daemon.client.setTags({ disk: 'ssd', zone: 'a' })
  const meta = async () => (await instances('flynn-host'))[0]?.meta
  await poll(async () => (await meta())?.['tag:disk'] === 'ssd', { timeoutMs: patienceMs, what: 'the tag' })
  await daemon.client.setTags({ disk: '' })
  await poll(async () => (await meta())?.['tag:disk'] === undefined, {
    timeoutMs: patienceMs,
    what: 'no tag',
  })
  await poll(() => kinds.filter(k => k === 'update').length >= 2, {
    timeoutMs: patienceMs,
    what: 'update events',
  })
  stop.abort()
  await watching
  assert.deepEqual((await daemon.client.status()).tags, { zone: 'a' })
  assert.match((await daemon.cli('tags')).stdout, /h1 +zone=a/)
  assert.match((await daemon.cli('list')).stdout, /h1 +[\d.]+:1113 +peer \(leader\)/)
})

test('a service without a check is registered when its job runs and gone when it ends', async () => {
  const id = await daemon.run(['sleep', '600'], withService('plain'))
  const [instance] = await registered('plain')
  const job = await daemon.client.job(id)
  assert.equal(instance?.addr, `${job.internal_ip}:80`)
  assert.equal(instance?.proto, 'tcp')
  assert.deepEqual(instance?.meta, env)
  await daemon.client.signalJob(id, 9)
  await registered('plain', 0)
})

test('a checked service is registered when it answers, taken out when it does not, and comes back', async () => {
  const script = `${httpd()}; sleep 600`
  const id = await daemon.run(['sh', '-c', script], {
    ...withService('checked'),
    config: {
      ...withService('checked', { match: 'ok', path: '/index.html' }).config,
      mounts: [{ location: '/tmp/www', target: '/var/tmp', writeable: true }],
    },
  })
  await registered('checked')
  await host.writeFile('/var/tmp/index.html', 'bad')
  await registered('checked', 0)
  await host.writeFile('/var/tmp/index.html', 'all ok')
  await registered('checked')
  const log = await collect(
    await daemon.client.attach({ job_id: id, flags: attachFlags.logs | attachFlags.initLog }),
  )
  assert.match(log.init, /service checked on port 80 is up/)
  assert.match(log.init, /is down: healthcheck: response did not match expected bytes/)
  await daemon.client.stopJob(id)
  assert.deepEqual(await instances('checked'), [])
})

test('a job that does not come up in time is killed when its check says so', async () => {
  const check = { type: 'tcp', kill_down: true, start_timeout: 1 * seconds }
  const id = await daemon.run(['sleep', '600'], withService('never', check))
  const job = await daemon.wait(id, isDown, 'ended')
  assert.equal(job.exit_status, 137)
  const { init } = await collect(
    await daemon.client.attach({ job_id: id, flags: attachFlags.logs | attachFlags.initLog }),
  )
  assert.match(init, /killed by its health check/)
})

test('a check of an unknown type fails the job', async () => {
  const job = await daemon.finish(['true'], withService('odd', { type: 'ping' }))
  assert.equal(job.error, 'unsupported check type: ping')
})

test('a drained job is out of discoverd and runs on, also after the daemon was restarted', async () => {
  const id = await daemon.run(['sh', '-c', httpd()], withService('drained', {}))
  await registered('drained')
  await daemon.client.deregisterJob(id)
  assert.deepEqual(await instances('drained'), [])
  await daemon.kill()
  await daemon.start()
  await registered('flynn-host')
  await new Promise(resolve => setTimeout(resolve, 1_000))
  assert.deepEqual(await instances('drained'), [])
  assert.equal((await daemon.client.job(id)).status, 1)
  await daemon.client.stopJob(id)
})

test('a restart of the daemon leaves no gap in what is registered', async () => {
  const id = await daemon.run(['sh', '-c', httpd()], withService('steady', {}))
  const [before] = (await registered('steady')) as [Instance]
  const kinds: string[] = []
  const stop = new AbortController()
  const watching = (async () => {
    for await (const e of discoverd.watch('steady', { signal: stop.signal })) kinds.push(e.kind)
  })()
  await daemon.kill()
  await new Promise(resolve => setTimeout(resolve, 4_000))
  await daemon.start()
  // Longer than the TTL: heartbeats have to come from the new daemon.
  await new Promise(resolve => setTimeout(resolve, 12_000))
  stop.abort()
  await watching
  assert.ok(!kinds.includes('down'), kinds.join())
  assert.equal((await instances('steady'))[0]?.index, before.index)
  await daemon.client.stopJob(id)
  assert.deepEqual(await instances('steady'), [])
})

test('a job on the network of the host is registered with the address of the host', async () => {
  const job = withService('hostnet', { type: 'tcp' }, 8181)
  const id = await daemon.run(['sh', '-c', httpd(8181)], {
    ...job,
    partition: 'system',
    config: { ...job.config, host_network: true },
  })
  const [instance] = await registered('hostnet')
  assert.equal(instance?.addr, `${host.address}:8181`)
  assert.equal((await daemon.client.job(id)).internal_ip, undefined)
  const taken = await daemon.fetch('/host/resource-check', {
    method: 'POST',
    body: JSON.stringify({ ports: [{ port: 8181, proto: 'tcp' }, { port: 8182 }] }),
  })
  assert.equal(taken.status, 409)
  assert.deepEqual(((await taken.json()) as { detail: unknown }).detail, {
    ports: [{ port: 8181, proto: 'tcp' }],
  })
  await daemon.client.stopJob(id)
})

test('every log aggregator gets what it lacks, then what comes, in order', async () => {
  const before = await daemon.run(['sh', '-c', 'for i in 1 2 3; do echo before $i; done; exec sleep 600'], {
    metadata: { 'flynn-controller.app': 'app-logs' },
  })
  await daemon.wait(before, isUp, 'started')
  // A stand-in for the aggregator: knows no cursor, writes down what it is sent.
  const program = `
    const http = require('node:http'), net = require('node:net'), fs = require('node:fs')
    http.createServer((_, res) => res.end('{}')).listen(80, '127.0.0.9')
    net.createServer(s => s.on('data', d => fs.appendFileSync('/var/log/sink', d))).listen(514, '127.0.0.9')`
  await host.spawn(['node', '-e', program])
  await discoverd.maybeAddService('logaggregator')
  const stop = new AbortController()
  const addr = '127.0.0.9:514'
  await discoverd.register({ service: 'logaggregator', addr, env: {}, signal: stop.signal })
  const sent = async () => {
    const bytes = (await host.exec(['cat', '/var/log/sink'])).stdout
    const messages: string[] = []
    for (let at = 0; at < bytes.length; ) {
      const length = /^(\d+) /.exec(bytes.slice(at, at + 6))?.[1]
      assert.ok(length, `no length at ${at}: ${bytes.slice(at, at + 50)}`)
      const start = at + length.length + 1
      at = start + Number(length)
      messages.push(bytes.slice(start, at))
    }
    return messages.filter(m => m.includes(' app-logs '))
  }
  try {
    await poll(async () => (await sent()).length === 3, {
      timeoutMs: patienceMs,
      what: 'the lines of before',
    })
    const later = await daemon.finish(['echo', 'after'], { metadata: { 'flynn-controller.app': 'app-logs' } })
    await poll(async () => (await sent()).length === 4, { timeoutMs: patienceMs, what: 'the line after' })
    const messages = await sent()
    assert.match(messages[0] ?? '', / h1 app-logs \S+ ID1 \[flynn seq="\d+"\] before 1$/)
    assert.match(messages[3] ?? '', new RegExp(`${later.job.id} ID1 .* after$`))
  } finally {
    stop.abort()
  }
  await daemon.client.stopJob(before)
})

test('services come back by themselves when discoverd does', async () => {
  const id = await daemon.run(['sleep', '600'], withService('patient'))
  await registered('patient')
  discoverdProcess.kill('SIGKILL')
  await poll(() => !discoverdProcess.alive, { timeoutMs: patienceMs, what: 'discoverd to end' })
  await startDiscoverd()
  await registered('patient')
  await registered('flynn-host')
  await daemon.client.stopJob(id)
})
