// The four engines of a host together, on their default paths in a test host, through a power cut.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { createCluster, type TestCluster } from '../cluster/cluster.ts'

let cluster: TestCluster
before(async () => {
  cluster = await createCluster({ name: 'engines', hosts: 1 })
})
after(async () => {
  await cluster?.down()
})

/** Opens the engines in the host, runs the steps, and leaves the engines running as a daemon does. */
async function inHost(steps: string): Promise<Record<string, unknown>> {
  const script = `
    import { ContainerdRuntime } from '/code/host/container/runtime.ts'
    import { SquashfsLayerStore } from '/code/host/image/store.ts'
    import { ZfsVolumeStore } from '/code/host/volume/store.ts'
    import { BridgeNetwork } from '/code/host/network/network.ts'
    import { defaultCapabilities, defaultDevices } from '/code/host/job/defaults.core.ts'
    import { hostPaths } from '/code/host/paths.ts'
    import { silentLogger } from '/code/pkg/log/log.ts'
    import { createHash } from 'node:crypto'
    import { readFileSync } from 'node:fs'
    const paths = hostPaths()
    const log = silentLogger()
    const signal = AbortSignal.timeout(60_000)
    const partitions = { system: { cpuShares: 4096 }, user: { cpuShares: 8192 } }
    const runtime = new ContainerdRuntime({ paths, partitions, log })
    const layers = new SquashfsLayerStore({ paths, resolve: async host => host, log })
    const volumes = new ZfsVolumeStore({ paths, log, extentBytes: 512 * 1024 ** 2 })
    const network = new BridgeNetwork({ paths, log })
    await Promise.all([runtime.open(signal), layers.open(), volumes.open(signal)])
    await network.configure('100.100.5.1/24', 1450)
    const spec = (id, script, layer, mounts, address) => ({
      id, args: ['sh', '-c', script], env: { PATH: '/bin' }, cwd: '/', uid: 0, gid: 0, hostname: id, partition: 'user',
      tty: false, stdin: false, layers: [layer], mounts, hostNetwork: false, hostPidNamespace: false, address,
      limits: { tempDiskBytes: 0 }, capabilities: defaultCapabilities, allowedDevices: defaultDevices,
      createdDevices: defaultDevices.filter(d => d.path), writeableCgroups: false, noNewPrivileges: true, seccomp: true,
    })
    const file = '/var/lib/flynn/busybox.squashfs'
    const bytes = readFileSync(file)
    const hashes = { sha512_256: createHash('sha512-256').update(bytes).digest('hex') }
    const layer = { id: hashes.sha512_256, url: 'file://' + file, sizeBytes: bytes.length, hashes }
    const result = {}
    ${steps}
    console.log(JSON.stringify(result))
    await runtime.close()
    await volumes.close()`
  const argv = ['node', '--input-type=module', '-e', script]
  const env = { PATH: `/code/node_modules/.bin:${process.env['PATH']}` }
  return JSON.parse(await cluster.host(1).run(argv, { timeoutMs: 90_000, env })) as Record<string, unknown>
}

async function makeLayer(): Promise<void> {
  const tree = '/tmp/tree'
  const build = `mkdir -p ${tree}/bin ${tree}/proc ${tree}/dev ${tree}/sys ${tree}/tmp ${tree}/etc &&
    cp /bin/busybox ${tree}/bin/ && /bin/busybox --install -s ${tree}/bin &&
    for f in ${tree}/bin/*; do [ $f = ${tree}/bin/busybox ] || ln -sfn busybox $f; done &&
    mksquashfs ${tree} /var/lib/flynn/busybox.squashfs -comp zstd -Xcompression-level 1 -quiet -no-progress`
  await cluster.host(1).run(['sh', '-c', build])
}

test('a job on a fetched layer writes to its volume and is reached over the bridge', async () => {
  await makeLayer()
  const result = await inHost(`
    const path = await layers.acquire(layer, 'h1-web', signal)
    const volume = await volumes.create({ id: 'data1', meta: { app: 'web' }, quotaBytes: 64 * 1024 ** 2 })
    const address = network.allocate('h1-web')
    const mounts = [{ source: volume.path, target: '/data', writeable: true }]
    const script = 'echo stored | dd of=/data/file conv=fsync; while true; do echo hello | nc -l -p 80; done'
    const { pid } = await runtime.create(spec('h1-web', script, path, mounts, address))
    await network.attach('h1-web', pid, address)
    await runtime.start('h1-web')
    result.address = address
    result.listed = (await runtime.list()).map(c => c.id + ' ' + c.status)
    result.busy = await volumes.destroy('data1').catch(e => e.code)`)
  assert.deepEqual(result, { address: '100.100.5.2', listed: ['h1-web running'], busy: 'conflict' })
  const answer = await cluster.host(1).run(['busybox', 'nc', '-w', '5', '100.100.5.2', '80'])
  assert.equal(answer, 'hello\n')
})

test('a second daemon finds job, layer, volume and address as they are', async () => {
  const result = await inHost(`
    await layers.adopt('h1-web', [layer.id])
    await layers.sweep()
    network.reserve('h1-web', '100.100.5.2')
    result.listed = (await runtime.list()).map(c => c.id + ' ' + c.status)
    result.meta = volumes.get('data1')?.meta
    result.next = network.allocate('h1-other')
    result.layer = readFileSync(await layers.acquire(layer, 'h1-other', signal) + '/bin/busybox').length > 0`)
  assert.deepEqual(result, {
    listed: ['h1-web running'],
    meta: { app: 'web' },
    next: '100.100.5.3',
    layer: true,
  })
})

test('after a power cut the job is lost, its traces can be removed, and the volume has its data', async () => {
  await cluster.host(1).reboot()
  const result = await inHost(`
    result.listed = (await runtime.list()).map(c => c.id + ' ' + c.status)
    result.wait = await runtime.wait('h1-web', signal).catch(e => e.code)
    await runtime.remove('h1-web')
    result.left = (await runtime.list()).length
    result.file = readFileSync(volumes.get('data1').path + '/file', 'utf8')
    const path = await layers.acquire(layer, 'h1-again', signal)
    const mounts = [{ source: volumes.get('data1').path, target: '/data', writeable: false }]
    const { stdio } = await runtime.create(spec('h1-again', 'cat /data/file; exit 3', path, mounts))
    await runtime.start('h1-again')
    result.exit = (await runtime.wait('h1-again', signal)).status
    result.stdout = readFileSync(stdio.stdout, 'utf8')
    await runtime.remove('h1-again')
    await layers.release('h1-again')
    await volumes.destroy('data1')`)
  assert.deepEqual(result, {
    listed: ['h1-web stopped'],
    wait: 'container_lost',
    left: 0,
    file: 'stored\n',
    exit: 3,
    stdout: 'stored\n',
  })
  const host = cluster.host(1)
  assert.equal((await host.run(['ls', '-A', '/var/lib/flynn/jobs'])).trim(), '')
  const mounts = await host.readFile('/proc/self/mountinfo')
  assert.doesNotMatch(mounts, /\/var\/lib\/flynn\/(jobs|layers|volumes)\//)
})
