// A host of three is drained and removed while its apps are used (contract host.md 1.12): jobs are replaced first, a volume
// moves with all that was written to it, a cancel undoes, and a removed host does not come back by accident, but when it is asked to.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { inspect, isDeepStrictEqual } from 'node:util'
import { request } from 'undici'
import { schedulerService } from '../../controller/client.ts'
import { type ActiveJob, statusName } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import type { TestHost } from '../cluster/types.ts'
import { bootFlynn, domain, type FlynnCluster, patienceMs } from '../fixtures/flynn-cluster.ts'
import { startLoad } from '../fixtures/load.ts'

const app = '/code/test/fixtures/keeper'
const megabytes = 60
const perSecond = 20
const commandTimeoutMs = 150_000
const keeperTimeoutMs = 10_000
const output = '/var/log/flynn/flynn-host.out'
const keepsDaemon = ['/usr/local/lib/flynn/run-daemon']

let cluster: FlynnCluster
/** Where the app with the volume runs first, and another host. */
let home: TestHost
let other: TestHost

type File = { readonly name: string; readonly sha256: string }
type Journal = { readonly lines: number; readonly whole: boolean; readonly written: number }

async function keeper<T>(path: string): Promise<T> {
  const answer = await request(`http://${other.address}${path}`, {
    headers: { host: `keeper.${domain}` },
    signal: AbortSignal.timeout(keeperTimeoutMs),
  }).catch((cause: Error) => {
    throw new Error(`keeper did not answer GET ${path}: ${cause.name}`, { cause })
  })
  const text = await answer.body.text()
  assert.equal(answer.statusCode, 200, text)
  return JSON.parse(text) as T
}

async function hostOf(name: string): Promise<TestHost> {
  const job = (await cluster.jobs()).find(j => j.job.metadata?.['flynn-controller.app_name'] === name)
  const host = cluster.hosts.find(h => h.name === job?.host_id)
  assert.ok(host, `a job of ${name}`)
  return host
}

const flynnHost = (...args: string[]) => other.exec(['flynn-host', ...args], { timeoutMs: commandTimeoutMs })

/** Volumes of apps on a host; what discoverd keeps belongs to the host. */
async function appVolumes(host: TestHost) {
  const [discoverd] = (await cluster.jobs()).filter(
    j => j.job.metadata?.['flynn-controller.app_name'] === 'discoverd',
  )
  const own = discoverd?.job.metadata?.['flynn-controller.app']
  const volumes = await cluster.host(host).volumes()
  return volumes.filter(v => v.meta?.['flynn-controller.app'] !== own)
}

/** A command that must go well; answers what it printed. */
async function flynnHostDoes(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await flynnHost(...args)
  assert.equal(code, 0, `flynn-host ${args.join(' ')}: exit code ${code}\n${stderr}\n${stdout}`)
  return stdout
}

/** Waits until what is looked at fits; a failure tells what was seen last. */
async function until<T>(what: string, look: () => Promise<T>, fits: (seen: T) => boolean): Promise<T> {
  let seen: T | undefined
  const probe = async () => {
    seen = undefined
    seen = await look()
    return fits(seen)
  }
  await poll(probe, { timeoutMs: patienceMs, what }).catch((cause: Error) => {
    throw new Error(`${cause.message}; seen last: ${inspect(seen, { depth: 4 })}`, { cause })
  })
  return seen as T
}

/** Names of the hosts, as `flynn-host list` tells them. */
async function listed(): Promise<readonly string[]> {
  const lines = (await flynnHostDoes('list')).split('\n').slice(1, -1)
  return lines.map(line => line.split(/\s+/)[0] ?? '').sort()
}

/** Processes of the daemon and of what keeps it running. */
async function daemons(host: TestHost): Promise<string> {
  return (await host.exec(['pgrep', '-fa', 'flynn-host.mjs daemon|run-daemon'])).stdout.trim()
}

