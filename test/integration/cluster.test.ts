// The test hosts themselves: what every other integration test takes for granted.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { after, before, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import { run } from '../../pkg/proc/run.ts'
import { createCluster, leftovers, type TestCluster, type TestHost } from '../cluster/cluster.ts'

const name = 'self-test'
const nothing = { processes: [], cgroups: [], mounts: [], loops: [], links: [], tables: [], directories: [] }
let cluster: TestCluster
let h1: TestHost
let h2: TestHost

before(async () => {
  cluster = await createCluster({ name, hosts: 2 })
  h1 = cluster.host(1)
  h2 = cluster.host(2)
})

after(() => cluster.down())

/** An HTTP server that answers with the host's name, on port 8000. */
async function serve(host: TestHost): Promise<void> {
  const program = `require('node:http').createServer((_, r) => r.end(require('node:os').hostname())).listen(8000)`
  await host.spawn(['node', '-e', program], { log: '/var/log/serve.log' })
  await poll(async () => (await host.fetch('/', { port: 8000, timeoutMs: 500 })).ok, {
    timeoutMs: 10_000,
    what: `${host.name} to serve`,
  })
}

async function reaches(from: TestHost, to: TestHost): Promise<boolean> {
  const curl = ['curl', '-s', '--connect-timeout', '1', '--max-time', '2', `http://${to.address}:8000/`]
  return (await from.exec(curl)).stdout === to.name
}

test('each host has a name, an address, processes, disks and a cgroup root of its own', async () => {
  assert.equal((await h1.run(['hostname'])).trim(), 'h1')
  assert.match(await h2.run(['ip', '-br', 'addr', 'show', 'eth0']), new RegExp(`${h2.address}/24`))
  assert.equal((await h1.run(['cat', '/proc/1/comm'])).trim(), 'tini')
  // On version 2 a host's own processes live in a leaf.
  for (const line of (await h1.run(['cat', '/proc/self/cgroup'])).trim().split('\n'))
    assert.match(line, /:\/(init)?$/)
  for (const path of ['/var/lib/flynn/mine', '/etc/flynn/mine', '/var/log/mine', '/run/mine', '/tmp/mine']) {
    await h1.writeFile(path, 'h1')
    assert.notEqual((await h2.exec(['test', '-e', path])).code, 0, path)
    assert.equal(existsSync(path), false, path)
  }
})

test('a host sees the checkout read-only at /code', async () => {
  const ours = await readFile(new URL('../../package.json', import.meta.url), 'utf8')
  assert.equal(await h1.readFile('/code/package.json'), ours)
  assert.notEqual((await h1.exec(['touch', '/code/package.json'])).code, 0)
})

test('exec gives input, output and exit code, and 128 + n for a signal', async () => {
  const script = 'cat; echo late >&2; exit 3'
  const result = await h1.exec(['sh', '-c', script], { input: 'in' })
  assert.deepEqual(result, { code: 3, stdout: 'in', stderr: 'late\n' })
  assert.equal((await h1.exec(['sh', '-c', 'kill -TERM $$'])).code, 143)
  await assert.rejects(h1.run(['sh', '-c', script]), /exit code 3: late/)
})

test('a program that misses its deadline is ended, not only given up', async () => {
  await assert.rejects(h1.exec(['sleep', '4242'], { timeoutMs: 300 }), /no end within 300 ms/)
  await poll(async () => !(await h1.run(['ps', '-eo', 'args'])).includes('sleep 4242'), {
    timeoutMs: 20_000,
    what: 'the program to be gone',
  })
})

test('files are written with their mode, in directories that are made for them', async () => {
  await h1.writeFile('/var/lib/flynn/deep/er/file', 'ünï\n', { mode: 0o600 })
  assert.equal(await h1.readFile('/var/lib/flynn/deep/er/file'), 'ünï\n')
  assert.equal((await h1.run(['stat', '-c', '%a', '/var/lib/flynn/deep/er/file'])).trim(), '600')
})

test('hosts reach each other by name, and the test reaches them by address', async () => {
  await serve(h2)
  assert.equal(await (await h2.fetch('/', { port: 8000 })).text(), 'h2')
  assert.equal(await h1.run(['curl', '-s', 'http://h2:8000/']), 'h2')
})

