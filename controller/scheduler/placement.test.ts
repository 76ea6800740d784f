// Which host a job gets, and what keeps it from getting one.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { Bench, formation, plain } from './bench.ts'
import { failedStartMs } from './choice.core.ts'
import { cpuOvercommit, slowStartMs, startsPerHostMax } from './fit.core.ts'
import type { Host } from './state.core.ts'

type Size = Pick<Host, 'memoryBytes' | 'cpuMillis'>

function cluster(sizes: Readonly<Record<string, Size>>): Bench {
  const bench = new Bench().lead({})
  for (const [id, size] of Object.entries(sizes)) {
    bench.send({ kind: 'host', host: { id, tags: {}, shutdown: false, ...size } })
    bench.send({ kind: 'hostJobs', hostId: id, jobs: [] })
  }
  return bench
}

const web = (memoryBytes: number, cpuMillis = 0) => ({
  processes: { web: { ...plain, asks: { memoryBytes, cpuMillis } } },
})

function perHost(bench: Bench): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const job of bench.jobs('running')) counts[job.hostId ?? ''] = (counts[job.hostId ?? ''] ?? 0) + 1
  return counts
}

describe('room', () => {
  test('a host takes no more memory than it has; what is left over waits and says why', () => {
    const bench = cluster({ h1: { memoryBytes: 100 }, h2: { memoryBytes: 50 } })
    bench.send({ kind: 'formation', formation: formation({ web: 5 }, web(40)) })
    bench.startAll()
    assert.deepEqual(perHost(bench), { h1: 2, h2: 1 })
    assert.deepEqual(
      bench.jobs('blocked').map(j => j.blockedBecause),
      Array(2).fill('no host fits: 2 with too little memory'),
    )
  })

  test('a job that waits for room starts when another one ends', () => {
    const bench = cluster({ h1: { memoryBytes: 100 } })
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { ...web(80), releaseId: 'r1' }) })
    bench.startAll()
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { ...web(80), releaseId: 'r2' }) })
    assert.equal(bench.jobs('blocked').length, 1)
    bench.send({ kind: 'formation', formation: formation({ web: 0 }, { ...web(80), releaseId: 'r1' }) })
    assert.equal(bench.take('place').length, 0, 'it still stops')
    bench.endAll()
    assert.equal(bench.startAll().length, 1)
    assert.equal(bench.jobs('blocked').length, 0)
  })

  test('processor time is promised several times over, and no further', () => {
    const bench = cluster({ h1: { cpuMillis: 1000 } })
    bench.send({ kind: 'formation', formation: formation({ web: 9 }, web(0, 500)) })
    bench.startAll()
    assert.deepEqual(perHost(bench), { h1: 2 * cpuOvercommit })
    assert.equal(bench.jobs('blocked')[0]?.blockedBecause, 'no host fits: 1 with too little processor time')
  })

  test('a job of a system app starts also where there is no room, and elsewhere while there is', () => {
    const bench = cluster({ h1: { memoryBytes: 100 }, h2: { memoryBytes: 1000 } })
    const system = { ...web(300), system: true }
    bench.send({ kind: 'formation', formation: formation({ web: 3 }, system) })
    bench.startAll()
    assert.deepEqual(perHost(bench), { h2: 3 })
    bench.send({ kind: 'formation', formation: formation({ web: 5 }, system) })
    bench.startAll()
    assert.equal(bench.jobs('running').length, 5)
  })

  test('a host that does not tell its size takes what comes', () => {
    const bench = cluster({ h1: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 3 }, web(1e12, 1e6)) })
    bench.startAll()
    assert.deepEqual(perHost(bench), { h1: 3 })
  })

  test('a one-off job counts, and gives back what it took', () => {
    const bench = cluster({ h1: { memoryBytes: 100 } })
    const asks = { memoryBytes: 90, cpuMillis: 0 }
    bench.report('one', 'running', { type: '', formation: false, asks })
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, web(20)) })
    assert.equal(bench.jobs('blocked').length, 1)
    bench.report('one', 'done', { type: '', formation: false, asks })
    assert.equal(bench.take('place').length, 1)
  })
})

