import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Bench, formation, plain } from './bench.ts'
import { restartDelayMs } from './job.core.ts'
import type { HostJob, Job } from './state.core.ts'

describe('formations', () => {
  test('missing jobs are recorded as pending before their host is asked', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    assert.deepEqual(
      bench.effects.map(e => e.kind),
      ['recordJob', 'recordJob', 'place', 'place'],
    )
  })

  test('a scale request is complete when the running numbers are the wanted ones', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    assert.equal(bench.take('finishScale').length, 0)
    bench.startAll()
    assert.equal(bench.take('finishScale')[0]?.state, 'complete')
  })

  test('a scale request that changes nothing is complete at once', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 0 }) })
    assert.equal(bench.take('finishScale')[0]?.state, 'complete')
  })

  test('scaling down stops exactly the surplus, newest first', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 4 }) })
    const started = bench.startAll()
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    assert.deepEqual(
      bench.take('stop').map(e => e.uuid),
      started.slice(2).reverse(),
    )
  })

  test('scaling down takes jobs that no host was asked for first, and stops nothing then', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    bench.startAll()
    bench.send({ kind: 'formation', formation: formation({ web: 7 }) })
    bench.take('recordJob')
    bench.send({ kind: 'formation', formation: formation({ web: 5 }) })
    assert.deepEqual(
      bench.take('recordJob').map(r => r.state),
      ['down', 'down'],
    )
    assert.equal(bench.take('stop').length, 0)
    assert.equal(bench.jobs('stopping').length, 0)
  })

  test('a blocked job goes away with a scale-down', () => {
    const bench = new Bench().lead()
    const tags = { web: { disk: 'ssd' } }
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { tags }) })
    assert.equal(bench.jobs('blocked').length, 1)
    bench.send({ kind: 'formation', formation: formation({ web: 0 }, { tags }) })
    assert.equal(bench.jobs('blocked').length, 0)
    assert.equal(bench.take('recordJob').at(-1)?.state, 'down')
  })

  test('a blocked job starts when a host with its tags appears', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { tags: { web: { disk: 'ssd' } } }) })
    bench.send({ kind: 'host', host: { id: 'h2', tags: { disk: 'ssd' }, shutdown: false } })
    assert.equal(bench.take('place').length, 0, 'its jobs are not known yet')
    bench.send({ kind: 'hostJobs', hostId: 'h2', jobs: [] })
    assert.equal(bench.take('place')[0]?.hostId, 'h2')
  })

  test('jobs are spread over hosts', () => {
    const bench = new Bench().lead({ h1: {}, h2: {}, h3: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 3 }) })
    assert.deepEqual(new Set(bench.take('place').map(e => e.hostId)).size, 3)
  })

  test('an omni type runs once on every host, also on those that come later, and on none that leaves', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    const processes = { agent: { ...plain, omni: true } }
    bench.send({ kind: 'formation', formation: formation({ agent: 1 }, { processes }) })
    bench.startAll()
    assert.deepEqual(
      bench
        .jobs('running')
        .map(j => j.hostId)
        .sort(),
      ['h1', 'h2'],
    )
    bench.send({ kind: 'host', host: { id: 'h3', tags: {}, shutdown: false } })
    bench.send({ kind: 'hostJobs', hostId: 'h3', jobs: [] })
    bench.startAll()
    assert.deepEqual(
      bench
        .jobs('running')
        .map(j => j.hostId)
        .sort(),
      ['h1', 'h2', 'h3'],
    )
    bench.send({ kind: 'host', host: { id: 'h2', tags: {}, shutdown: true } })
    bench.send({ kind: 'hostGone', hostId: 'h2' })
    assert.equal(bench.take('place').length, 0)
    assert.deepEqual(
      bench
        .jobs('running')
        .map(j => j.hostId)
        .sort(),
      ['h1', 'h3'],
    )
  })

  test('an older update of a formation is ignored', () => {
    const bench = new Bench().lead()
    const old = formation({ web: 1 })
    bench.send({ kind: 'formation', formation: formation({ web: 3 }) })
    bench.send({ kind: 'formation', formation: old })
    assert.equal(bench.jobs().filter(j => j.phase !== 'stopped').length, 3)
  })

  test('the last process of a critical app is not stopped, and the request is cancelled', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1, api: 0 }, { critical: true }) })
    bench.startAll()
    bench.take('finishScale')
    bench.send({ kind: 'formation', formation: formation({ web: 0, api: 0 }, { critical: true }) })
    assert.equal(bench.take('stop').length, 0)
    assert.equal(bench.take('finishScale')[0]?.state, 'cancelled')
  })

  test('a critical app may leave its old release when a new one runs', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { critical: true }) })
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { critical: true, releaseId: 'r2' }) })
    bench.startAll()
    bench.send({ kind: 'formation', formation: formation({ web: 0 }, { critical: true }) })
    assert.equal(bench.take('stop').length, 1)
  })

  test('a formation is given up only when two full lists in a row miss it', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    bench.startAll()
    bench.send({ kind: 'formations', formations: [] })
    assert.equal(bench.take('stop').length, 0)
    bench.send({ kind: 'formations', formations: [] })
    assert.equal(bench.take('stop').length, 1)
  })
})

