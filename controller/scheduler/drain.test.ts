// A host that is drained in a simulated world without faults: nobody misses a job meanwhile, and a cancel undoes it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { drainReport } from './drain-report.core.ts'
import { World } from './simulator.ts'
import { isLive, type SimHost } from './simulator-host.ts'
import { type Formation, formationKey, type Process } from './state.core.ts'

const plain: Process = { omni: false, volumes: [], asks: { memoryBytes: 1, cpuMillis: 1 }, args: [] }
const processes: Readonly<Record<string, Process>> = {
  web: { ...plain, service: 'svc' },
  worker: plain,
  agent: { ...plain, omni: true },
  db: { ...plain, volumes: [{ path: '/data', deleteOnStop: false }] },
}

function formation(counts: Readonly<Record<string, number>>, updatedAtUs = 1): Formation {
  return {
    key: formationKey('app', 'r'),
    appId: 'app',
    releaseId: 'r',
    system: false,
    critical: false,
    meta: {},
    updatedAtUs,
    counts,
    tags: {},
    processes,
  }
}

function start(seed: number, hosts: number, counts: Readonly<Record<string, number>>) {
  const world = new World({ seed, hosts, faults: false })
  world.startScheduler()
  world.setFormation(formation(counts))
  world.run(60_000)
  const [drained, ...others] = [...world.hosts.values()]
  assert.ok(drained)
  return { world, drained, others }
}

const liveTypes = (host: SimHost): readonly string[] =>
  [...host.jobs.values()].filter(isLive).map(j => j.type)

/** Up: running, and for a service listed by discoverd, as the controller was told. */
const up = (world: World, type: string): number =>
  [...world.table.rows.values()].filter(row => row.type === type && row.state === 'up').length

/** Runs on, and looks in every 20 ms whether as many jobs are up as are wanted. */
function runWatched(world: World, counts: Readonly<Record<string, number>>, forMs: number): void {
  for (let at = 0; at < forMs; at += 20) {
    world.run(20)
    for (const [type, wanted] of Object.entries(counts))
      assert.ok(up(world, type) >= wanted, `${type}: ${up(world, type)} of ${wanted} up at ${at} ms`)
  }
}

for (let seed = 1; seed <= 20; seed++)
  test(`a drained host keeps only what belongs on each, and no type is ever short (seed ${seed})`, () => {
    const counts = { web: 4, worker: 3 }
    const { world, drained } = start(seed, 3, { ...counts, agent: 1 })
    world.setDraining(drained, true)
    runWatched(world, counts, 30_000)
    assert.deepEqual(liveTypes(drained), ['agent'])
    const report = drainReport(world.state, drained.id, id => id)
    assert.ok(report.done && report.draining)
    assert.deepEqual(
      report.jobs.map(j => j.action),
      ['stay'],
    )
    for (const [type, wanted] of Object.entries(counts)) assert.equal(up(world, type), wanted)
  })

test('a cancel stops what was too much, and the host takes jobs again', () => {
  const counts = { web: 4, worker: 3 }
  const { world, drained } = start(7, 3, counts)
  world.setDraining(drained, true)
  world.run(400)
  world.setDraining(drained, false)
  runWatched(world, counts, 30_000)
  for (const [type, wanted] of Object.entries(counts)) assert.equal(up(world, type), wanted)
  world.setFormation(formation({ web: 8, worker: 3 }, 2))
  world.run(30_000)
  assert.ok(liveTypes(drained).length > 0)
})

test('a scheduler that takes over goes on with the drain', () => {
  const { world, drained } = start(8, 3, { web: 4, worker: 3 })
  world.setDraining(drained, true)
  world.run(300)
  world.startScheduler()
  world.run(30_000)
  assert.deepEqual(liveTypes(drained), [])
  assert.equal(up(world, 'web'), 4)
})

test('the last host cannot be drained: its jobs run on, and the report says why', () => {
  const { world, drained } = start(9, 1, { web: 2 })
  const before = drainReport(world.state, drained.id, id => id)
  assert.ok(before.jobs.every(j => j.note === 'no other host can take it'))
  world.setDraining(drained, true)
  runWatched(world, { web: 2 }, 60_000)
  const report = drainReport(world.state, drained.id, id => id)
  assert.equal(report.done, false)
  assert.equal(report.jobs.filter(j => j.note === 'no other host can take it').length, 2)
})

/** Hosts on which a volume could be written to now. */
const inUse = (world: World, id: string): readonly string[] =>
  [...world.hosts.values()].filter(h => h.volumes.has(id) && !h.fences.has(id)).map(h => h.id)

function startWithData(seed: number, hosts = 3) {
  const started = start(seed, hosts, { db: 2 })
  const { world } = started
  const home = [...world.hosts.values()].find(h => h.volumes.size > 0)
  assert.ok(home)
  const [id] = home.volumes
  assert.ok(id)
  return { world, home, id }
}