test('a background program logs, runs on under PID 1 and ends with the power', async () => {
  const ticking = await h1.spawn(['sh', '-c', 'echo started; exec sleep 1000'], { log: '/var/log/tick.log' })
  assert.ok(ticking.alive)
  await poll(async () => (await h1.readFile('/var/log/tick.log')) === 'started\n', {
    timeoutMs: 20_000,
    what: 'the log line',
  })
  assert.equal((await h1.run(['ps', '-o', 'ppid=', '-p', String(ticking.pid)])).trim(), '1')
  await h1.powerOff()
  assert.equal(ticking.alive, false)
  assert.equal(h1.alive, false)
  await assert.rejects(h1.exec(['true']), /is off/)
  await h1.up()
})

test('a reboot keeps the disks and /etc, and forgets /run, /tmp and every process', async () => {
  for (const path of ['/var/lib/flynn/kept', '/etc/flynn/kept', '/run/lost', '/tmp/lost'])
    await h1.writeFile(path, 'x')
  const before = h1.pid
  await h1.reboot()
  assert.notEqual(h1.pid, before)
  for (const path of ['/var/lib/flynn/kept', '/etc/flynn/kept']) assert.equal(await h1.readFile(path), 'x')
  for (const path of ['/run/lost', '/tmp/lost'])
    assert.notEqual((await h1.exec(['test', '-e', path])).code, 0)
})

test('power-off frees loop devices, mounted or only set up', async () => {
  await h1.run(['truncate', '-s', '8M', '/var/lib/flynn/mounted', '/var/lib/flynn/attached'])
  await h1.run(['mkfs.ext4', '-q', '/var/lib/flynn/mounted'])
  await h1.run(['mount', '-o', 'loop', '/var/lib/flynn/mounted', '/mnt'])
  await h1.run(['losetup', '--find', '/var/lib/flynn/attached'])
  assert.equal((await leftovers(name)).loops.length, 2)
  await h1.powerOff()
  assert.deepEqual((await leftovers(name)).loops, [])
  await h1.up()
})

test('a frozen host stands still with its connections open, and goes on after thaw', async () => {
  await serve(h2)
  await h2.freeze()
  await assert.rejects(h2.fetch('/', { port: 8000, timeoutMs: 700 }), { name: 'TimeoutError' })
  await h2.thaw()
  assert.equal(await (await h2.fetch('/', { port: 8000 })).text(), 'h2')
})

test('a frozen host can be powered off', async () => {
  await h2.freeze()
  await h2.reboot()
  assert.equal((await h2.run(['hostname'])).trim(), 'h2')
})

test('a cut parts two hosts in both directions until it is healed', async () => {
  await Promise.all([serve(h1), serve(h2)])
  await cluster.cut(h1, 'h2')
  assert.deepEqual(await Promise.all([reaches(h1, h2), reaches(h2, h1)]), [false, false])
  assert.equal(await (await h1.fetch('/', { port: 8000 })).text(), 'h1')
  await cluster.heal()
  assert.deepEqual(await Promise.all([reaches(h1, h2), reaches(h2, h1)]), [true, true])
})

test('a cut of one way leaves the other open', async () => {
  for (const host of [h1, h2])
    await host.spawn(['socat', '-u', 'UDP-RECV:9000', 'OPEN:/run/heard,creat,append'], {
      log: '/var/log/socat.log',
    })
  const say = (from: TestHost, to: TestHost, word: string) =>
    from.run(['socat', '-u', 'STDIN', `UDP-SENDTO:${to.address}:9000`], { input: `${word}\n` })
  const hears = (to: TestHost, from: TestHost, word: string) =>
    poll(
      async () => {
        await say(from, to, word)
        return (await to.exec(['cat', '/run/heard'])).stdout.includes(word)
      },
      { timeoutMs: 10_000, what: `${to.name} to hear "${word}"` },
    )
  await hears(h2, h1, 'first')
  await cluster.cut(h1, h2, { oneWay: true })
  await say(h1, h2, 'lost')
  await hears(h1, h2, 'open')
  await cluster.heal()
  await hears(h2, h1, 'healed')
  assert.doesNotMatch(await h2.readFile('/run/heard'), /lost/)
})

test('containerd runs inside a host with its usual settings', async () => {
  await h1.spawn(['containerd'])
  const version = await poll(
    async () => {
      const { code, stdout } = await h1.exec(['ctr', 'version'])
      return code === 0 && stdout
    },
    { timeoutMs: 20_000, what: 'containerd to answer' },
  )
  assert.match(version, /Server:\n\s+Version:/)
})

