import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Bench, formation, plain } from './bench.ts'
import { handoverFailuresMax, handoverSteadyMs, handoverTimeoutMs } from './handover.core.ts'
import type { Formation } from './state.core.ts'

const processes = {
  db: { ...plain, service: 'db', volumes: [{ path: '/data', deleteOnStop: false }] },
}
const base = { processes, handover: true, critical: true }

const release = (id: string, count: number): Formation => formation({ db: count }, { ...base, releaseId: id })

/** A bench with `count` running jobs of the release r1, `names` telling them apart. */
function running(count: number, hosts: Record<string, Record<string, string>> = { h1: {} }) {
  const bench = new Bench().lead(hosts)
  bench.send({ kind: 'formation', formation: release('r1', count) })
  const started = bench.startAll()
  bench.send({ kind: 'service', service: 'db', jobs: started, leader: started[0] ?? '' })
  bench.nowMs += 60_000
  bench.take('finishScale')
  bench.take('place')
  bench.take('stop')
  return { bench, started }
}

/** The controller's two updates of one step, the new release first. */
function swap(bench: Bench, old: number, fresh: number): void {
  bench.send({ kind: 'formation', formation: release('r2', fresh) })
  bench.send({ kind: 'formation', formation: release('r1', old) })
}

function serve(bench: Bench): void {
  const jobs = [...bench.state.jobs.values()].filter(j => j.hostRunning && j.phase !== 'stopped')
  bench.send({ kind: 'service', service: 'db', jobs: jobs.map(j => j.uuid) })
}

describe('handover', () => {
  test('the new job waits for the old one to end and starts with its volume', () => {
    const { bench, started } = running(1)
    const volumes = bench.state.jobs.get(started[0] ?? '')?.volumeIds
    swap(bench, 0, 1)
    assert.equal(bench.take('place').length, 0)
    bench.endAll()
    const [next] = bench.startAll()
    serve(bench)
    assert.deepEqual(bench.state.jobs.get(next ?? '')?.volumeIds, volumes)
    assert.equal(bench.take('finishScale').filter(e => e.state === 'complete').length, 2)
    assert.equal(bench.state.handovers.size, 0)
  })

  test('of several jobs the leader of the service is stopped last', () => {
    const { bench, started } = running(3)
    swap(bench, 2, 1)
    const [stopped] = bench.take('stop')
    assert.notEqual(stopped?.uuid, started[0])
  })

  test('jobs are stopped one at a time, the next when the one before has been replaced and is steady', () => {
    const { bench } = running(3)
    swap(bench, 0, 3)
    const trail: number[] = []
    for (let i = 0; i < 12; i++) {
      const stops = bench.effects.filter(e => e.kind === 'stop').length
      trail.push(stops)
      bench.endAll()
      bench.startAll()
      serve(bench)
      bench.nowMs += handoverSteadyMs / 2
      bench.send({ kind: 'tick' })
    }
    assert.ok(trail.every(n => n <= 1))
    assert.equal(
      trail.reduce((a, b) => a + b, 0),
      3,
    )
    assert.equal(bench.jobs('running').filter(j => j.releaseId === 'r2').length, 3)
  })

  test('a release whose jobs end at once is taken back, and the old one gets its volume again', () => {
    const { bench, started } = running(1)
    const volumes = bench.state.jobs.get(started[0] ?? '')?.volumeIds
    swap(bench, 0, 1)
    bench.endAll()
    for (let i = 0; i < handoverFailuresMax; i++) {
      const [job] = bench.startAll()
      bench.report(job ?? '', 'crashed')
    }
    bench.startAll()
    serve(bench)
    const [back, ...others] = bench.jobs('running')
    assert.equal(others.length, 0)
    assert.equal(back?.releaseId, 'r1')
    assert.deepEqual(back?.volumeIds, volumes)
    assert.ok(bench.take('finishScale').some(e => e.state === 'cancelled'))
  })

  test('a release that never comes up is taken back in time', () => {
    const { bench } = running(1)
    swap(bench, 0, 1)
    bench.endAll()
    bench.startAll()
    bench.nowMs += handoverTimeoutMs + 1
    bench.send({ kind: 'tick' })
    bench.endAll()
    bench.startAll()
    assert.deepEqual(
      [...bench.state.jobs.values()]
        .filter(j => j.hostRunning && j.phase !== 'stopped')
        .map(j => j.releaseId),
      ['r1'],
    )
  })

  test('what was taken back stays so until the controller tells something newer', () => {
    const { bench } = running(1)
    const [fresh, old] = [release('r2', 1), release('r1', 0)]
    bench.send({ kind: 'formation', formation: fresh })
    bench.send({ kind: 'formation', formation: old })
    bench.endAll()
    bench.startAll()
    bench.nowMs += handoverTimeoutMs + 1
    bench.send({ kind: 'tick' })
    bench.send({ kind: 'formations', formations: [fresh, old] })
    assert.equal(bench.state.formations.get(old.key)?.counts['db'], 1)
    bench.send({ kind: 'formation', formation: { ...old, updatedAtUs: old.updatedAtUs + 100 } })
    assert.equal(bench.state.formations.get(old.key)?.counts['db'], 1, 'it is critical')
    bench.send({ kind: 'formation', formation: { ...fresh, updatedAtUs: fresh.updatedAtUs + 100 } })
    assert.equal(bench.state.formations.get(fresh.key)?.counts['db'], 1)
  })

  /** Two hosts that run r1 of a type on the host network, which r2 is to replace. */
  function replaceOnHostNetwork(sharedPorts: boolean) {
    const process = {
      ...plain,
      omni: true,
      hostNetwork: true,
      service: 'web',
      ...(sharedPorts && { sharedPorts }),
    }
    const of = (releaseId: string, count: number) =>
      formation({ web: count }, { processes: { web: process }, releaseId })
    const bench = new Bench().lead({ h1: {}, h2: {} })
    const serveAll = () => {
      const jobs = bench.jobs().filter(j => j.hostRunning && j.phase !== 'stopped')
      bench.send({ kind: 'service', service: 'web', jobs: jobs.map(j => j.uuid) })
    }
    bench.send({ kind: 'formation', formation: of('r1', 1) })
    bench.startAll()
    serveAll()
    bench.send({ kind: 'formation', formation: of('r2', 1) })
    bench.send({ kind: 'formation', formation: of('r1', 0) })
    return { bench, serveAll }
  }
  const releasesThatRun = (bench: Bench) => bench.jobs('running').map(j => j.releaseId)

  test('a type on the host network waits for the ports of its host, one host after the other', () => {
    const { bench, serveAll } = replaceOnHostNetwork(false)
    assert.equal(bench.take('place').length, 0)
    for (let i = 0; i < 2; i++) {
      assert.equal(bench.effects.filter(e => e.kind === 'stop').length, 1)
      bench.endAll()
      bench.startAll()
      serveAll()
    }
    assert.deepEqual(releasesThatRun(bench), ['r2', 'r2'])
  })

  test('one that shares its ports starts while the one of before stops, still one host after the other', () => {
    const { bench, serveAll } = replaceOnHostNetwork(true)
    for (let i = 0; i < 2; i++) {
      assert.equal(bench.effects.filter(e => e.kind === 'stop').length, 1)
      assert.equal(bench.startAll().length, 1, 'beside the one that stops')
      serveAll()
      bench.endAll()
    }
    assert.deepEqual(releasesThatRun(bench), ['r2', 'r2'])
  })
})