describe('jobs', () => {
  test('restarts wait 0 s five times, then 10 s ten times, then 30 s', () => {
    const delays = Array.from({ length: 17 }, (_, n) => restartDelayMs(n) / 1000)
    assert.deepEqual(delays, [...Array(5).fill(0), ...Array(10).fill(10), 30, 30])
  })

  test('a job that crashes at once is restarted ever more slowly', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    const begin = bench.nowMs
    let crashes = 0
    while (bench.nowMs < begin + 120_000) {
      for (const uuid of bench.startAll()) {
        crashes++
        bench.report(uuid, 'crashed', { exitStatus: 1 })
      }
      bench.nowMs += 500
      bench.send({ kind: 'tick' })
    }
    assert.ok(crashes >= 12 && crashes <= 17, `${crashes} starts in two minutes`)
  })

  test('a job that ran five minutes is restarted at once and counts anew', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    for (let i = 0; i < 5; i++) for (const uuid of bench.startAll()) bench.report(uuid, 'crashed')
    const [steady] = bench.startAll()
    assert.ok(steady)
    assert.equal(bench.state.jobs.get(steady)?.restarts, 5)
    bench.nowMs += 5 * 60_000 + 1
    bench.report(steady, 'crashed')
    const [next] = bench.startAll()
    assert.equal(bench.state.jobs.get(next ?? '')?.restarts, 1)
  })

  test('a one-off job is recorded and never restarted', () => {
    const bench = new Bench().lead()
    bench.report('one', 'running', { type: '', formation: false })
    bench.report('one', 'done', { type: '', formation: false, exitStatus: 3 })
    const records = bench.take('recordJob')
    assert.deepEqual(
      records.map(r => r.state),
      ['starting', 'up', 'down'],
    )
    assert.equal(records.at(-1)?.job.exitStatus, 3)
    assert.equal(bench.take('place').length, 0)
  })

  test('jobs that a host brought back under new ids after a power cut are adopted, not doubled', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    const old = bench.startAll()
    const before = old.map(uuid => bench.state.jobs.get(uuid) as Job)
    const base = before.map(
      (j): HostJob => ({
        uuid: j.uuid,
        hostId: 'h1',
        status: 'failed',
        appId: 'app',
        releaseId: 'r1',
        type: 'web',
        formation: true,
        system: true,
        meta: {},
        args: [],
        volumes: [],
        createdMs: bench.nowMs,
      }),
    )
    const revived = base.map((j, n): HostJob => ({ ...j, uuid: `new${n}`, status: 'running' }))
    bench.send({ kind: 'hostJobs', hostId: 'h1', jobs: [...base, ...revived] })
    assert.equal(bench.take('place').length, 0)
    assert.deepEqual(
      bench
        .jobs('running')
        .map(j => j.uuid)
        .sort(),
      ['new0', 'new1'],
    )
  })

  test('a refused job goes to another host, and its volume with it', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    const processes = { db: { ...plain, volumes: [{ path: '/data', deleteOnStop: false }] } }
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [first] = bench.take('place')
    assert.ok(first)
    const { uuid, hostId, attempt } = first
    bench.send({ kind: 'placeFailed', uuid, hostId, attempt, why: 'refused', message: 'no' })
    assert.equal(bench.take('dropVolume').length, 1)
    bench.nowMs += 500
    bench.send({ kind: 'tick' })
    const [second] = bench.take('place')
    assert.notEqual(second?.hostId, hostId)
  })

  test('a start without an answer is repeated on the same host', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    const [first] = bench.take('place')
    assert.ok(first)
    const { uuid, hostId, attempt } = first
    bench.send({ kind: 'placeFailed', uuid, hostId, attempt, why: 'uncertain', message: 'timeout' })
    bench.nowMs += 500
    bench.send({ kind: 'tick' })
    assert.equal(bench.take('place')[0]?.hostId, hostId)
  })

  test('a late success of a start that was given up is stopped', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    const [placed] = bench.take('place')
    assert.ok(placed)
    bench.send({ kind: 'formation', formation: formation({ web: 0 }) })
    assert.equal(bench.take('stop').length, 0)
    bench.send({ kind: 'placed', uuid: placed.uuid, hostId: 'h1', attempt: placed.attempt })
    assert.equal(bench.take('stop')[0]?.uuid, placed.uuid)
  })

  test('at most four starts are under way on one host', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 20 }) })
    const placed = bench.take('place')
    assert.equal(placed.length, 4)
    bench.send({ kind: 'placed', uuid: placed[0]?.uuid ?? '', hostId: 'h1', attempt: 1 })
    assert.equal(bench.take('place').length, 0)
    bench.report(placed[0]?.uuid ?? '', 'running')
    assert.equal(bench.take('place').length, 1)
  })

  test('only the leader acts', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'leader', leader: false })
    bench.effects = []
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    assert.deepEqual(bench.effects, [])
    bench.send({ kind: 'leader', leader: true })
    assert.equal(bench.take('place').length, 1)
  })
})