const noZfsFuse = !existsSync('/usr/sbin/zfs-fuse') && 'this machine has ZFS in its kernel'
test('a pool of zfs-fuse survives the power, each host with its own', { skip: noZfsFuse }, async () => {
  const startZfs = async (host: TestHost) => {
    await host.spawn(['zfs-fuse', '--no-daemon'])
    await poll(async () => (await host.exec(['zpool', 'list'])).code === 0, {
      timeoutMs: 20_000,
      what: 'zfs-fuse to answer',
    })
  }
  for (const host of [h1, h2]) {
    await startZfs(host)
    await host.run(['truncate', '-s', '256M', '/var/lib/flynn/pool'])
    await host.run(['zpool', 'create', '-m', '/var/lib/flynn/vol', 'same', '/var/lib/flynn/pool'])
    await host.run(['dd', 'of=/var/lib/flynn/vol/file', 'conv=fsync', 'status=none'], { input: host.name })
  }
  await h1.reboot()
  await startZfs(h1)
  await h1.run(['zfs', 'mount', '-a'])
  assert.equal(await h1.readFile('/var/lib/flynn/vol/file'), 'h1')
  assert.equal(await h2.readFile('/var/lib/flynn/vol/file'), 'h2')
})

test('two clusters live side by side and do not see each other; with internet they are routed', async () => {
  await serve(h2)
  await using open = await createCluster({ name: 'self-test-open', hosts: 1, internet: true })
  const [stranger] = open.hosts
  assert.ok(stranger)
  assert.notEqual(open.gateway, cluster.gateway)
  assert.equal(await reaches(stranger, h2), false)
  assert.equal(await reaches(h2, h2), true)
  await using wide = await createCluster({ name: 'self-test-wide', hosts: 1, internet: true })
  await serve(wide.host(1))
  const curl = ['curl', '-s', '--max-time', '5', `http://${wide.host(1).address}:8000/`]
  assert.equal(await stranger.run(curl), 'h1')
  assert.equal((await h1.exec(curl)).stdout, '')
})

test('binds show directories of the machine, read-only unless asked otherwise', async () => {
  const binds = [
    { source: import.meta.dirname, target: '/opt/tests' },
    { source: import.meta.filename, target: '/opt/one-file' },
  ]
  await using bound = await createCluster({ name: 'self-test-bind', hosts: 1, binds })
  const host = bound.host(1)
  const ours = await readFile(import.meta.filename, 'utf8')
  assert.equal(await host.readFile('/opt/tests/cluster.test.ts'), ours)
  assert.equal(await host.readFile('/opt/one-file'), ours)
  assert.notEqual((await host.exec(['touch', '/opt/tests/new'])).code, 0)
})

test('nothing is left of a cluster that goes down under load', async () => {
  const doomed = await createCluster({ name: 'self-test-down', hosts: 2 })
  const [one, two] = doomed.hosts
  assert.ok(one && two)
  await serve(one)
  await one.run(['mount', '-t', 'tmpfs', 'tmpfs', '/mnt'])
  await two.freeze()
  await doomed.cut(one, two)
  const subnet = Number(doomed.gateway.split('.')[2])
  await doomed.down()
  assert.deepEqual(await leftovers('self-test-down', subnet), nothing)
  await doomed.down()
})

test('what a killed test process left is removed by the next cluster', async () => {
  const program = `
    const { createCluster } = await import(${JSON.stringify(new URL('../cluster/cluster.ts', import.meta.url))})
    await createCluster({ name: 'self-test-crash', hosts: 1 })
    process.kill(process.pid, 'SIGKILL')`
  const child = spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: 'inherit' })
  const [, signal] = await once(child, 'exit')
  assert.equal(signal, 'SIGKILL')
  assert.notDeepEqual(await leftovers('self-test-crash'), nothing)
  await using next = await createCluster({ name: 'self-test-next', hosts: 1 })
  assert.ok(next.host(1).alive)
  assert.deepEqual(await leftovers('self-test-crash'), nothing)
})

test('people get at a cluster through the command line', async () => {
  const main = new URL('../cluster/main.ts', import.meta.url).pathname
  const hosts = (...args: readonly string[]) =>
    run([process.execPath, main, ...args, '--cluster', 'self-test-cli'], { accept: [1, 7, 64] })
  try {
    assert.match((await hosts('up', '1')).stdout, /h1 {2}10\.213\.\d+\.1 {2}up/)
    const exec = [process.execPath, main, 'exec', 'h1', '--cluster', 'self-test-cli', '--'] as const
    assert.equal((await run([...exec, 'sh', '-c', 'exit 7'], { accept: [7] })).code, 7)
    assert.equal((await hosts('up', '1')).code, 1)
    assert.equal((await hosts('kill', 'h1')).code, 0)
    assert.match((await hosts('list')).stdout, /self-test-cli .*\n {2}h1 .* off/)
  } finally {
    await hosts('down')
  }
  assert.deepEqual(await leftovers('self-test-cli'), nothing)
})
