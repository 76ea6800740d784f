import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Bench, dataVolume, formation, plain } from './bench.ts'
import type { HostJob, Volume } from './state.core.ts'

describe('volumes', () => {
  const processes = { db: { ...plain, volumes: [{ path: '/data', deleteOnStop: false }] } }

  test('a restarted job gets its volume back', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [first] = bench.startAll()
    const volumes = bench.state.jobs.get(first ?? '')?.volumeIds
    bench.report(first ?? '', 'crashed')
    const [second] = bench.startAll()
    assert.deepEqual(bench.state.jobs.get(second ?? '')?.volumeIds, volumes)
  })

  test('a new release takes over the data of the old one, once its job has let go', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [first] = bench.startAll()
    const volumes = bench.state.jobs.get(first ?? '')?.volumeIds
    bench.send({ kind: 'formation', formation: formation({ db: 0 }, { processes }) })
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes, releaseId: 'r2' }) })
    assert.equal(bench.take('place').length, 0)
    assert.equal(bench.jobs('blocked').length, 1)
    bench.endAll()
    const [second] = bench.startAll()
    assert.deepEqual(bench.state.jobs.get(second ?? '')?.volumeIds, volumes)
  })

  test('a job whose volume lies on a host that is away waits for it', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [uuid] = bench.startAll()
    const hostId = bench.state.jobs.get(uuid ?? '')?.hostId ?? ''
    bench.send({ kind: 'hostGone', hostId })
    for (let i = 0; i < 10; i++) bench.send({ kind: 'hostProbe', hostId, ok: false })
    assert.equal(bench.take('place').length, 0)
    assert.equal(bench.jobs('blocked').length, 1)
  })

  test('a job blocked by its volume gets a new one when that is decommissioned', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [uuid] = bench.startAll()
    const hostId = bench.state.jobs.get(uuid ?? '')?.hostId ?? ''
    bench.send({ kind: 'hostGone', hostId })
    for (let i = 0; i < 10; i++) bench.send({ kind: 'hostProbe', hostId, ok: false })
    const [volume] = [...bench.state.volumes.values()]
    assert.ok(volume)
    bench.send({ kind: 'volume', volume: { ...volume, decommissioned: true } })
    assert.equal(bench.take('place').length, 1)
  })

  test('a job blocked by its volume gets a new one when that was lost with its host', () => {
    const bench = new Bench().lead({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [uuid] = bench.startAll()
    const hostId = bench.state.jobs.get(uuid ?? '')?.hostId ?? ''
    const [volume] = [...bench.state.volumes.values()]
    assert.ok(volume)
    bench.send({ kind: 'volume', volume: { ...volume, state: 'destroyed' } })
    assert.equal(bench.state.volumes.get(volume.id)?.state, 'created')
    bench.send({ kind: 'hostGone', hostId })
    for (let i = 0; i < 10; i++) bench.send({ kind: 'hostProbe', hostId, ok: false })
    assert.equal(bench.take('place').length, 0)
    bench.send({ kind: 'volume', volume: { ...volume, state: 'destroyed' } })
    const [placed] = bench.take('place')
    assert.ok(placed)
    assert.notEqual(placed.hostId, hostId)
  })

  const held: HostJob = {
    uuid: 'a-job',
    hostId: 'h1',
    status: 'running',
    appId: 'app',
    releaseId: 'r1',
    type: 'db',
    formation: true,
    system: true,
    meta: {},
    args: [],
    volumes: [{ id: 'a-volume', path: '/data', deleteOnStop: false }],
    createdMs: 0,
  }

  test('a volume that was there before the scheduler is registered before the job that holds it', () => {
    const bench = new Bench()
    bench.send({ kind: 'host', host: { id: 'h1', tags: {}, shutdown: false } })
    bench.send({ kind: 'hostJobs', hostId: 'h1', jobs: [held] })
    bench.send({ kind: 'loaded' })
    bench.send({ kind: 'leader', leader: true })
    const records = bench.effects.filter(e => e.kind === 'recordVolume' || e.kind === 'recordJob')
    assert.deepEqual(
      records.map(e => e.kind),
      ['recordVolume', 'recordJob'],
    )
    assert.equal(bench.take('recordVolume')[0]?.jobUuid, 'a-job')
  })

  test('a volume that the table of the controller lacks is registered again, a listed one is not', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    bench.startAll()
    const [volume] = bench.take('recordVolume')
    bench.send({ kind: 'recordedVolumes', ids: [volume?.volume.id ?? ''] })
    assert.equal(bench.take('recordVolume').length, 0)
    bench.send({ kind: 'recordedVolumes', ids: [] })
    assert.equal(bench.take('recordVolume')[0]?.volume.id, volume?.volume.id)
  })

  test('a volume of an app that no job holds is registered, and so is its end', () => {
    const bench = new Bench().lead()
    bench.send({ kind: 'hostVolumes', hostId: 'h1', ids: ['v'], owned: [dataVolume] })
    assert.equal(bench.take('recordVolume')[0]?.volume.state, 'created')
    bench.send({ kind: 'hostVolumes', hostId: 'h1', ids: [], owned: [] })
    assert.equal(bench.take('recordVolume')[0]?.volume.state, 'destroyed')
  })

  /** Three hosts, a job with data on h1, and one that follows and does not lead. */
  function follower(): { bench: Bench; volume: Volume } {
    const bench = new Bench().lead({ h1: {}, h2: {}, h3: {} })
    bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
    const [uuid] = bench.startAll()
    const [volume] = [...bench.state.volumes.values()]
    assert.ok(volume)
    for (const hostId of ['h1', 'h2', 'h3'])
      bench.send({ kind: 'hostVolumes', hostId, ids: volume.hostId === hostId ? [volume.id] : [] })
    bench.send({ kind: 'leader', leader: false })
    // The leader stops it and moves its data to another host.
    bench.report(uuid ?? '', 'done', { exitStatus: 0 })
    bench.effects = []
    return { bench, volume }
  }

  const other = (volume: Volume) => (volume.hostId === 'h2' ? 'h3' : 'h2')

  /** What a leader reads before it leads, then leading: the volume is in use on `hostId` and nowhere else. */
  function leadsWithDataOn(bench: Bench, volume: Volume, hostId: string): void {
    for (const host of ['h1', 'h2', 'h3']) {
      bench.send({ kind: 'hostJobs', hostId: host, jobs: [] })
      bench.send({ kind: 'hostVolumes', hostId: host, ids: host === hostId ? [volume.id] : [] })
    }
    bench.send({ kind: 'leader', leader: true })
    const [placed] = bench.take('place')
    assert.deepEqual([placed?.hostId, placed?.volumes.map(v => v.id)], [hostId, [volume.id]])
    assert.deepEqual(bench.take('finishMove'), [])
    assert.equal(bench.state.volumes.get(volume.id)?.state, 'created')
  }

  test('a new leader knows where volumes have moved while another one led', () => {
    const { bench, volume } = follower()
    const hostId = other(volume)
    bench.send({ kind: 'volume', volume: { ...volume, hostId } })
    leadsWithDataOn(bench, volume, hostId)
  })

  test('a new leader that was not told of a move finds the data where it is in use', () => {
    const { bench, volume } = follower()
    const hostId = other(volume)
    leadsWithDataOn(bench, volume, hostId)
    assert.equal(bench.take('recordVolume').findLast(e => e.volume.id === volume.id)?.volume.hostId, hostId)
  })
})
