// Bugs that the simulator found, each told by itself (test/track-record.md).
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bench, dataVolume, formation, plain } from './bench.ts'
import { hostFailuresMax } from './hosts.core.ts'
import type { HostJob, RecordedJob } from './state.core.ts'

const report = (uuid: string, extra: Partial<HostJob> = {}): HostJob => ({
  uuid,
  hostId: 'h1',
  status: 'running',
  appId: 'app',
  releaseId: 'r1',
  type: 'web',
  formation: true,
  system: false,
  meta: {},
  args: [],
  volumes: [],
  createdMs: 0,
  ...extra,
})

const row = (uuid: string, extra: Partial<RecordedJob> = {}): RecordedJob => ({
  uuid,
  appId: 'app',
  releaseId: 'r1',
  type: 'web',
  state: 'up',
  restarts: 0,
  updatedMs: 0,
  meta: {},
  args: [],
  volumeIds: [],
  ...extra,
})

function giveUp(bench: Bench, hostId: string): void {
  bench.send({ kind: 'hostGone', hostId })
  for (let i = 0; i < hostFailuresMax; i++) bench.send({ kind: 'hostProbe', hostId, ok: false })
}

test('a start that a lost host never answered is repeated elsewhere with another volume', () => {
  const bench = new Bench().lead({ h1: {} })
  const processes = { db: { ...plain, volumes: [{ path: '/data', deleteOnStop: false }] } }
  bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
  const [first] = bench.take('place')
  bench.send({ kind: 'host', host: { id: 'h2', tags: {}, shutdown: false } })
  bench.send({ kind: 'hostJobs', hostId: 'h2', jobs: [] })
  giveUp(bench, 'h1')
  const [second] = bench.take('place')
  assert.equal(second?.hostId, 'h2')
  assert.notEqual(second?.volumes[0]?.id, first?.volumes[0]?.id)
})

test('a row that names the wrong host is written again', () => {
  const bench = new Bench().lead()
  bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
  const [uuid = ''] = bench.startAll()
  bench.take('recordJob')
  bench.send({ kind: 'recordedJobs', jobs: [row(uuid, { hostId: 'h2' })] })
  assert.deepEqual(
    bench.take('recordJob').map(r => [r.state, r.job.hostId]),
    [['up', 'h1']],
  )
})

test('a scheduler that does not lead stops nothing, and takes in what it had given up', () => {
  const bench = new Bench()
  bench.send({ kind: 'host', host: { id: 'h1', tags: {}, shutdown: false } })
  bench.send({ kind: 'hostJobs', hostId: 'h1', jobs: [] })
  // The leader has just created it; the formation's news come later.
  bench.send({ kind: 'recordedJobs', jobs: [row('u', { state: 'pending' })] })
  bench.send({ kind: 'loaded' })
  bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
  bench.send({ kind: 'hostJob', job: report('u', { startedMs: bench.nowMs }) })
  assert.deepEqual(bench.effects, [])
  bench.send({ kind: 'leader', leader: true })
  assert.deepEqual(
    bench.jobs('running').map(j => j.uuid),
    ['u'],
  )
  assert.equal(bench.take('stop').length + bench.take('place').length, 0)
})

test('a system job that a host brings back after its release was given up is stopped', () => {
  const bench = new Bench().lead()
  bench.send({ kind: 'formation', formation: formation({ web: 0 }, { system: true }) })
  bench.send({ kind: 'formations', formations: [] })
  assert.equal(bench.state.formations.size, 0)
  bench.send({ kind: 'hostJobs', hostId: 'h1', jobs: [report('old', { system: true })] })
  assert.deepEqual(
    bench.take('stop').map(e => e.uuid),
    ['old'],
  )
})

test('a second answer to one start changes nothing', () => {
  const bench = new Bench().lead()
  bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
  const [place] = bench.take('place')
  assert.ok(place)
  const { uuid, hostId, attempt } = place
  bench.send({ kind: 'placeFailed', uuid, hostId, attempt, why: 'refused', message: 'no' })
  bench.send({ kind: 'placeFailed', uuid, hostId, attempt, why: 'uncertain', message: 'late' })
  bench.nowMs += 1_000
  bench.send({ kind: 'tick' })
  assert.equal(bench.take('place').length, 1)
})

test('a stop that the leader before asked a host for is asked about there, though we know of no host', () => {
  const follower = new Bench()
  follower.send({ kind: 'host', host: { id: 'h1', tags: {}, shutdown: false } })
  follower.send({ kind: 'hostJobs', hostId: 'h1', jobs: [] })
  follower.send({ kind: 'formation', formation: formation({ web: 1 }) })
  for (const uuid of ['asked', 'elsewhere'])
    follower.send({ kind: 'recordedJobs', jobs: [row(uuid, { state: 'pending' })] })
  follower.send({ kind: 'loaded' })
  follower.send({
    kind: 'recordedJobs',
    jobs: [
      row('asked', { state: 'stopping', hostId: 'h1' }),
      row('elsewhere', { state: 'stopping', hostId: 'gone' }),
    ],
  })
  follower.send({ kind: 'leader', leader: true })
  assert.deepEqual(
    follower.take('inspect').map(e => [e.hostId, e.uuid]),
    [['h1', 'asked']],
  )
  follower.send({ kind: 'hostJobMissing', hostId: 'h1', uuid: 'asked' })
  const ended = follower.take('recordJob').filter(r => r.state === 'down')
  assert.deepEqual(ended.map(r => r.job.uuid).sort(), ['asked', 'elsewhere'])
})

test('a move to another host than the one that the source has given its volume to is given up', () => {
  const hosts = ['source', 'target', 'other']
  const bench = new Bench().lead(Object.fromEntries(hosts.map(id => [id, {}])))
  bench.send({ kind: 'volume', volume: { ...dataVolume, hostId: 'source' } })
  bench.send({ kind: 'host', host: { id: 'target', tags: {}, shutdown: false, draining: true } })
  bench.send({ kind: 'host', host: { id: 'source', tags: {}, shutdown: false, draining: true } })
  assert.deepEqual(
    bench.take('copyVolume').map(e => e.to),
    ['other'],
  )
  bench.send({ kind: 'volumeCopied', volumeId: 'v', to: 'other', bytes: 1, tookMs: 1 })
  bench.send({ kind: 'tick' })
  assert.equal(bench.take('finishMove')[0]?.to, 'other')
  const fence = { volumeId: 'v', hostId: 'source', kind: 'retired', peer: 'target', committed: true } as const
  bench.send({ kind: 'hostVolumes', hostId: 'source', ids: ['v'], fenced: [fence] })
  bench.send({ kind: 'moveFailed', volumeId: 'v', message: 'committed to another' })
  bench.nowMs += 1_000
  bench.send({ kind: 'tick' })
  assert.deepEqual(
    bench.take('finishMove').map(e => e.to),
    ['target'],
  )
})