for (let seed = 1; seed <= 20; seed++)
  test(`a volume moves with its job, and nothing of it stays (seed ${seed})`, () => {
    const { world, home, id } = startWithData(seed)
    world.setDraining(home, true)
    for (let at = 0; at < 120_000; at += 50) {
      world.run(50)
      assert.ok(inUse(world, id).length <= 1)
    }
    assert.deepEqual(world.violations, [])
    assert.deepEqual([...home.volumes], [])
    const [now] = inUse(world, id)
    assert.ok(now !== undefined && now !== home.id)
    assert.equal(world.table.volumes.get(id)?.volume.hostId, now)
    assert.equal(world.liveJobs('app:r', 'db').filter(j => j.status === 'running').length, 2)
    assert.ok(drainReport(world.state, home.id, n => n).done)
  })

test('the job runs on while its volume is copied, and is down only for the last of it', () => {
  const { world, home, id } = startWithData(3)
  world.setDraining(home, true)
  let down = 0
  const holds = () => [...world.hosts.values()].some(h => h.holderOf(id)?.status === 'running')
  for (let at = 0; at < 120_000; at += 50) {
    world.run(50)
    if (!holds()) down += 50
  }
  // The simulated stop takes up to 5 s, the start 3 s, each step of the move 0.4 s.
  assert.ok(down > 0 && down < 11_000, `down for ${down} ms`)
})

test('a cancel at any moment leaves the volume in use on one host, and its job with it', () => {
  for (let moment = 100; moment < 12_000; moment += 300) {
    const { world, home, id } = startWithData(4)
    world.setDraining(home, true)
    world.run(moment)
    world.setDraining(home, false)
    world.run(90_000)
    assert.equal(inUse(world, id).length, 1, `cancelled after ${moment} ms`)
    assert.equal([...world.hosts.values()].flatMap(h => [...h.fences]).length, 0)
    assert.equal(world.liveJobs('app:r', 'db').filter(j => j.status === 'running').length, 2)
  }
})

test('a power cut of both hosts and a new scheduler at any moment lose nothing', () => {
  for (let moment = 100; moment < 12_000; moment += 300) {
    const { world, home, id } = startWithData(5)
    world.setDraining(home, true)
    world.run(moment)
    for (const host of world.hosts.values()) host.powerOff()
    world.run(2_000)
    for (const host of world.hosts.values()) host.powerOn()
    world.startScheduler()
    world.run(180_000)
    assert.deepEqual(world.violations, [])
    const [now, ...more] = inUse(world, id)
    assert.ok(now !== undefined && more.length === 0, `cut after ${moment} ms`)
    assert.notEqual(now, home.id)
    assert.deepEqual([...home.volumes], [], `cut after ${moment} ms`)
  }
})

test('a source that dies for good after its last data was sent is not waited for', () => {
  const { world, home, id } = startWithData(6)
  world.setDraining(home, true)
  const complete = () =>
    [...world.hosts.values()].some(h => {
      const fence = h.fences.get(id)
      return fence?.kind === 'incoming' && fence.complete
    })
  for (let at = 0; at < 60_000 && !complete(); at += 5) world.run(5)
  assert.ok(complete())
  home.powerOff()
  world.run(120_000)
  assert.equal(inUse(world, id).filter(h => h !== home.id).length, 1)
  assert.equal(world.liveJobs('app:r', 'db').filter(j => j.status === 'running').length, 2)
})

test('a volume goes back to a host that comes back with the copy it had given up', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { world } = start(seed, 2, { db: 1 })
    const [home, other] = [...world.hosts.values()].sort((a, b) => b.volumes.size - a.volumes.size)
    assert.ok(home && other)
    const [id = ''] = home.volumes
    const givenUp = () => {
      const fence = home.fences.get(id)
      return fence?.kind === 'retired' && fence.committed
    }
    world.setDraining(home, true)
    for (let at = 0; at < 60_000 && !givenUp(); at += 5) world.run(5)
    home.powerOff()
    world.run(30_000)
    assert.deepEqual(inUse(world, id), [other.id])
    world.setDraining(home, false)
    world.setDraining(other, true)
    world.run(10_000)
    home.powerOn()
    world.run(180_000)
    assert.deepEqual(inUse(world, id), [home.id], `seed ${seed}`)
    assert.deepEqual([...other.volumes], [])
    assert.deepEqual(world.violations, [])
    assert.equal(world.liveJobs('app:r', 'db').filter(j => j.status === 'running').length, 1)
  }
})

test('a copy that went into use while its source was away is the data, though nobody wrote it down and the drain was cancelled', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const { world, home, id } = startWithData(seed, 2)
    const other = [...world.hosts.values()].find(h => h !== home)
    assert.ok(other)
    const isComplete = () => {
      const fence = other.fences.get(id)
      return fence?.kind === 'incoming' && fence.complete
    }
    world.setDraining(home, true)
    for (let at = 0; at < 60_000 && !isComplete(); at += 5) world.run(5)
    home.powerOff()
    for (let at = 0; at < 60_000 && other.fences.has(id); at += 5) world.run(5)
    assert.deepEqual([...other.fences], [])
    world.scheduler.kill()
    world.setDraining(home, false)
    home.powerOn()
    world.run(20_000)
    world.startScheduler()
    world.run(180_000)
    assert.deepEqual(inUse(world, id), [other.id], `seed ${seed}`)
    assert.deepEqual([...home.fences], [])
    assert.equal(world.table.volumes.get(id)?.volume.hostId, other.id)
    assert.deepEqual(world.violations, [])
    assert.equal(world.liveJobs('app:r', 'db').filter(j => j.status === 'running').length, 2)
  }
})
