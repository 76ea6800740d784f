// The planner: its rules one by one, then random worlds. SIM_SEED=<n> replays one, SIM_SEEDS=<n> runs more.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isActive } from '../types.ts'
import { ageFaults, faultGraceMs, isDue } from './monitor.ts'
import {
  type ClusterView,
  describeStep,
  type HostView,
  isWell,
  patternsOf,
  planFix,
  type ServicesView,
} from './plan.core.ts'
import { job, World } from './simulator.ts'

const host = (id: string, jobs: HostView['jobs'], volumes: readonly string[] = []): HostView => ({
  ...{ id, address: `address of ${id}`, jobs, volumes },
  leaving: false,
})
const well: ServicesView = {
  postgresLeader: 'p:5432',
  schedulerLeader: 's:1',
  controllers: ['c:80'],
  routers: ['r:5000'],
}
const nothing: ServicesView = {
  postgresLeader: undefined,
  schedulerLeader: undefined,
  controllers: [],
  routers: [],
}
const steps = (view: ClusterView) => planFix(view).steps.map(describeStep)

/** Everything ran once on both hosts, and is down. */
function allDown(id: string): HostView {
  return host(
    id,
    [
      job(`${id}-d`, 'discoverd', 'app', 'down', [`${id}-dv`]),
      job(`${id}-p`, 'postgres', 'postgres', 'down', [`${id}-pv`]),
      job(`${id}-s`, 'controller', 'scheduler', 'down'),
      job(`${id}-c`, 'controller', 'web', 'down'),
      job(`${id}-r`, 'router', 'app', 'down'),
    ],
    [`${id}-dv`, `${id}-pv`],
  )
}

test('a cluster that is well needs nothing', () => {
  const plan = planFix({ hosts: [host('h1', [job('h1-d', 'discoverd', 'app', 'up')])], services: well })
  assert.deepEqual([plan.steps, plan.problems], [[], []])
  assert.deepEqual(
    plan.well.map(w => w.service),
    ['discoverd', 'postgres', 'scheduler', 'controller', 'router'],
  )
})

test('with everything down all is started in the order of need: what has data everywhere, the rest once', () => {
  assert.deepEqual(steps({ hosts: [allDown('h1'), allDown('h2')], services: undefined }), [
    'start discoverd on h1, like h1-d',
    'start discoverd on h2, like h2-d',
    'wait for discoverd',
    'start postgres on h1, like h1-p',
    'start postgres on h2, like h2-p',
    'wait for postgres',
    'start scheduler on h1, like h1-s',
    'start controller on h1, like h1-c',
    'wait for controller',
    'start router on h1, like h1-r',
    'start router on h2, like h2-r',
    'wait for router',
  ])
})

test('a host that does not answer stops nothing', () => {
  const view = { hosts: [host('h1', undefined), allDown('h2')], services: nothing }
  assert.equal(steps(view)[0], 'start discoverd on h2, like h2-d')
  assert.equal(
    planFix(view).steps.every(s => s.kind === 'wait' || s.host === 'h2'),
    true,
  )
})

test('the database is started on the volume it had, never without it and never beside a job that has it', () => {
  const down = job('h1-p', 'postgres', 'postgres', 'down', ['pv'])
  const starts = (view: ClusterView) => steps(view).filter(s => s.startsWith('start postgres'))
  const services = { ...well, postgresLeader: undefined }
  assert.deepEqual(starts({ hosts: [host('h1', [down], ['pv'])], services }), [
    'start postgres on h1, like h1-p',
  ])
  assert.deepEqual(starts({ hosts: [host('h1', [down], [])], services }), [])
  const other = job('h1-x', 'other', 'app', 'up', ['pv'])
  assert.deepEqual(starts({ hosts: [host('h1', [down, other], ['pv'])], services }), [])
  assert.match(
    planFix({ hosts: [host('h1', [down], []), host('h2', undefined)], services }).problems[0]?.text ?? '',
    /volume of the database.*do not answer: h2/,
  )
})

test('while the database has a leader its other members are the scheduler’s', () => {
  const down = job('h1-p', 'postgres', 'postgres', 'down', ['pv'])
  assert.deepEqual(steps({ hosts: [host('h1', [down], ['pv'])], services: well }), [])
})

test('a starting job is waited for, not doubled', () => {
  const jobs = [
    job('h1-d', 'discoverd', 'app', 'up'),
    job('h1-p', 'postgres', 'postgres', 'starting'),
    job('h1-s', 'controller', 'scheduler', 'starting'),
    job('h1-c', 'controller', 'web', 'starting'),
    job('h1-r', 'router', 'app', 'starting'),
  ]
  assert.deepEqual(steps({ hosts: [host('h1', jobs)], services: nothing }), [
    'wait for postgres',
    'wait for controller',
    'wait for scheduler',
    'wait for router',
  ])
})

test('of several earlier jobs the newest is the pattern', () => {
  const jobs = [
    job('h1-old', 'controller', 'web', 'down', [], 1),
    job('h1-new', 'controller', 'web', 'down', [], 3),
    job('h1-mid', 'controller', 'web', 'down', [], 2),
  ]
  const view = { hosts: [host('h1', jobs)], services: { ...well, controllers: [] } }
  assert.equal(steps(view)[0], 'start controller on h1, like h1-new')
})