/** So that what a daemon says from now on stands alone. */
async function forgetOutput(host: TestHost): Promise<void> {
  await host.run(['truncate', '-s', '0', output])
}

async function isTurnedAway(host: TestHost): Promise<void> {
  const look = async () => ({ output: await host.readFile(output), running: await daemons(host) })
  const { output: said } = await until(
    `${host.name} to be turned away, and its daemon to stay ended`,
    look,
    seen => seen.running === '' && seen.output.includes('not started again'),
  )
  assert.match(said, /was removed from the cluster.*flynn-host init.*\n.*not started again.*run-daemon/)
}

/** Makes a host that was removed a new one of the cluster, and looks whether it is one. */
async function rejoins(host: TestHost): Promise<void> {
  const begunAt = new Date()
  const peers = cluster.hosts.filter(h => h !== host).map(h => h.address)
  const init = await host.exec([
    ...['flynn-host', 'init', '--join-key', cluster.joinKey, '--peer-ips', peers.join(',')],
  ])
  assert.equal(init.code, 0, init.stderr)
  const aside = /begins anew; what it had of volumes is in (\S+)/.exec(init.stderr)?.[1]
  assert.ok(aside, init.stderr)
  await host.run(['test', '-s', aside])
  await cluster.boot(host).catch(async (cause: Error) => {
    throw new Error(`${cause.message}\n${await host.readFile(output)}`, { cause })
  })
  const all = cluster.hosts.map(h => h.name)
  await until(`${host.name} to be listed`, listed, seen => isDeepStrictEqual(seen, all))
  // As many as there are hosts: one for the new host.
  await cluster.run('flynn', '-a', 'pages', 'scale', `web=${all.length}`)
  const apps = async () =>
    (await cluster.jobs())
      .filter(j => j.host_id === host.name && statusName(j) === 'running')
      .map(j => j.job.metadata?.['flynn-controller.app_name'] ?? '')
  await until(`jobs on ${host.name}`, apps, seen =>
    ['discoverd', 'router', 'pages'].every(app => seen.includes(app)),
  )
  const older = Object.values(await cluster.host(host).jobs()).filter(j => new Date(j.created_at) < begunAt)
  assert.deepEqual(
    older.map(j => j.job.id),
    [],
  )
  await until(
    `the page through ${host.name}`,
    () => cluster.visit(host, 'pages'),
    seen => seen === 200,
  )
  const volume = await cluster.host(host).createVolume({})
  await cluster.host(host).destroyVolume(volume.id)
  await cluster.run('flynn', '-a', 'pages', 'scale', `web=${all.length - 1}`)
}

/** The host whose etcd member leads. */
async function etcdLeader(): Promise<TestHost | undefined> {
  const { stdout } = await flynnHost('list')
  const name = /^(\S+) .*\(leader\)/m.exec(stdout)?.[1]
  return cluster.hosts.find(h => h.name === name)
}

/** Makes a host's etcd member the leader. */
async function lead(host: TestHost): Promise<void> {
  const { stdout } = await host.exec(['etcdctl', 'endpoint', 'status', '-w', 'json'])
  // A number of 64 bits, which JSON.parse would round.
  const id = /"member_id":(\d+)/.exec(stdout)?.[1]
  assert.ok(id, stdout)
  const leader = await etcdLeader()
  if (leader === host) return
  await leader?.run(['etcdctl', 'move-leader', BigInt(id).toString(16)])
}

