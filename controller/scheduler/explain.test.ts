// What is said of a job, in each state that it can be in.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Bench, formation, plain } from './bench.ts'
import { explainJob } from './explain.core.ts'

function told(bench: Bench, uuid: string) {
  const explanation = explainJob(bench.state, uuid, bench.nowMs)
  assert.ok(explanation)
  return explanation
}

function firstJob(bench: Bench): string {
  const [job] = [...bench.state.jobs.values()]
  assert.ok(job)
  return job.uuid
}

test('a job that fits nowhere is told why, host by host', () => {
  const bench = new Bench().lead({ h1: { disk: 'ssd' }, h2: { disk: 'hdd' }, h3: { disk: 'ssd' }, h4: {} })
  bench.send({ kind: 'host', host: { id: 'h1', tags: { disk: 'ssd' }, shutdown: false, memoryBytes: 100 } })
  bench.send({ kind: 'host', host: { id: 'h3', tags: { disk: 'ssd' }, shutdown: true } })
  const processes = { web: { ...plain, asks: { memoryBytes: 200, cpuMillis: 10 } } }
  bench.send({
    kind: 'formation',
    formation: formation({ web: 1 }, { processes, tags: { web: { disk: 'ssd' } } }),
  })
  const { state, summary, hosts, requests } = told(bench, firstJob(bench))
  assert.equal(state, 'pending')
  assert.equal(
    summary,
    'it waits: no host fits: 1 with too little memory, 2 without its tags, 1 shutting down',
  )
  assert.deepEqual(
    hosts?.map(h => [h.host, h.fits, h.obstacle]),
    [
      ['h1', false, 'memory'],
      ['h2', false, 'tag'],
      ['h3', false, 'leaving'],
      ['h4', false, 'tag'],
    ],
  )
  assert.equal(hosts?.[0]?.reason, 'has too little memory: 200B asked for, 100B of 100B left')
  assert.equal(hosts?.[1]?.reason, 'lacks the tag disk=ssd (has disk=hdd)')
  assert.deepEqual(requests, { memory: 200, cpu: 10 })
})

test('a job whose volume is on a host that is away waits for that host', () => {
  const bench = new Bench().lead({ h1: {}, h2: {} })
  const processes = { db: { ...plain, volumes: [{ path: '/data', deleteOnStop: false }] } }
  bench.send({ kind: 'formation', formation: formation({ db: 1 }, { processes }) })
  const [uuid = ''] = bench.startAll()
  const home = bench.state.jobs.get(uuid)?.hostId ?? ''
  const other = home === 'h1' ? 'h2' : 'h1'
  assert.match(told(bench, uuid).notes[0] ?? '', new RegExp(`^${home} has its volume `))
  bench.send({ kind: 'hostGone', hostId: home })
  bench.report(uuid, 'crashed', { exitStatus: 1 })
  const [waiting] = bench.jobs('blocked')
  const { hosts, notes } = told(bench, waiting?.uuid ?? '')
  assert.deepEqual(
    hosts?.map(h => [h.host, h.obstacle]).sort(),
    [
      [home, 'away'],
      [other, 'volume'],
    ].sort(),
  )
  assert.equal(notes[0], 'those before it ended 1 time by themselves')
})

test('a job that crashes again and again tells until when it waits', () => {
  const bench = new Bench().lead()
  bench.send({ kind: 'formation', formation: formation({ web: 1 }) })
  for (let i = 0; i < 6; i++)
    for (const uuid of bench.startAll()) bench.report(uuid, 'crashed', { exitStatus: 3, error: 'no luck' })
  const [waiting] = bench.jobs('pending')
  const { summary, run_at, restarts } = told(bench, waiting?.uuid ?? '')
  assert.match(summary, /^it waits until .*Z \(10 s\), then it is started: those before it ended 6 times/)
  assert.equal(run_at, new Date(bench.nowMs + 10_000).toISOString())
  assert.equal(restarts, 6)
  const over = told(bench, bench.jobs('stopped')[0]?.uuid ?? '')
  assert.match(over.summary, /^it ended at .*Z on h1 with status 3: no luck$/)
  assert.deepEqual([over.state, over.exit_status, over.host_error], ['down', 3, 'no luck'])
})

test('a job that runs tells why it is where it is, one that starts what it waits for', () => {
  const bench = new Bench().lead()
  const processes = { web: { ...plain, service: 'svc' }, agent: { ...plain, omni: true } }
  bench.send({ kind: 'formation', formation: formation({ web: 1, agent: 1 }, { processes }) })
  bench.startAll()
  const [web, agent] = ['web', 'agent'].map(type => [...bench.state.jobs.values()].find(j => j.type === type))
  assert.match(told(bench, web?.uuid ?? '').summary, /is not yet listed in the service svc/)
  bench.send({ kind: 'service', service: 'svc', jobs: [web?.uuid ?? ''] })
  const { summary, notes, id } = told(bench, web?.uuid ?? '')
  assert.match(summary, /^it runs on h1 since /)
  assert.match(notes[0] ?? '', /ran the fewest of its kind/)
  assert.equal(id, `h1-${web?.uuid}`)
  assert.deepEqual(told(bench, agent?.uuid ?? '').notes, ['h1 is where it belongs: every host runs its own'])
})

test('a job that waits for its turn says so, and one that was taken back too', () => {
  const bench = new Bench().lead()
  bench.send({ kind: 'formation', formation: formation({ web: 6 }) })
  const [waiting] = bench.jobs('pending').filter(j => !j.placing)
  const { summary, hosts } = told(bench, waiting?.uuid ?? '')
  assert.equal(summary, 'it waits its turn: the hosts that may run it are starting others')
  assert.deepEqual(
    hosts?.map(h => [h.fits, h.obstacle]),
    [[true, 'busy']],
  )
  bench.send({ kind: 'formation', formation: formation({ web: 4 }) })
  assert.match(told(bench, waiting?.uuid ?? '').summary, /^it was taken back .* no longer wanted$/)
})

test('asking changes nothing, and an unknown job is none', () => {
  const bench = new Bench().lead()
  bench.send({ kind: 'formation', formation: formation({ web: 6 }) })
  const before = JSON.stringify([...bench.state.jobs])
  for (const uuid of bench.state.jobs.keys()) told(bench, uuid)
  assert.equal(JSON.stringify([...bench.state.jobs]), before)
  assert.equal(explainJob(bench.state, 'nobody', bench.nowMs), undefined)
})
