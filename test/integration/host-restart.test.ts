// What a job survives: the daemon's death, containerd's, both at once, and what comes back after a power cut
// (docs/wiring.md "After a power cut"; contract host.md 3.4, 3.5).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { attachFlags } from '../../host/types.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { createCluster, type TestCluster, type TestHost } from '../cluster/cluster.ts'
import { type BusyboxImage, busyboxImage } from '../fixtures/busybox.ts'
import { collect, isDown, isUp, patienceMs, type TestDaemon, testDaemon } from '../fixtures/flynn-host.ts'

const { stdout, logs, stream } = attachFlags
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

const appOf = (name: string) => ({ 'flynn-controller.app': name, 'flynn-controller.type': 'web' })

async function killContainerd(): Promise<void> {
  const pid = (await host.run(['pgrep', '-x', 'containerd'])).trim()
  await host.run(['kill', '-9', pid])
}

/** Numbers 1 to n, one to a line, all there, once, in order. */
function assertCounted(text: string, atLeast: number): void {
  const lines = text.split('\n').slice(0, -1).map(Number)
  assert.deepEqual(
    lines,
    lines.map((_, i) => i + 1),
  )
  assert.ok(lines.length >= atLeast, `${lines.length} lines`)
}

const counting =
  'i=0; while [ $i -lt 100000 ]; do i=$((i+1)); echo $i; [ $((i%100)) = 0 ] && sleep 0.02; done'

const deaths: readonly (readonly [string, () => Promise<void>])[] = [
  ['flynn-host', () => daemon.kill()],
  [
    'containerd',
    async () => {
      await killContainerd()
      await daemon.kill('SIGTERM')
    },
  ],
  [
    'both',
    async () => {
      await Promise.all([daemon.kill(), killContainerd()])
    },
  ],
]

for (const [what, kill] of deaths)
  test(`the end of ${what} loses no job, no line and no exit status`, async () => {
    const app = `app-${what}`
    const counter = await daemon.run(['sh', '-c', counting], { metadata: appOf(app) })
    const exits = await daemon.run(['sh', '-c', 'sleep 3; echo last words; exit 9'], { metadata: appOf(app) })
    const waits = await daemon.run(['sleep', '600'])
    for (const id of [counter, exits, waits]) await daemon.wait(id, isUp, 'started')
    const before = await daemon.client.job(waits)
    await poll(async () => (await daemon.output(counter)).stdout.length > 1_000, {
      timeoutMs: patienceMs,
      what: 'some lines',
    })
    await kill()
    // One job ends while nobody looks.
    await new Promise(resolve => setTimeout(resolve, 3_500))
    await daemon.start()
    const ended = await daemon.wait(exits, isDown, 'ended')
    assert.deepEqual([ended.status, ended.exit_status], [3, 9])
    assert.equal((await daemon.output(exits)).stdout, 'last words\n')
    const after = await daemon.client.job(waits)
    assert.deepEqual([after.status, after.pid, after.internal_ip], [1, before.pid, before.internal_ip])
    const follow = collect(await daemon.client.attach({ job_id: counter, flags: stdout | logs | stream }))
    await new Promise(resolve => setTimeout(resolve, 1_000))
    await daemon.client.stopJob(counter)
    await daemon.client.stopJob(waits)
    const { stdout: text, exit } = await follow
    assert.equal(exit, 143)
    assertCounted(text, 5_000)
    assert.deepEqual((await daemon.client.job(waits)).exit_status, 143)
  })

/** Jobs of which the daemon has accepted some when `die` is called; all of them run afterwards, and each ran once. */
async function startThrough(die: () => Promise<void>): Promise<void> {
  const app = 'app-starts'
  const accepted: string[] = []
  const adding = Promise.allSettled(
    Array.from({ length: 12 }, async () => {
      accepted.push(await daemon.run(['sh', '-c', 'echo here; exec sleep 600'], { metadata: appOf(app) }))
    }),
  )
  await poll(() => accepted.length >= 4, { timeoutMs: patienceMs, what: 'some accepted jobs' })
  await die()
  await adding
  for (const id of accepted) {
    await daemon.wait(id, isUp, 'started')
    await poll(async () => (await daemon.output(id)).stdout !== '', { timeoutMs: patienceMs, what: 'output' })
    assert.equal((await daemon.output(id)).stdout, 'here\n')
  }
  const addresses = Object.values(await daemon.client.jobs({ active: true })).map(j => j.internal_ip)
  assert.equal(new Set(addresses).size, addresses.length)
  for (const job of Object.values(await daemon.client.jobs({ active: true })))
    if (job.job.metadata?.['flynn-controller.app'] === app) await daemon.client.stopJob(job.job.id)
}

test('jobs that were accepted start, each once, although the daemon died while it started them', () =>
  startThrough(async () => {
    await daemon.kill()
    await daemon.start()
  }))

test('so they do when containerd makes their containers for the former daemon yet', async () => {
  // Which of the steps of a start it stands still in is chance; without the retry one round in five failed.
  for (const stillMs of [200, 700, 1_200])
    await startThrough(async () => {
      const containerd = (await host.run(['pgrep', '-x', 'containerd'])).trim()
      await host.run(['kill', '-STOP', containerd])
      await daemon.kill()
      const started = daemon.start()
      await sleep(stillMs)
      await host.run(['kill', '-CONT', containerd])
      await started
    })
})