before(async () => {
  cluster = await bootFlynn({ name: 'drain', hosts: 3, discovery: true })
  for (const [name, web] of [
    ['pages', 2],
    ['keeper', 0],
  ] as const) {
    await cluster.run('flynn', 'create', '--remote', '', name)
    await cluster.run('flynn', '-a', name, 'deploy', app)
    await cluster.run('flynn', '-a', name, 'scale', `web=${web}`)
  }
  await cluster.run('flynn', '-a', 'keeper', 'release', 'update', `${app}/volume.json`)
  await cluster.run('flynn', '-a', 'keeper', 'scale', 'web=1')
  home = await hostOf('keeper')
  other = cluster.hosts.find(h => h !== home) ?? home
  await poll(() => keeper('/').then(() => true), { timeoutMs: patienceMs, what: 'the app with the volume' })
})
after(() => cluster?.[Symbol.asyncDispose]())

test('a plan says what would move, and changes nothing', async () => {
  const { code, stdout } = await flynnHost('drain', '--plan', home.name)
  assert.equal(code, 0)
  assert.match(stdout, /keeper\/web .*move/)
  assert.match(stdout, /volume .* of keeper\/web \/data +copy/)
  assert.match(stdout, /discoverd\/app .*stay/)
  assert.equal((await cluster.host(home).status()).draining_since, undefined)
})

test('a host is not removed while it has volumes and jobs, and says which', async () => {
  const { code, stderr } = await flynnHost('remove', home.name)
  assert.equal(code, 1)
  assert.match(stderr, /job keeper\/web/)
  assert.match(stderr, /volume .*\/data/)
  assert.match(stderr, /flynn-host drain/)
})

test('a drain moves jobs and data: no page fails, every byte and every written line is there', async () => {
  await lead(home)
  const first = await keeper<File>(`/fill?mb=${megabytes}`)
  const before = await keeper<Journal>('/journal')
  const load = startLoad({
    address: other.address,
    hostName: `pages.${domain}`,
    pages: { '/': 'keeper' },
    perSecond,
  })
  const draining = flynnHost('drain', home.name)
  const incoming = async () =>
    (await Promise.all(cluster.hosts.map(h => cluster.host(h).volumes()))).flat().some(v => v.fence)
  await poll(incoming, { timeoutMs: patienceMs, intervalMs: 50, what: 'the copy to begin' })
  const second = await keeper<File>('/fill?mb=3')
  const { code, stdout, stderr } = await draining
  const visits = await load.stop()
  assert.equal(code, 0, stderr + stdout)
  assert.match(stdout, /is drained/)
  assert.deepEqual(
    visits.filter(v => v.failure !== undefined),
    [],
  )
  assert.ok(visits.length > perSecond)
  await poll(() => keeper('/').then(() => true), { timeoutMs: patienceMs, what: 'the app on its new host' })
  assert.deepEqual(
    [...(await keeper<File[]>('/sums'))].sort((a, b) => (a.name < b.name ? -1 : 1)),
    [first, second].sort((a, b) => (a.name < b.name ? -1 : 1)),
  )
  const now = await keeper<Journal>('/journal')
  assert.ok(now.whole && now.lines >= before.lines, JSON.stringify({ before, now }))
  assert.notEqual((await hostOf('keeper')).name, home.name)
  await poll(async () => (await etcdLeader()) !== home, {
    timeoutMs: patienceMs,
    what: 'the leadership of etcd to leave the host',
  })
  assert.deepEqual(await appVolumes(home), [])
})

test('a scheduler that did not lead while the data moved knows where it is once it leads', async () => {
  const files = await keeper<File[]>('/sums')
  const leads = async () => (await cluster.discoverd(other).leader(schedulerService))?.addr
  const before = await leads()
  const running = async (fits: (job: ActiveJob) => boolean) =>
    (await cluster.jobs()).find(j => statusName(j) === 'running' && fits(j))
  const kill = async (job: ActiveJob | undefined) => {
    const host = cluster.hosts.find(h => h.name === job?.host_id)
    assert.ok(job && host)
    await cluster.host(host).signalJob(job.job.id, 9)
  }
  await kill(await running(j => before?.startsWith(`${j.internal_ip}:`) === true))
  await until('another scheduler to lead', leads, seen => seen !== undefined && seen !== before)
  const isKeeper = (j: ActiveJob) => j.job.metadata?.['flynn-controller.app_name'] === 'keeper'
  const old = await running(isKeeper)
  await kill(old)
  await until(
    'the app to run anew',
    () => running(isKeeper),
    seen => seen !== undefined && seen.job.id !== old?.job.id,
  )
  await until(
    'the app with its files',
    () => keeper<File[]>('/sums'),
    seen => isDeepStrictEqual(seen, files),
  )
})