test('a host that never had a controller starts one like that it was told of', () => {
  const elsewhere = [
    job('h2-web', 'controller', 'web', 'up', [], 1),
    job('h2-s', 'controller', 'scheduler', 'up'),
  ]
  const told = patternsOf({ hosts: [host('h1', []), host('h2', elsewhere)], services: well })
  assert.deepEqual(
    told.map(j => j.id),
    ['h2-s', 'h2-web'],
  )
  const lost = { ...host('h2', undefined), jobs: undefined }
  const without = { ...well, schedulerLeader: undefined, controllers: [] }
  const view = { hosts: [{ ...host('h1', []), patterns: told }, lost], services: without }
  assert.deepEqual(steps(view).slice(0, 2), [
    'start scheduler on h1, like h2-s',
    'start controller on h1, like h2-web',
  ])
  const own = job('h1-web', 'controller', 'web', 'down')
  const known = { hosts: [{ ...host('h1', [own]), patterns: told }, lost], services: without }
  assert.equal(steps(known)[1], 'start controller on h1, like h1-web')
})

test('a job of an app of the same name that is no system app is no pattern', () => {
  const foreign = job('h1-f', 'controller', 'web', 'down')
  const jobs = [{ ...foreign, job: { ...foreign.job, partition: 'user' } }]
  const plan = planFix({ hosts: [host('h1', jobs)], services: { ...well, controllers: [] } })
  assert.deepEqual(plan.steps, [])
  assert.match(plan.problems[0]?.text ?? '', /has had a controller/)
})

test('a host that is being emptied gets its discoverd back and nothing else', () => {
  const leaving = { ...allDown('h1'), leaving: true }
  assert.deepEqual(
    planFix({ hosts: [leaving], services: nothing }).steps.flatMap(s =>
      s.kind === 'start' ? [s.service] : [],
    ),
    ['discoverd'],
  )
})

test('a fault is due once it has lasted for the grace, and begins anew when it was gone', () => {
  const missing = planFix({ hosts: [allDown('h1')], services: { ...well, controllers: [] } })
  const fine = planFix({ hosts: [], services: well })
  const begun = ageFaults(new Map(), missing, 0)
  assert.equal(isDue(ageFaults(begun, missing, faultGraceMs - 1), faultGraceMs - 1), false)
  assert.equal(isDue(ageFaults(begun, missing, faultGraceMs), faultGraceMs), true)
  const again = ageFaults(ageFaults(begun, fine, 1_000), missing, 2_000)
  assert.equal(isDue(again, faultGraceMs), false)
})

// Random worlds ----------------------------------------------------------------------------------------------------

const only = process.env['SIM_SEED']
const seedsDefault = 1_000
const seeds =
  only === undefined
    ? Array.from({ length: Number(process.env['SIM_SEEDS'] ?? seedsDefault) }, (_, i) => i + 1)
    : [Number(only)]
const roundsMax = 200

/** Fixers act on views that may be old; the world itself refuses nothing but what a host refuses. */
function repair(world: World): void {
  const fixers = 1 + world.random(2)
  const views = Array.from({ length: fixers }, () => world.view())
  for (let round = 0; round < roundsMax; round++) {
    const n = world.random(fixers)
    const view = views[n] as ClusterView
    const [step] = planFix(view).steps
    world.checkNothingDoubled(planFix(world.view()).steps)
    if (step?.kind === 'start') world.start(step)
    world.pass()
    checkCheapLook(world)
    // A slow fixer looks again later than the other acts.
    if (world.random(3) > 0 || step === undefined) views[n] = world.view()
    if (planFix(world.view()).steps.length === 0) return
  }
}

/** What the monitor looks at every few seconds overlooks nothing. */
function checkCheapLook(world: World): void {
  const view = world.view()
  const hosts = view.hosts.map(h => ({ ...h, volumes: [], jobs: h.jobs?.filter(isActive) }))
  if (!isWell({ ...view, hosts })) return
  const { steps, problems } = planFix(view)
  assert.deepEqual([steps.map(describeStep), problems], [[], []])
}

test(`${seeds.length} random worlds come to work again, and nothing that runs is started`, () => {
  for (const seed of seeds) {
    const world = new World(seed)
    world.break()
    const possible = world.canWork()
    repair(world)
    const plan = planFix(world.view())
    const what = `seed ${seed}: ${plan.steps.map(describeStep)} ${JSON.stringify(plan.problems)}`
    assert.deepEqual(world.violations, [], what)
    if (possible) {
      assert.deepEqual(plan.steps, [], what)
      assert.deepEqual(plan.problems, [], what)
      assert.equal(world.works(), true, what)
    }
    const active = world.hosts.flatMap(h => (h.on ? h.jobs.filter(isActive) : []))
    const bound = active.flatMap(j => (j.job.config.volumes ?? []).map(v => v.volume))
    assert.equal(new Set(bound).size, bound.length, `seed ${seed}: a volume has two jobs`)
    world.break()
    checkCheapLook(world)
  }
})