test('a daemon that is told to end leaves its jobs alone, and ends', async () => {
  const id = await daemon.run(['sleep', '600'])
  const { pid } = await daemon.wait(id, isUp, 'started')
  await daemon.kill('SIGTERM')
  await daemon.start()
  assert.equal((await daemon.client.job(id)).pid, pid)
  await daemon.client.stopJob(id)
})

test('containerd that dies alone is started again, and its jobs can be stopped', async () => {
  const id = await daemon.run(['sleep', '600'])
  await daemon.wait(id, isUp, 'started')
  await killContainerd()
  await daemon.client.stopJob(id)
  assert.equal((await daemon.client.job(id)).exit_status, 143)
  assert.equal((await daemon.finish(['true'])).status, 2)
})

test('a second daemon on the same host refuses to start', async () => {
  const { code, stderr } = await daemon.cli('daemon', '--id', 'h1', '--external-ip', host.address)
  assert.equal(code, 1)
  assert.match(stderr, /another flynn-host daemon is running/)
})

test('a job whose container vanished while no daemon ran fails, and says so', async () => {
  const id = await daemon.run(['sleep', '600'])
  await daemon.wait(id, isUp, 'started')
  await daemon.kill()
  const shim = (await host.run(['pgrep', '-f', `shim-runc-v2 .*${id}`])).trim()
  await host.run(['kill', '-9', shim])
  await daemon.start()
  const lost = await daemon.wait(id, isDown, 'ended')
  // containerd reports the death of a shim as 137 if it is asked in time, else there is nothing left to ask about.
  if (lost.status === 4) assert.match(lost.error ?? '', /is gone and left no exit status/)
  else assert.equal(lost.exit_status, 137)
})

test('discoverd that died is started again, once, from its last specification', async () => {
  const metadata = { ...appOf('app-discoverd'), 'flynn-controller.app_name': 'discoverd' }
  const first = await daemon.run(['sleep', '600'], { partition: 'system', metadata })
  await daemon.wait(first, isUp, 'started')
  await daemon.client.setDiscoverd({ job_id: first, url: `${host.address}:1111`, dns: '' })
  await daemon.client.signalJob(first, 9)
  const successor = await poll(
    async () =>
      Object.values(await daemon.client.jobs()).find(
        j => j.job.metadata?.['flynn-controller.app'] === 'app-discoverd' && isUp(j) && j.job.id !== first,
      ),
    { timeoutMs: patienceMs, what: 'the successor' },
  )
  await daemon.kill()
  await daemon.start()
  await new Promise(resolve => setTimeout(resolve, 6_000))
  const active = Object.values(await daemon.client.jobs({ active: true }))
  assert.equal(active.filter(j => j.job.metadata?.['flynn-controller.app'] === 'app-discoverd').length, 1)
  // Nothing more is to come back in the tests after this one.
  await daemon.client.setDiscoverd({ job_id: 'nothing', url: '', dns: '' })
  await daemon.client.stopJob(successor.job.id)
})

test('after a power cut system jobs come back with their volumes under new ids, user jobs do not', async () => {
  const volume = await daemon.client.createVolume({ meta: { 'flynn-controller.app': 'sys' } })
  const script =
    'cat /data/note; echo kept | dd of=/data/note conv=fsync 2>/dev/null; echo synced; exec sleep 600'
  const system = await daemon.run(['sh', '-c', script], {
    partition: 'system',
    metadata: { ...appOf('app-system'), 'flynn-controller.app_name': 'sys' },
    config: {
      env: { FLYNN_JOB_ID: 'h1-before' },
      volumes: [{ target: '/data', volume: volume.id, writeable: true, delete_on_stop: true }],
    },
  })
  const user = await daemon.run(['sh', '-c', 'echo words of before; exec sleep 600'], {
    metadata: appOf('app-user'),
  })
  for (const id of [system, user]) await daemon.wait(id, isUp, 'started')
  await poll(async () => (await daemon.output(system)).stdout === 'synced\n', {
    timeoutMs: patienceMs,
    what: 'the note to be on disk',
  })
  const wordsOfBefore = async () => (await daemon.output(user)).stdout === 'words of before\n'
  await poll(wordsOfBefore, { timeoutMs: patienceMs, what: 'the words of before' })
  await host.reboot()
  await daemon.start()
  const ended = await daemon.client.job(user)
  assert.deepEqual([ended.status, ended.error], [4, 'host restarted'])
  assert.deepEqual([(await daemon.client.job(system)).error], ['host restarted'])
  const successor = await poll(
    async () =>
      Object.values(await daemon.client.jobs()).find(
        j => j.job.metadata?.['flynn-controller.app'] === 'app-system' && isUp(j),
      ),
    { timeoutMs: patienceMs, what: 'the system job to be back' },
  )
  assert.notEqual(successor.job.id, system)
  assert.equal(successor.job.config.env?.['FLYNN_JOB_ID'], successor.job.id)
  assert.equal(successor.job.config.volumes?.[0]?.volume, volume.id)
  await poll(async () => (await daemon.output(successor.job.id)).stdout === 'kept\nsynced\n', {
    timeoutMs: patienceMs,
    what: 'the note in the volume',
  })
  const active = Object.values(await daemon.client.jobs({ active: true }))
  assert.deepEqual(
    active.map(j => j.job.id),
    [successor.job.id],
  )
  await poll(wordsOfBefore, { timeoutMs: patienceMs, what: 'the words of before, after' })
  await daemon.client.stopJob(successor.job.id)
  await poll(async () => !(await daemon.client.volumes()).some(v => v.id === volume.id), {
    timeoutMs: patienceMs,
    what: 'the volume to be deleted with its last job',
  })
})