describe('hosts', () => {
  test('a host that fails ten status requests is given up and its jobs start elsewhere', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    bench.startAll()
    bench.send({ kind: 'hostGone', hostId: 'h1' })
    for (let i = 0; i < 9; i++) bench.send({ kind: 'hostProbe', hostId: 'h1', ok: false })
    assert.equal(bench.take('place').length, 0)
    bench.send({ kind: 'hostProbe', hostId: 'h1', ok: false })
    assert.equal(bench.take('place')[0]?.hostId, 'h2')
  })

  test('a host that says nothing at all is given up after three status requests', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    bench.startAll()
    bench.send({ kind: 'hostGone', hostId: 'h1' })
    const probe = { kind: 'hostProbe', hostId: 'h1', ok: false, silent: true } as const
    for (let i = 0; i < 2; i++) bench.send(probe)
    assert.equal(bench.take('place').length, 0)
    bench.send(probe)
    assert.equal(bench.take('place')[0]?.hostId, 'h2')
  })

  test('a host that answered after it was gone from the list is given up when it ends', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 2 }) })
    bench.startAll()
    bench.send({ kind: 'hostGone', hostId: 'h1' })
    bench.send({ kind: 'hostProbe', hostId: 'h1', ok: true })
    for (let i = 0; i < 10; i++) bench.send({ kind: 'hostProbe', hostId: 'h1', ok: false })
    assert.equal(bench.state.hosts.has('h1'), false)
    assert.equal(bench.take('place')[0]?.hostId, 'h2')
  })

  test('a host that comes back keeps its jobs; what was to replace them is cancelled', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    const [uuid] = bench.startAll()
    assert.ok(uuid)
    bench.send({ kind: 'hostGone', hostId: 'h1' })
    for (let i = 0; i < 10; i++) bench.send({ kind: 'hostProbe', hostId: 'h1', ok: false })
    assert.equal(bench.jobs('running').length, 0)
    bench.send({ kind: 'host', host: { id: 'h1', tags: {}, shutdown: false } })
    bench.send({
      kind: 'hostJobs',
      hostId: 'h1',
      jobs: [{ ...hostJob(uuid), status: 'running', startedMs: bench.nowMs }],
    })
    assert.deepEqual(
      bench.jobs('running').map(j => j.uuid),
      [uuid],
    )
    assert.equal(bench.take('place').length, 0)
    assert.equal(bench.take('stop').length, 0)
  })

  test('a job missing from the list of its host is looked up before it is given up', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    const [uuid] = bench.startAll()
    assert.ok(uuid)
    bench.send({ kind: 'hostJobs', hostId: 'h1', jobs: [] })
    assert.equal(bench.take('inspect')[0]?.uuid, uuid)
    assert.equal(bench.take('place').length, 0)
    bench.send({ kind: 'hostJobMissing', hostId: 'h1', uuid })
    assert.equal(bench.take('place').length, 1)
  })
})

