import assert from 'node:assert/strict'
import { closeSync, constants, openSync, readSync } from 'node:fs'
import { access, mkdir, open, readdir, readFile, writeFile } from 'node:fs/promises'
import { Socket } from 'node:net'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { ContainerdRuntime } from '../../host/container/runtime.ts'
import type { ContainerSpec } from '../../host/container/types.ts'
import { defaultCapabilities, defaultDevices } from '../../host/job/defaults.core.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { createLogger, silentLogger } from '../../pkg/log/log.ts'
import { listMounts } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { busyboxTree, enginePaths, inOwnNamespaces } from './engine-host.ts'

inOwnNamespaces(import.meta.filename)

const paths = enginePaths()
const log = process.env['DEBUG'] ? createLogger({ component: 'test' }) : silentLogger()
const partitions = { system: { cpuShares: 4096 }, user: { cpuShares: 8192 } }
const repo = join(import.meta.dirname, '../..')
const mib = 1024 * 1024
let layer: string
let runtime: ContainerdRuntime

const soon = () => AbortSignal.timeout(30_000)

function newRuntime() {
  return new ContainerdRuntime({ paths, partitions, log })
}

let counter = 0
function spec(args: readonly string[], more: Partial<ContainerSpec> = {}): ContainerSpec {
  counter += 1
  return {
    id: `h1-job${counter}`,
    args,
    env: { PATH: '/bin', GREETING: 'hello' },
    cwd: '/',
    uid: 0,
    gid: 0,
    hostname: `job${counter}`,
    partition: 'user',
    tty: false,
    stdin: false,
    layers: [layer],
    mounts: [],
    hostNetwork: false,
    hostPidNamespace: false,
    limits: { tempDiskBytes: 16 * mib },
    capabilities: defaultCapabilities,
    allowedDevices: defaultDevices,
    createdDevices: defaultDevices.filter(d => d.path !== undefined),
    writeableCgroups: false,
    noNewPrivileges: true,
    seccomp: true,
    ...more,
  }
}

const sh = (script: string, more?: Partial<ContainerSpec>) => spec(['sh', '-c', script], more)

/** Runs a container to its end; answers its exit and output, and removes it. */
async function finish(s: ContainerSpec) {
  const { stdio } = await runtime.create(s)
  await runtime.start(s.id)
  const exit = await runtime.wait(s.id, soon())
  const stdout = await readFile(stdio.stdout, 'utf8')
  const stderr = stdio.stderr === undefined ? '' : await readFile(stdio.stderr, 'utf8')
  await runtime.remove(s.id)
  return { ...exit, stdout, stderr }
}

/** Everything of this machine that still names the job. */
async function traces(id: string): Promise<readonly string[]> {
  const found: string[] = []
  for (const m of await listMounts()) if (m.target.includes(id)) found.push(`mount ${m.target}`)
  for (const entry of await readdir('/sys/block')) {
    if (!entry.startsWith('loop')) continue
    const file = await readFile(join('/sys/block', entry, 'loop/backing_file'), 'utf8').catch(() => '')
    if (file.includes(`${id}/`)) found.push(`loop ${file}`)
  }
  for (const m of await listMounts()) {
    if (!m.type.startsWith('cgroup')) continue
    const path = join(m.target, paths.cgroupRoot, 'user', id)
    if (
      await access(path).then(
        () => true,
        () => false,
      )
    )
      found.push(`cgroup ${path}`)
  }
  if ((await readdir(paths.jobsDir)).includes(id)) found.push('job directory')
  return found
}

/** Reads a named pipe to its end. */
async function readPipe(path: string): Promise<string> {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const chunks: Buffer[] = []
  for await (const chunk of new Socket({ fd, readable: true, writable: false })) chunks.push(chunk)
  return Buffer.concat(chunks).toString()
}

/** Reads what an ended job left in its pipe. */
function readLate(path: string): string {
  const fd = openSync(path, constants.O_RDONLY | constants.O_NONBLOCK)
  const buffer = Buffer.alloc(65536)
  const bytes = readSync(fd, buffer)
  closeSync(fd)
  return buffer.toString('utf8', 0, bytes)
}

before(async () => {
  layer = await busyboxTree(join(paths.stateDir, 'busybox'))
  runtime = newRuntime()
  await runtime.open(soon())
})

after(async () => {
  await runtime.close()
})

test('a container runs, its output lies in files and its exit code is told', async () => {
  const r = await finish(sh('echo $GREETING; echo oops >&2; exit 3'))
  assert.deepEqual([r.status, r.stdout, r.stderr, r.oomKilled], [3, 'hello\n', 'oops\n', false])
})