describe('spread', () => {
  test('the numbers on equal hosts differ by one at most, also while one is quicker than the others', () => {
    const bench = cluster({ h1: {}, h2: {}, h3: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 100 }) })
    // h1 starts what it gets at once, the others only when nothing else is to be done.
    const slow: { uuid: string; hostId: string; attempt: number }[] = []
    for (let turn = 0; turn < 400; turn++) {
      for (const place of bench.take('place')) {
        if (place.hostId === 'h1') begin(bench, place)
        else slow.push(place)
      }
      const next = slow.shift()
      if (next) begin(bench, next)
    }
    const counts = Object.values(perHost(bench))
    assert.equal(bench.jobs('running').length, 100)
    assert.ok(Math.max(...counts) - Math.min(...counts) <= 1, counts.join(' '))
  })

  test('a host whose starts do not end is not waited for', () => {
    const bench = cluster({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 20 }) })
    for (let turn = 0; turn < 20; turn++)
      for (const place of bench.take('place')) if (place.hostId === 'h1') begin(bench, place)
    assert.ok(bench.jobs('running').length <= 6)
    bench.nowMs += slowStartMs + 1
    bench.send({ kind: 'tick' })
    for (let turn = 0; turn < 20; turn++)
      for (const place of bench.take('place')) if (place.hostId === 'h1') begin(bench, place)
    assert.equal(bench.jobs('running').length, 16)
  })

  test('a host that cannot start jobs gets one of a kind, and the next after a minute', () => {
    const bench = cluster({ h1: {}, h2: {}, h3: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 12 }) })
    let failed = 0
    const live = () => {
      for (let turn = 0; turn < 50; turn++)
        for (const place of bench.take('place')) {
          if (place.hostId !== 'h1') begin(bench, place)
          else {
            failed++
            const { uuid, hostId, attempt } = place
            bench.send({ kind: 'placed', uuid, hostId, attempt })
            bench.report(uuid, 'failed', { error: 'no space left on device' })
          }
        }
    }
    live()
    assert.deepEqual(Object.keys(perHost(bench)).sort(), ['h2', 'h3'])
    assert.equal(bench.jobs('running').length, 12)
    // As many as were under way when the first one failed.
    assert.ok(failed >= 1 && failed <= startsPerHostMax, String(failed))
    const before = failed
    bench.send({ kind: 'formation', formation: formation({ web: 14 }) })
    live()
    assert.equal(failed, before)
    bench.nowMs += failedStartMs
    bench.send({ kind: 'formation', formation: formation({ web: 16 }) })
    live()
    assert.ok(failed > before)
    assert.equal(bench.jobs('running').length, 16)
  })

  test('a kind that starts nowhere is tried everywhere', () => {
    const bench = cluster({ h1: {}, h2: {} })
    bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
    const tried: string[] = []
    for (let turn = 0; turn < 4; turn++)
      for (const { uuid, hostId, attempt } of bench.take('place')) {
        tried.push(hostId)
        bench.send({ kind: 'placed', uuid, hostId, attempt })
        bench.report(uuid, 'failed', { error: 'the image has no such program' })
      }
    assert.equal(tried.length, 4)
    assert.deepEqual(new Set(tried), new Set(['h1', 'h2']))
  })

  test('of hosts that run as many of a kind the emptier one gets the next', () => {
    const bench = cluster({ h1: { memoryBytes: 1000 }, h2: { memoryBytes: 1000 } })
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { ...web(500), releaseId: 'r1' }) })
    bench.startAll()
    const [busy] = bench.jobs('running')
    bench.send({ kind: 'formation', formation: formation({ web: 1 }, { ...web(100), releaseId: 'r2' }) })
    assert.notEqual(bench.take('place')[0]?.hostId, busy?.hostId)
  })
})

function begin(bench: Bench, place: { uuid: string; hostId: string; attempt: number }): void {
  const { uuid, hostId, attempt } = place
  bench.send({ kind: 'placed', uuid, hostId, attempt })
  bench.nowMs += 1
  bench.report(uuid, 'running')
}
