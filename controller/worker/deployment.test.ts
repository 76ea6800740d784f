import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Processes, Strategy } from '../types.ts'
import { nextStep, type Plan, resumeStep } from './deployment.core.ts'

type Options = {
  readonly strategy: Strategy
  readonly wanted: Processes
  readonly new?: Processes
  readonly old?: Processes
  readonly types?: readonly string[]
  readonly exclusive?: readonly string[]
  readonly batchSize?: number
}

function makePlan(options: Options): Plan {
  return {
    strategy: options.strategy,
    wanted: options.wanted,
    old: options.old ?? options.wanted,
    new: options.new ?? {},
    types: new Set(options.types ?? Object.keys(options.wanted)),
    exclusive: new Set(options.exclusive ?? []),
    batchSize: options.batchSize ?? 1,
  }
}

/** Takes every step at once; the trail shows `new/old` counts after each. */
function runAll(options: Options): { trail: string[]; least: number; end: Plan } {
  let plan = makePlan(options)
  const total = (p: Processes) => Object.values(p).reduce((sum, n) => sum + n, 0)
  const trail: string[] = []
  let least = Number.POSITIVE_INFINITY
  for (let i = 0; i < 100; i++) {
    const step = nextStep(plan)
    if (!step) return { trail, least, end: plan }
    plan = { ...plan, [step.release]: { ...plan[step.release], ...step.processes } }
    trail.push(`${total(plan.new)}/${total(plan.old)}`)
    least = Math.min(least, total(plan.new) + total(plan.old))
  }
  throw new Error('the deployment never ends')
}

test('one-by-one starts a new job before it stops an old one', () => {
  const { trail, least } = runAll({ strategy: 'one-by-one', wanted: { web: 3 } })
  assert.deepEqual(trail, ['1/3', '1/2', '2/2', '2/1', '3/1', '3/0'])
  assert.equal(least, 3)
})

test('one-by-one goes through the types in alphabetical order', () => {
  const plan = makePlan({ strategy: 'one-by-one', wanted: { web: 1, api: 1 } })
  assert.deepEqual(nextStep(plan)?.processes, { api: 1 })
})

test('one-by-one goes on where another worker left off', () => {
  const plan = makePlan({ strategy: 'one-by-one', wanted: { web: 3 }, new: { web: 2 }, old: { web: 2 } })
  assert.deepEqual(nextStep(plan), { release: 'old', processes: { web: 1 }, wait: true })
})

test('all-at-once starts everything, then stops everything without waiting', () => {
  const plan = makePlan({ strategy: 'all-at-once', wanted: { web: 2, worker: 1 } })
  assert.deepEqual(nextStep(plan), { release: 'new', processes: { web: 2, worker: 1 }, wait: true })
  const started = makePlan({ strategy: 'all-at-once', wanted: { web: 2 }, new: { web: 2 } })
  assert.deepEqual(nextStep(started), { release: 'old', processes: { web: 0 }, wait: false })
})

test('one-down-one-up stops an old job before it starts a new one', () => {
  const { trail } = runAll({ strategy: 'one-down-one-up', wanted: { web: 2 } })
  assert.deepEqual(trail, ['0/1', '1/1', '1/0', '2/0'])
})

test('in-batches takes as many at once as the batch has', () => {
  const { trail, least } = runAll({ strategy: 'in-batches', wanted: { web: 5 }, batchSize: 2 })
  assert.deepEqual(trail, ['2/5', '2/3', '4/3', '4/1', '5/1', '5/0'])
  assert.equal(least, 5)
})

test('a type with a data volume is stopped before it starts anew, whatever the strategy', () => {
  for (const strategy of ['one-by-one', 'in-batches'] as const)
    assert.deepEqual(runAll({ strategy, wanted: { db: 1 }, exclusive: ['db'] }).trail, ['0/0', '1/0'])
  const mixed = makePlan({ strategy: 'all-at-once', wanted: { db: 1, web: 2 }, exclusive: ['db'] })
  assert.deepEqual(nextStep(mixed), { release: 'old', processes: { db: 0 }, wait: true })
})

test('a type that the new release does not have is only scaled down', () => {
  for (const strategy of ['one-by-one', 'all-at-once', 'one-down-one-up', 'in-batches'] as const) {
    const { end } = runAll({ strategy, wanted: { web: 1, cron: 2 }, types: ['web'] })
    assert.deepEqual(end.new, { web: 1 })
    assert.equal(end.old['cron'], 0)
  }
})

test('a deployment whose new formation is complete and whose old one is empty has no step left', () => {
  const plan = makePlan({ strategy: 'one-by-one', wanted: { web: 2 }, new: { web: 2 }, old: { web: 0 } })
  assert.equal(nextStep(plan), undefined)
})

test('every strategy ends with the wanted counts, from wherever it starts', () => {
  for (const strategy of ['one-by-one', 'all-at-once', 'one-down-one-up', 'in-batches'] as const)
    for (let old = 0; old <= 4; old++)
      for (let fresh = 0; fresh <= 3; fresh++) {
        const options = { strategy, wanted: { web: 3 }, old: { web: old }, new: { web: fresh }, batchSize: 2 }
        const { end } = runAll(options)
        assert.deepEqual([end.new['web'], end.old['web'] ?? 0], [3, 0], `${strategy} ${old} ${fresh}`)
      }
})

test('a worker that takes over waits for what the one before it asked for', () => {
  const plan = makePlan({ strategy: 'all-at-once', wanted: { web: 2 }, new: { web: 2 } })
  assert.deepEqual(resumeStep(plan), { release: 'new', processes: { web: 2 }, wait: true })
  assert.equal(resumeStep({ ...plan, new: {} }), undefined)
  assert.equal(resumeStep({ ...plan, new: { web: 0 } }), undefined)
})
