// Three hosts that lose what holds them together: first the jobs that start everything else, then the consensus.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { request } from 'undici'
import type { ActiveJob } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import type { TestHost } from '../cluster/types.ts'
import { bootFlynn, deployGuestbook, domain, type FlynnCluster } from '../fixtures/flynn-cluster.ts'

/** The grace of the monitor, PostgreSQL's recovery, and a busy machine. */
const patience = { timeoutMs: 240_000, intervalMs: 1_000 }
const message = 'written before everything fell'

let cluster: FlynnCluster
/** One that is on. */
let h1: TestHost
/** Loses its power first. */
let dead: TestHost
/** Keeps its data while the others are lost. */
let survivor: TestHost

before(async () => {
  cluster = await bootFlynn({ name: 'recovery', hosts: 4, first: 3 })
  h1 = cluster.machines.host(1)
  await deployGuestbook(cluster, 1)
  await sign(h1, message)
})

after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

const front = { host: `guestbook.${domain}` }
const limits = { headersTimeout: 10_000, bodyTimeout: 10_000 }

async function sign(host: TestHost, text: string): Promise<void> {
  const answer = await request(`http://${host.address}/`, {
    method: 'POST',
    headers: { ...front, 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ name: 'test', message: text }).toString(),
    ...limits,
  })
  await answer.body.dump()
  assert.ok(answer.statusCode < 400, `signing the guestbook answers ${answer.statusCode}`)
}

async function page(host: TestHost): Promise<string> {
  const answer = await request(`http://${host.address}/`, { headers: front, ...limits })
  return answer.body.text()
}

const process = (job: ActiveJob) =>
  `${job.job.metadata?.['flynn-controller.app_name']}/${job.job.metadata?.['flynn-controller.type']}`

const fallen = ['controller/scheduler', 'controller/web', 'postgres/postgres']

async function active(...names: string[]): Promise<readonly ActiveJob[]> {
  return (await cluster.jobs()).filter(j => names.includes(process(j)))
}

async function fixPlan(host: TestHost): Promise<string> {
  return host.run(['flynn-host', 'fix', '--plan'])
}

test('on a cluster that is well, fix finds nothing to do', async () => {
  assert.match(await fixPlan(h1), /Nothing is missing\./)
})

test('with a host off, and scheduler, controller and postgres stopped on the others, it heals by itself', async t => {
  const first = await primaryHost()
  dead = cluster.hosts.slice(0, 3).find(h => h !== first) as TestHost
  await dead.powerOff()
  h1 = first
  const before = await active('postgres/postgres')
  // Again while the last scheduler starts others anew.
  for (let jobs = await active(...fallen); jobs.length > 0; jobs = await active(...fallen))
    await Promise.all(jobs.map(j => h1.exec(['flynn-host', 'stop', j.job.id], { timeoutMs: 90_000 })))
  // The host that is off counts until its lease has ended.
  await poll(async () => /start controller on h/.test(await fixPlan(h1)), {
    ...patience,
    what: 'the plan to name the controller',
  })
  const stoppedAt = performance.now()
  await poll(async () => (await page(h1)).includes(message), {
    ...patience,
    what: 'the page with what was written before',
  })
  t.diagnostic(`the page is back after ${((performance.now() - stoppedAt) / 1000).toFixed(1)} s`)
  await poll(async () => (await fixPlan(h1)).includes('Nothing is missing.'), {
    ...patience,
    what: 'everything to be there',
  })
  const after = await active('postgres/postgres')
  assert.deepEqual(volumesOf(after), volumesOf(before), 'the database is on the data it was on')
  assert.equal(new Set(after.map(j => j.host_id)).size, after.length, 'one database a host')
})