describe('traffic', () => {
  const processes = { web: { ...plain, service: 'app-web' } }

  function started(routed: boolean): { bench: Bench; uuid: string } {
    const bench = new Bench().lead()
    if (routed) {
      bench.send({ kind: 'routed', services: ['app-web'] })
      bench.send({ kind: 'router', routerId: 'rt' })
    }
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { processes }) })
    const [uuid] = bench.startAll()
    assert.ok(uuid)
    return { bench, uuid }
  }

  test('a job with a service is up when discoverd lists it', () => {
    const { bench, uuid } = started(false)
    assert.equal(bench.jobs('starting').length, 1)
    bench.send({ kind: 'service', service: 'app-web', jobs: [uuid] })
    assert.equal(bench.jobs('running').length, 1)
  })

  test('a routed job is up when every router serves it, or after ten seconds', () => {
    const { bench, uuid } = started(true)
    bench.send({ kind: 'service', service: 'app-web', jobs: [uuid] })
    assert.equal(bench.jobs('running').length, 0)
    bench.send({ kind: 'backend', routerId: 'rt', uuid, service: 'app-web', addr: 'a:1', status: 'up' })
    assert.equal(bench.jobs('running').length, 1)

    const other = started(true)
    other.bench.send({ kind: 'service', service: 'app-web', jobs: [other.uuid] })
    other.bench.nowMs += 10_000
    other.bench.send({ kind: 'tick' })
    assert.equal(other.bench.jobs('running').length, 1)
  })

  test('a routed job leaves discoverd first and is stopped when routers have drained it', () => {
    const { bench, uuid } = started(true)
    const backend = { kind: 'backend', routerId: 'rt', uuid, service: 'app-web', addr: 'a:1' } as const
    bench.send({ kind: 'service', service: 'app-web', jobs: [uuid] })
    bench.send({ ...backend, status: 'up' })
    bench.send({ kind: 'formation', formation: formation({ web: 0 }, { processes }) })
    assert.equal(bench.take('deregister').length, 1)
    bench.send({ ...backend, status: 'down' })
    assert.equal(bench.take('stop').length, 0)
    bench.send({ ...backend, status: 'drained' })
    assert.equal(bench.take('stop').length, 1)
  })

  test('one router that still has connections holds a stop, and a router that is gone does not', () => {
    const { bench, uuid } = started(true)
    bench.send({ kind: 'router', routerId: 'other' })
    bench.send({ kind: 'router', routerId: 'third' })
    const routers = ['rt', 'other', 'third']
    const tell = (routerId: string, status: 'up' | 'down' | 'drained') =>
      bench.send({ kind: 'backend', routerId, uuid, service: 'app-web', addr: 'a:1', status })
    bench.send({ kind: 'service', service: 'app-web', jobs: [uuid] })
    for (const id of routers) tell(id, 'up')
    bench.send({ kind: 'formation', formation: formation({ web: 0 }, { processes }) })
    for (const id of routers) tell(id, 'down')
    tell('rt', 'drained')
    assert.equal(bench.take('stop').length, 0)
    tell('other', 'drained')
    assert.equal(bench.take('stop').length, 0)
    bench.send({ kind: 'routerGone', routerId: 'third' })
    assert.equal(bench.take('stop').length, 1)
  })

  test('a router that never drains does not hold a stop for more than ten seconds', () => {
    const { bench, uuid } = started(true)
    bench.send({ kind: 'service', service: 'app-web', jobs: [uuid] })
    bench.send({ kind: 'backend', routerId: 'rt', uuid, service: 'app-web', addr: 'a:1', status: 'up' })
    bench.send({ kind: 'formation', formation: formation({ web: 0 }, { processes }) })
    bench.nowMs += 10_000
    bench.send({ kind: 'tick' })
    assert.equal(bench.take('stop').length, 1)
  })
})

function hostJob(uuid: string): HostJob {
  return {
    uuid,
    hostId: 'h1',
    status: 'starting',
    appId: 'app',
    releaseId: 'r1',
    type: 'web',
    formation: true,
    system: false,
    meta: {},
    args: [],
    volumes: [],
    createdMs: 0,
  }
}
