// Random worlds: whatever happened, every cluster comes to rest in the state that was asked for, and no rule is broken on
// the way. A failing seed is named with the command that replays it; SIM_SEEDS=<how many> runs more.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { World } from './simulator.ts'
import { disturb, Formations, forSeeds, restMs, settle } from './simulator-worlds.ts'

const file = 'simulator.test.ts'
const seeds = 650
const disturbances = 12

test('a disturbed cluster comes to rest as asked for', () => {
  forSeeds(file, seeds, seed => {
    const world = new World({
      seed,
      hosts: 1 + (seed % 4),
      faults: true,
      schedulers: 1 + (seed % 3 === 0 ? 1 : 0),
      router: seed % 5 === 0,
    })
    const formations = new Formations()
    world.startScheduler()
    for (let i = 0; i < disturbances; i++) {
      disturb(world, formations)
      world.run(world.random.below(20_000))
    }
    world.heal()
    settle(world)
  })
})

test('hosts are drained, and lose their power or their connection meanwhile: data end in use, and a job with them', () => {
  forSeeds(file, 150, seed => {
    const world = new World({
      seed,
      hosts: 2 + (seed % 3),
      faults: seed % 4 !== 0,
      schedulers: 1 + (seed % 2),
    })
    const { random } = world
    const formations = new Formations()
    world.startScheduler()
    const counts = { web: 1, db: 1 + random.below(3), cache: random.below(2) }
    world.setFormation(formations.make('app0', 'r0', counts, seed % 5 === 0))
    world.run(60_000)
    for (let i = 0; i < disturbances; i++) {
      drainOrBreak(world)
      world.run(random.below([500, 3_000, 15_000][random.below(3)] ?? 0))
    }
    world.heal()
    settle(world)
  })
})

function drainOrBreak(world: World): void {
  const { random } = world
  const hosts = [...world.hosts.values()]
  const host = hosts[random.below(hosts.length)]
  const choice = random.below(9)
  if (choice === 6) world.replaceScheduler()
  else if (choice === 7) world.freezeScheduler(3_000 + random.below(20_000))
  else if (host === undefined) return
  else if (choice < 3) world.setDraining(host, !host.draining)
  else if (choice < 5 && host.alive) host.powerOff()
  else if (choice < 5) host.powerOn()
  else if (choice === 5 && host.cut) host.heal()
  else if (choice === 5) host.cutOff()
  else if (!host.frozen) {
    host.freeze()
    world.at(3_000 + random.below(30_000), () => host.thaw())
  }
}

test('a cluster at rest is left alone, also by a new scheduler', () => {
  const world = new World({ seed: 1, hosts: 3, faults: false })
  const formations = new Formations()
  world.startScheduler()
  world.setFormation(formations.make('app0', 'r0', { web: 3, worker: 3, agent: 1, db: 2, cache: 2 }))
  settle(world)
  const { starts, stops } = world
  for (let i = 0; i < 5; i++) {
    world.run(5 * 60_000)
    world.replaceScheduler()
  }
  settle(world)
  assert.deepEqual([world.starts, world.stops], [starts, stops])
})

test('a scale-down stops as many jobs as are too many, and no other', () => {
  const world = new World({ seed: 2, hosts: 3, faults: false })
  const formations = new Formations()
  world.startScheduler()
  world.setFormation(formations.make('app0', 'r0', { web: 6, worker: 6 }))
  settle(world)
  world.setFormation(formations.make('app0', 'r0', { web: 2, worker: 6 }))
  settle(world)
  assert.equal(world.stops, 4)
})

test('processes that always end at once are started ever more slowly, each on its own', () => {
  const world = new World({ seed: 3, hosts: 2, faults: false })
  world.broken.add('web')
  world.startScheduler()
  world.setFormation(new Formations().make('app0', 'r0', { web: 2 }))
  const minutes = 30
  world.run(minutes * 60_000)
  // 5 at once, 10 with 10 s, then one in 30 s, for each of two jobs.
  const most = 2 * (16 + ((minutes * 60 - 100) / 30 + 1))
  assert.ok(world.starts > 60 && world.starts <= most, `${world.starts} starts, at most ${most}`)
  assert.deepEqual(world.violations, [])
})

test('hosts take what they have room for and no more, and all of that', () => {
  const [hosts, room] = [3, 6]
  forSeeds(file, 60, seed => {
    const size = { memoryBytes: room, cpuMillis: 1_000 }
    const world = new World({ seed, hosts, faults: true, schedulers: 1 + (seed % 2), size })
    const formations = new Formations()
    world.startScheduler()
    let wanted = 0
    for (let i = 0; i < 6; i++) {
      wanted = world.random.below(2 * hosts * room)
      world.setFormation(formations.make('app1', 'r0', { worker: wanted }))
      breakMachine(world)
      world.run(world.random.below(30_000))
    }
    world.heal()
    world.run(restMs)
    assert.deepEqual(world.violations, [])
    const live = world.liveJobs('app1:r0', 'worker')
    assert.equal(live.length, Math.min(wanted, hosts * room))
    for (const host of world.hosts.values())
      assert.ok(live.filter(j => j.hostId === host.id).length <= room, `too much on ${host.id}`)
  })
})

/** A host fails or comes back; none joins, leaves or is drained. */
function breakMachine(world: World): void {
  const hosts = [...world.hosts.values()]
  const host = hosts[world.random.below(hosts.length)]
  const choice = world.random.below(5)
  if (choice === 0 && host?.alive) host.powerOff()
  else if (choice === 0) host?.powerOn()
  else if (choice === 1) host?.freeze()
  else if (choice === 2) host?.thaw()
  else if (choice === 3) world.replaceScheduler()
}