test('a job that a signal ends reports 128 and the number of the signal', async () => {
  const s = spec(['sleep', '100'])
  await runtime.create(s)
  await runtime.start(s.id)
  await runtime.signal(s.id, 9)
  const exit = await runtime.wait(s.id, soon())
  await runtime.remove(s.id)
  assert.deepEqual([exit.status, exit.oomKilled], [137, false])
})

test('a program without a handler is ended by SIGTERM under the init', async () => {
  const s = spec(['sleep', '100'], { init: true })
  await runtime.create(s)
  await runtime.start(s.id)
  await poll(async () => (await runtime.usage(s.id)).processes === 2, { timeoutMs: 20_000, what: 'sleep' })
  await runtime.signal(s.id, 15)
  const exit = await runtime.wait(s.id, soon())
  await runtime.remove(s.id)
  assert.equal(exit.status, 143)
})

test('the limits of a job are seen from inside', async () => {
  const limits = {
    memoryBytes: 256 * mib,
    cpuMilli: 750,
    processes: 77,
    openFiles: { soft: 512, hard: 1024 },
    tempDiskBytes: 16 * mib,
  }
  const r = await finish(
    sh(
      `cd /sys/fs/cgroup
      cat memory/memory.limit_in_bytes memory.max 2>/dev/null
      cat pids/pids.max pids.max 2>/dev/null
      cat cpu/cpu.shares cpu.weight 2>/dev/null
      ulimit -Sn; ulimit -Hn; df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2`,
      { limits },
    ),
  )
  const [memory, pids, cpu, ...rest] = r.stdout.trim().split('\n')
  assert.deepEqual([memory, pids], ['268435456', '77'])
  // Shares on cgroup v1, the weight that stands for them on v2.
  assert.ok(cpu === '768' || cpu === '30', cpu)
  assert.deepEqual(rest, ['512', '1024', String(64 * 1024)])
})

test('a job that runs out of memory is killed and the exit says why', async () => {
  const told: string[] = []
  runtime.onOom(id => told.push(id))
  const limits = { memoryBytes: 16 * mib, tempDiskBytes: 16 * mib }
  const s = sh('x=a; while true; do x=$x$x; done', { limits })
  const exit = await finish(s)
  assert.deepEqual([exit.status, exit.oomKilled], [137, true])
  await poll(() => told.includes(s.id), { timeoutMs: 20_000, what: 'the OOM listener' })
})

test('a child killed for lack of memory is told while the job runs on', async () => {
  const told: string[] = []
  runtime.onOom(id => told.push(id))
  const limits = { memoryBytes: 16 * mib, tempDiskBytes: 16 * mib }
  const s = sh("sh -c 'x=a; while true; do x=$x$x; done'; echo child: $?; sleep 1; exit 5", { limits })
  const exit = await finish(s)
  assert.deepEqual([exit.status, exit.oomKilled, exit.stdout], [5, false, 'child: 137\n'])
  assert.ok(told.includes(s.id))
})

test('a job outlives containerd, and an exit while containerd is away is told with its code', async () => {
  const stays = sh('while true; do echo tick; sleep 0.1; done')
  const ends = sh('sleep 0.5; exit 7')
  for (const s of [stays, ends]) {
    await runtime.create(s)
    await runtime.start(s.id)
  }
  const waiting = runtime.wait(ends.id, soon())
  const pid = runtime.containerdPid ?? 0
  process.kill(pid, 'SIGKILL')
  assert.equal((await waiting).status, 7)
  assert.notEqual(runtime.containerdPid, pid)
  const running = await runtime.list()
  assert.equal(running.find(c => c.id === stays.id)?.status, 'running')
  const { stdout } = runtime.stdio(stays.id)
  const before = (await readFile(stdout, 'utf8')).length
  await poll(async () => (await readFile(stdout, 'utf8')).length > before, {
    timeoutMs: 20_000,
    what: 'more output',
  })
  for (const s of [stays, ends]) await runtime.remove(s.id)
})

