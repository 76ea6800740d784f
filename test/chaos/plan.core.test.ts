import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  bothWays,
  type Cut,
  daemonNames,
  type Fault,
  type FaultKind,
  faultKinds,
  freezeMaxMs,
  freezeMinMs,
  partitionShapes,
  planRound,
  tellPlan,
} from './plan.core.ts'

const seeds = Array.from({ length: 400 }, (_, i) => i + 1)
const faultsOf = (seed: number, hosts = 3, kinds?: readonly FaultKind[]): Fault[] => {
  const plan = planRound(kinds ? { seed, hosts, kinds } : { seed, hosts })
  return [...plan.machines, ...plan.processes].map(p => p.fault)
}

test('a seed gives one plan, another seed another one', () => {
  assert.deepEqual(planRound({ seed: 7, hosts: 3 }), planRound({ seed: 7, hosts: 3 }))
  assert.notDeepEqual(planRound({ seed: 7, hosts: 3 }), planRound({ seed: 8, hosts: 3 }))
  assert.notDeepEqual(planRound({ seed: 7, hosts: 3 }), planRound({ seed: 7 + 2 ** 32, hosts: 3 }))
})

test('every round has a fault, and only of the kinds that were asked for', () => {
  for (const kind of faultKinds)
    for (const seed of seeds.slice(0, 50)) {
      const kinds = new Set(faultsOf(seed, 3, [kind]).map(f => f.kind))
      assert.deepEqual([...kinds], [kind], `seed ${seed}`)
    }
  for (const seed of seeds) assert.ok(faultsOf(seed).length > 0, `seed ${seed}`)
})

test('the seeds reach every kind, every daemon and every shape of partition', () => {
  const all = seeds.flatMap(seed => faultsOf(seed))
  assert.deepEqual([...new Set(all.map(f => f.kind))].sort(), [...faultKinds].sort())
  const daemons = new Set(all.flatMap(f => (f.kind === 'kill' ? f.daemon : [])))
  assert.deepEqual([...daemons].sort(), [...daemonNames].sort())
  const shapes = new Set(all.flatMap(f => (f.kind === 'partition' ? f.shape : [])))
  assert.deepEqual([...shapes].sort(), [...partitionShapes].sort())
})

test('victims and orders of boot are hosts of the cluster, each once', () => {
  for (const hosts of [3, 5])
    for (const fault of seeds.flatMap(seed => faultsOf(seed, hosts))) {
      if ('victim' in fault && fault.victim.type === 'host')
        assert.ok(fault.victim.host >= 1 && fault.victim.host <= hosts)
      if (fault.kind === 'power-cut' || fault.kind === 'rolling-restart')
        assert.deepEqual(
          fault.order.toSorted(),
          Array.from({ length: hosts }, (_, i) => i + 1),
        )
    }
})

test('a freeze lasts between 5 and 60 seconds', () => {
  const times = seeds.flatMap(seed => faultsOf(seed, 3, ['freeze']).map(f => ('forMs' in f ? f.forMs : 0)))
  assert.ok(times.every(t => t >= freezeMinMs && t <= freezeMaxMs))
})

test('no host is cut off from itself, and a ring of five keeps its neighbours', () => {
  const cutsOf = (hosts: number, shape: string) =>
    seeds.flatMap(seed =>
      faultsOf(seed, hosts, ['partition']).flatMap(f =>
        f.kind === 'partition' && f.shape === shape ? [f.cuts] : [],
      ),
    )
  const partners = (cuts: readonly Cut[], host: number) => cuts.filter(c => c.from === host).length
  for (const cuts of [...cutsOf(3, 'half'), ...cutsOf(5, 'ring')]) assert.ok(cuts.every(c => c.from !== c.to))
  for (const cuts of cutsOf(5, 'ring'))
    for (const host of [1, 2, 3, 4, 5]) assert.equal(partners(cuts, host), 2)
  for (const cuts of cutsOf(3, 'one-way')) assert.equal(cuts.length, 1)
})

test('two sides are cut in both directions', () => {
  const cuts = bothWays([1], [2, 3]).map(c => `${c.from}${c.to}`)
  assert.deepEqual(cuts.sort(), ['12', '13', '21', '31'])
})

test('faults of one track do not begin before the one before can have ended', () => {
  for (const seed of seeds) {
    const { machines } = planRound({ seed, hosts: 3 })
    for (const [i, { atMs, fault }] of machines.entries()) {
      const next = machines[i + 1]
      if (next && 'forMs' in fault) assert.ok(next.atMs >= atMs + fault.forMs, `seed ${seed}`)
    }
  }
})

test('the plan is told a line a fault', () => {
  for (const seed of seeds.slice(0, 50)) {
    const lines = tellPlan(planRound({ seed, hosts: 3 }))
    assert.equal(lines.length, faultsOf(seed).length)
    assert.ok(lines.every(l => /^ *\d+\.\d s {2}\S/.test(l)))
  }
})