test('a cancelled drain leaves a volume that is half moved where it is', async () => {
  const place = await hostOf('keeper')
  const [volume] = (await cluster.jobs()).flatMap(j =>
    j.job.metadata?.['flynn-controller.app_name'] === 'keeper' ? (j.job.config.volumes ?? []) : [],
  )
  assert.ok(volume)
  const copies = async () =>
    (await Promise.all(cluster.hosts.map(h => cluster.host(h).volumes())))
      .flatMap((list, i) => list.map(v => ({ ...v, host: cluster.hosts[i]?.name })))
      .filter(v => v.id === volume.volume)
  assert.equal((await flynnHost('drain', '--cancel', home.name)).code, 0)
  await cluster.host(place).drain()
  await poll(async () => (await copies()).length > 1, {
    timeoutMs: patienceMs,
    intervalMs: 20,
    what: 'a copy on another host',
  })
  assert.equal((await flynnHost('drain', '--cancel', place.name)).code, 0)
  await poll(
    async () => {
      const [one, ...more] = await copies()
      return one !== undefined && more.length === 0 && one.fence === undefined
    },
    { timeoutMs: patienceMs, what: 'one copy that is in use' },
  )
  await poll(() => keeper<Journal>('/journal').then(j => j.whole), {
    timeoutMs: patienceMs,
    what: 'the app to serve',
  })
})

test('an empty host is removed: its place is free, and it is turned away when it boots', async () => {
  await flynnHostDoes('drain', home.name)
  await forgetOutput(home)
  await flynnHostDoes('remove', home.name)
  const left = cluster.hosts.filter(h => h !== home).map(h => h.name)
  // The others' discoverds are being replaced, and a host whose own one is not back yet may be missed for a moment.
  await until('the list without the removed host', listed, seen => isDeepStrictEqual(seen, left))
  const members = async () => (await cluster.host(other).members()).map(m => m.id).sort()
  await until('the members without the removed host', members, seen => isDeepStrictEqual(seen, left))
  await isTurnedAway(home)
  assert.equal(await cluster.visit(other, 'pages'), 200)
  const journal = await keeper<Journal>('/journal')
  assert.ok(journal.whole, JSON.stringify(journal))
})

test('a removed host is a new host of the cluster after init', () => rejoins(home))

test('so is one that was removed while its power was off', async () => {
  await home.powerOff()
  await flynnHostDoes('remove', '--force', '--yes', home.name)
  await home.up()
  await forgetOutput(home)
  await home.spawn(keepsDaemon)
  await isTurnedAway(home)
  await rejoins(home)
})

test('so is one that was removed while only its daemon was off: its jobs end', async () => {
  const jobs = Object.values(await cluster.host(home).jobs({ active: true })).flatMap(j => j.pid ?? [])
  const alive = async () =>
    (await home.exec(['ps', '-o', 'pid=,args=', '-p', jobs.join()])).stdout.split('\n').filter(Boolean)
  await home.run(['sh', '-c', 'kill "$(cat /run/flynn/flynn-host.pid)"'])
  await until(
    'the daemon to end',
    () => daemons(home),
    seen => seen === '',
  )
  assert.notDeepEqual(await alive(), [])
  await flynnHostDoes('remove', '--force', '--yes', home.name)
  await forgetOutput(home)
  await home.spawn(keepsDaemon)
  await isTurnedAway(home)
  assert.deepEqual(await alive(), [])
  await rejoins(home)
})