test('a dead peer is taken out by force, by way of the others', async () => {
  survivor = await primaryHost()
  const second = cluster.hosts.slice(0, 3).find(h => h !== survivor && h !== dead) as TestHost
  assert.notEqual((await survivor.exec(['flynn-host', 'demote', dead.address])).code, 0)
  const told = await survivor.exec(['flynn-host', 'demote', '--force', dead.address], { timeoutMs: 240_000 })
  assert.equal(told.code, 0, told.stderr)
  assert.match(told.stderr, new RegExp(`Forcefully removed peer http://${dead.address}:1111`))
  assert.match(told.stderr, /DISCOVERD_PEERS/)
  assert.deepEqual(await peers(survivor), [survivor, second].map(h => `${h.address}:1111`).sort())
  await second.powerOff()
})

test('with the majority gone for good, the survivor goes on with its data and a new host joins it', async () => {
  const plan = await survivor.run(['flynn-host', 'recover', '--plan'])
  assert.match(
    plan,
    new RegExp(`\\(${survivor.address}\\) has data to revision \\d+ +<- these data are kept`),
  )
  const refused = await survivor.exec(['flynn-host', 'recover'])
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /--yes/)
  const told = await survivor.run(['flynn-host', 'recover', '--yes'], { timeoutMs: 120_000 })
  assert.match(told, new RegExp(`flynn-host init --peer-ips=${survivor.address}`))
  assert.deepEqual(await peers(survivor), [`${survivor.address}:1111`])
  // By hand, with two hosts that do not answer: waits until database, scheduler and controller are back.
  const fixed = await survivor.exec(['flynn-host', 'fix', '--json'], { timeoutMs: patience.timeoutMs })
  assert.equal(fixed.code, 0, fixed.stderr + fixed.stdout)
  assert.match(fixed.stdout, /"state":"complete"/)
  await poll(async () => (await page(survivor)).includes(message), {
    ...patience,
    what: 'the page with what was written before',
  })
  const fresh = cluster.machines.host(4)
  await cluster.install(fresh, { init: ['--discovery', await makeToken(survivor)] })
  await poll(async () => (await peers(fresh)).length === 1, {
    ...patience,
    what: 'discoverd on the new host',
  })
  await survivor.run(['flynn-host', 'promote', fresh.address], { timeoutMs: 240_000 })
  assert.deepEqual(await peers(survivor), [survivor, fresh].map(h => `${h.address}:1111`).sort())
  await sign(survivor, 'written afterwards')
  await poll(async () => (await page(fresh)).includes('written afterwards'), {
    ...patience,
    what: 'the page through the new host',
  })
})

/** A token server on the host, and a token that its daemon is registered behind. */
async function makeToken(host: TestHost): Promise<string> {
  await host.spawn(['flynn-host', 'discovery-server'])
  const server = `http://${host.address}:1180`
  await poll(async () => (await fetch(`${server}/.well-known/status`)).ok, {
    ...patience,
    what: 'the token server',
  })
  const env = { DISCOVERY_SERVER: server }
  const token = (await host.run(['flynn-host', 'init', '--init-discovery'], { env })).trim()
  // Ended without a word: started again with the new configuration, its jobs live on.
  await host.run(['pkill', '-KILL', '-f', 'flynn-host.mjs daemon'])
  await poll(async () => (await fetch(`${token}/instances`).then(r => r.text())).includes(host.address), {
    ...patience,
    what: 'the daemon to register behind the token',
  })
  return token
}

const volumesOf = (jobs: readonly ActiveJob[]) =>
  jobs.flatMap(j => (j.job.config.volumes ?? []).map(v => v.volume)).sort()

const peers = async (via: TestHost) => [...(await cluster.discoverd(via).raftPeers())].sort()

/** Where the database is led: the others' copies may lack the last moments. */
async function primaryHost(): Promise<TestHost> {
  const leader = await poll(() => cluster.discoverd(h1).leader('postgres'), {
    ...patience,
    what: 'a leader of the database',
  })
  const job = (await active('postgres/postgres')).find(j => leader.addr === `${j.internal_ip}:5432`)
  const host = cluster.hosts.find(h => h.name === job?.host_id)
  assert.ok(host, `the host of ${leader.addr}`)
  return host
}