test('jobs outlive a killed daemon, which finds them and their exits again', async () => {
  const stays = sh('sleep 100')
  const ends = sh('sleep 0.5; exit 9')
  const script = `
    import { ContainerdRuntime } from ${JSON.stringify(join(repo, 'host/container/runtime.ts'))}
    import { silentLogger } from ${JSON.stringify(join(repo, 'pkg/log/log.ts'))}
    const paths = ${JSON.stringify(paths)}
    const r = new ContainerdRuntime({ paths, partitions: {}, log: silentLogger() })
    await r.open(AbortSignal.timeout(30000))
    for (const s of ${JSON.stringify([stays, ends])}) { await r.create(s); await r.start(s.id) }
    process.kill(process.pid, 'SIGKILL')`
  const argv = [process.execPath, '--input-type=module', '-e', script] as const
  await assert.rejects(run(argv, { env: { NODE_TEST_CONTEXT: '' } }), /SIGKILL/)
  const second = newRuntime()
  await second.open(soon())
  assert.equal((await second.list()).find(c => c.id === stays.id)?.status, 'running')
  assert.equal((await second.wait(ends.id, soon())).status, 9)
  for (const s of [stays, ends]) await second.remove(s.id)
  await second.close()
})

test('a job whose shim is killed is lost, and can be removed', async () => {
  const s = spec(['sleep', '100'])
  const { pid } = await runtime.create(s)
  await runtime.start(s.id)
  const waiting = runtime.wait(s.id, soon())
  const shim = Number(/^PPid:\s+(\d+)/m.exec(await readFile(`/proc/${pid}/status`, 'utf8'))?.[1])
  process.kill(shim, 'SIGKILL')
  await assert.rejects(waiting, { code: 'container_lost' })
  assert.deepEqual(
    (await runtime.list()).find(c => c.id === s.id),
    { id: s.id, pid: 0, status: 'stopped' },
  )
  await runtime.remove(s.id)
  assert.deepEqual(await traces(s.id), [])
})

test('a job with stdin reads what is written and ends when stdin is closed', async () => {
  const s = sh('cat; echo done', { stdin: true })
  const { stdio } = await runtime.create(s)
  const output = readPipe(stdio.stdout)
  await runtime.start(s.id)
  const stdin = await open(stdio.stdin ?? '', 'w')
  await stdin.write('through a pipe\n')
  await stdin.close()
  await runtime.closeStdin(s.id)
  assert.equal((await runtime.wait(s.id, soon())).status, 0)
  assert.equal(await output, 'through a pipe\ndone\n')
  await runtime.remove(s.id)
})

test('stdin stays open when a writer goes away, and output waits for a reader', async () => {
  const s = sh('read a; read b; echo $a $b', { stdin: true })
  const { stdio } = await runtime.create(s)
  await runtime.start(s.id)
  for (const line of ['first\n', 'second\n']) {
    const stdin = await open(stdio.stdin ?? '', 'w')
    await stdin.write(line)
    await stdin.close()
  }
  assert.equal((await runtime.wait(s.id, soon())).status, 0)
  assert.equal(readLate(stdio.stdout), 'first second\n')
  await runtime.remove(s.id)
})

test('a job with a terminal has its size, also after it changed', async () => {
  const size = { rows: 33, columns: 77 }
  const s = sh('stty size; read x; stty size; exit 4', { tty: true, stdin: true, size })
  const { stdio } = await runtime.create(s)
  assert.equal(stdio.stderr, undefined)
  await runtime.start(s.id)
  const output = readPipe(stdio.stdout)
  await runtime.resize(s.id, 45, 123)
  const stdin = await open(stdio.stdin ?? '', 'w')
  await stdin.write('\r')
  assert.equal((await runtime.wait(s.id, soon())).status, 4)
  await stdin.close()
  assert.match(await output, /45 123/)
  await runtime.remove(s.id)
})

test('a terminal has the size it was created with', async () => {
  const size = { rows: 33, columns: 77 }
  const s = sh('stty size', { tty: true, size })
  const { stdio } = await runtime.create(s)
  await runtime.start(s.id)
  await runtime.wait(s.id, soon())
  assert.equal(readLate(stdio.stdout), '33 77\r\n')
  await runtime.remove(s.id)
})

test('a full temp disk gives ENOSPC and harms nobody else', async () => {
  const r = await finish(sh('dd if=/dev/zero of=/tmp/big bs=1M count=64; echo status $?'))
  assert.match(r.stderr, /No space left on device/)
  assert.match(r.stdout, /status 1/)
})

test('a missing program is a clear error and leaves nothing behind', async () => {
  const s = spec(['no-such-program'])
  await assert.rejects(runtime.create(s), e => {
    assert.ok(e instanceof Error)
    assert.match(e.message, /no-such-program.*not found/)
    return true
  })
  assert.deepEqual(await traces(s.id), [])
})

test('a missing layer is an error and leaves nothing behind', async () => {
  const s = spec(['true'], { layers: ['/nonexistent/layer'] })
  await assert.rejects(runtime.create(s), { code: 'container_create' })
  assert.deepEqual(await traces(s.id), [])
})

