// Random worlds in which an app is deployed while things go wrong: it ends in one release, the new one or the old one, and
// where only the new release is at fault, as many processes serve at every moment as were wanted.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { World } from './simulator.ts'
import { SimDeployment } from './simulator-deployment.ts'
import { breakSomething, Formations, forSeeds, settle } from './simulator-worlds.ts'

const file = 'simulator-deploy.test.ts'
const seeds = 150
const strategies = ['all-at-once', 'one-by-one', 'one-down-one-up', 'in-batches'] as const
/** The longest deployment: each step of it may take its whole time. */
const deploymentMaxMs = 60 * 60_000

type Counts = Readonly<Record<string, number>>

function begin(world: World, wanted: Counts, strategy: (typeof strategies)[number]): SimDeployment {
  const formations = new Formations()
  world.setFormation(formations.make('shop', 'old', wanted))
  world.run(3 * 60_000)
  const exclusive = new Set(wanted['db'] ? ['db'] : [])
  return new SimDeployment(world, formations, {
    ...{ app: 'shop', from: 'old', to: 'new', strategy, wanted, exclusive },
  })
}

function finish(world: World, deployment: SimDeployment): void {
  const end = world.nowMs + deploymentMaxMs
  while (deployment.outcome === undefined && world.nowMs < end) world.run(10_000)
}

function assertOneRelease(world: World, deployment: SimDeployment, wanted: Counts): void {
  const running = deployment.outcome === 'complete' ? 'new' : 'old'
  const other = running === 'new' ? 'old' : 'new'
  for (const [type, count] of Object.entries(wanted)) {
    assert.equal(world.liveJobs(`shop:${running}`, type).length, count, `${running} ${type}`)
    assert.equal(world.liveJobs(`shop:${other}`, type).length, 0, `${other} ${type}`)
  }
}

test('a deployment ends in one release, whatever fails in the middle of it', () => {
  const outcomes = new Map<string, number>()
  forSeeds(file, seeds, seed => {
    const world = new World({ seed, hosts: 1 + (seed % 3), faults: true, schedulers: 1 + (seed % 2) })
    const { random } = world
    const wanted = { web: 1 + random.below(4), worker: random.below(3), db: random.below(2) }
    world.startScheduler()
    const deployment = begin(world, wanted, strategies[seed % 4] ?? 'all-at-once')
    if (random.below(3) === 0) world.broken.add(`new ${['web', 'worker', 'db'][random.below(3)]}`)
    for (let i = 0; i < 8; i++) {
      world.run(random.below(10_000))
      const choice = random.below(10)
      if (choice === 0) deployment.cancel()
      else if (choice === 1) deployment.crash()
      else breakSomething(world)
    }
    world.heal()
    finish(world, deployment)
    settle(world)
    assertOneRelease(world, deployment, wanted)
    outcomes.set(String(deployment.outcome), (outcomes.get(String(deployment.outcome)) ?? 0) + 1)
  })
  assert.equal(outcomes.get('undefined'), undefined)
})

test('a rolling deployment never has fewer processes up than were wanted, nor does its roll-back', () => {
  forSeeds(file, seeds, seed => {
    // Messages are lost and starts refused, schedulers change; no machine fails, and nothing crashes but the new release.
    const world = new World({
      seed,
      hosts: 1 + (seed % 4),
      faults: true,
      schedulers: 1 + (seed % 2),
      router: seed % 3 === 0,
      crashes: false,
    })
    const { random } = world
    const wanted = { web: 1 + random.below(5), worker: 1 + random.below(3) }
    world.startScheduler()
    const deployment = begin(
      world,
      wanted,
      (['all-at-once', 'one-by-one', 'in-batches'] as const)[seed % 3] ?? 'one-by-one',
    )
    for (const type of ['web', 'worker'])
      assert.equal(running(world, type), wanted[type as 'web'], `before: ${type}`)
    if (random.below(2) === 0) world.broken.add(`new ${['web', 'worker'][random.below(2)]}`)
    const few: string[] = []
    world.onJobs = () => {
      for (const [type, count] of Object.entries(wanted)) {
        const up = running(world, type)
        if (up < count) few.push(`${up} of ${count} ${type} at ${world.nowMs}`)
      }
    }
    for (let i = 0; i < 4; i++) {
      world.run(random.below(15_000))
      const choice = random.below(4)
      if (choice === 0) deployment.cancel()
      else if (choice === 1) deployment.crash()
      else if (choice === 2) world.replaceScheduler()
      else world.freezeScheduler(random.below(40_000))
    }
    finish(world, deployment)
    world.onJobs = () => undefined
    assert.deepEqual(few, [])
    world.heal()
    settle(world)
    assertOneRelease(world, deployment, wanted)
  })
})

function running(world: World, type: string): number {
  return ['old', 'new']
    .flatMap(release => world.liveJobs(`shop:${release}`, type))
    .filter(job => job.status === 'running').length
}