test('nothing is left of a removed job that was running', async () => {
  const s = sh('sleep 100 & sleep 100', { stdin: true })
  const { pid } = await runtime.create(s)
  await runtime.start(s.id)
  await runtime.remove(s.id)
  assert.deepEqual(await traces(s.id), [])
  await assert.rejects(access(`/proc/${pid}`))
  assert.deepEqual(await runtime.list(), [])
  await runtime.remove(s.id)
})

test('a job may not mount, enter new user namespaces, load modules or gain privileges', async () => {
  const r = await finish(
    sh(`exec 2>&1
      mount -t tmpfs x /tmp || echo no mount
      unshare -U true || echo no user namespace
      insmod /bin/busybox || echo no module
      grep -E 'NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t'
      wc -c < /proc/keys
      ls /sys/firmware
      mknod /tmp/disk b 254 0 && dd if=/tmp/disk of=/dev/null count=1 || echo no disk
      echo 1 > /proc/sys/vm/drop_caches || echo no sysctl
      mkdir /sys/fs/cgroup/memory/more || echo no cgroup`),
  )
  const said = r.stdout.split('\n').filter(line => /^(no |NoNewPrivs|Seccomp|\d+$)/.test(line))
  assert.deepEqual(said, [
    'no mount',
    'no user namespace',
    'no module',
    'NoNewPrivs:1',
    'Seccomp:2',
    '0',
    'no disk',
    'no sysctl',
    'no cgroup',
  ])
})

test('a job of another user has none of the capabilities of root', async () => {
  const r = await finish(sh('id -u; grep CapEff /proc/self/status | cut -f2', { uid: 65534, gid: 65534 }))
  // CAP_NET_BIND_SERVICE is bit 10.
  assert.deepEqual(r.stdout.trim().split('\n'), ['65534', '0000000000000400'])
})

test('a job has a network of its own, or the host network when asked', async () => {
  const own = await finish(sh('ls /sys/class/net; hostname'))
  assert.equal(own.stdout, `lo\njob${counter}\n`)
  await run(['ip', 'link', 'add', 'mark0', 'type', 'bridge'])
  const host = await finish(sh('ls /sys/class/net', { hostNetwork: true }))
  assert.match(host.stdout, /mark0/)
})

test('hosts and hostname name the job, resolv.conf is the configured one', async () => {
  await writeFile(paths.resolvConf, 'nameserver 100.100.1.1\n')
  const r = await finish(sh('cat /etc/hosts /etc/hostname /etc/resolv.conf'))
  const name = `job${counter}`
  assert.equal(r.stdout, `127.0.0.1 localhost ${name}\n${name}\nnameserver 100.100.1.1\n`)
})

test('binds are read-only unless writeable', async () => {
  const source = join(paths.stateDir, 'data')
  await mkdir(source, { recursive: true })
  const mounts = [
    { source, target: '/data/ro', writeable: false },
    { source, target: '/data/rw', writeable: true },
  ]
  const r = await finish(
    sh('echo kept > /data/rw/file; echo x > /data/ro/file; cat /data/ro/file', { mounts }),
  )
  assert.equal(r.stdout, 'kept\n')
  assert.match(r.stderr, /Read-only file system/)
})

test('create and start may be repeated', async () => {
  const s = spec(['sleep', '100'])
  const first = await runtime.create(s)
  assert.deepEqual(await runtime.create(s), first)
  await runtime.start(s.id)
  await runtime.start(s.id)
  const usage = await runtime.usage(s.id)
  assert.equal(usage.processes, 1)
  assert.ok(usage.memoryBytes > 0)
  assert.ok(usage.cpuNs > 0)
  await runtime.remove(s.id)
})

test('unknown containers are told apart', async () => {
  await assert.rejects(runtime.start('h1-unknown'), { code: 'object_not_found' })
  await assert.rejects(runtime.signal('h1-unknown', 15), { code: 'object_not_found' })
  await assert.rejects(runtime.wait('h1-unknown', soon()), { code: 'container_lost' })
  await assert.rejects(runtime.create({ ...spec(['true']), id: '../up' }), { code: 'validation_error' })
})

test('twenty jobs start at once', async () => {
  const specs = Array.from({ length: 20 }, () => spec(['sleep', '100']))
  await Promise.all(
    specs.map(async s => {
      await runtime.create(s)
      await runtime.start(s.id)
    }),
  )
  assert.equal((await runtime.list()).filter(c => c.status === 'running').length, 20)
  await Promise.all(specs.map(s => runtime.remove(s.id)))
  assert.deepEqual(await runtime.list(), [])
  for (const s of specs) assert.deepEqual(await traces(s.id), [])
})
