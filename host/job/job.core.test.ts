import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ActiveJob, Job } from '../types.ts'
import {
  changeJob,
  type JobChange,
  jobsToUnlist,
  newestScheduler,
  newJob,
  planRestore,
  renamed,
} from './job.core.ts'

const at = new Date('2026-01-02T03:04:05.000Z')
const later = new Date('2026-01-02T03:04:06.000Z')
const spec = (id: string, more: Partial<Job> = {}): Job => ({ id, config: {}, mountspecs: [], ...more })

function after(...changes: JobChange[]): ActiveJob {
  return changes.reduce((job, change) => changeJob(job, change).job, newJob(spec('h1-a'), 'h1', at))
}

const started: JobChange = { type: 'started', at, pid: 7 }
const exited = (status: number): JobChange => ({ type: 'exited', at: later, status, oomKilled: false })

test('a new job is starting: no status, zero times', () => {
  assert.deepEqual(newJob(spec('h1-a'), 'h1', at), {
    job: spec('h1-a'),
    host_id: 'h1',
    created_at: '2026-01-02T03:04:05.000Z',
    started_at: '0001-01-01T00:00:00Z',
    ended_at: '0001-01-01T00:00:00Z',
  })
})

test('a job that started and exited with 0 is done', () => {
  const step = changeJob(after(started), exited(0))
  assert.equal(step.event, 'stop')
  assert.deepEqual([step.job.status, step.job.exit_status, step.job.pid], [2, 0, undefined])
  assert.equal(step.job.ended_at, later.toISOString())
})

test('a job that exited with anything else has crashed', () => {
  assert.equal(changeJob(after(started), exited(137)).job.status, 3)
})

test('a job that was killed for lack of memory says so', () => {
  const change: JobChange = { type: 'exited', at, status: 137, oomKilled: true }
  assert.match(changeJob(after(started), change).job.error ?? '', /out of memory/)
})

test('down states are final', () => {
  for (const end of [exited(1), { type: 'failed', at, error: 'x' }, { type: 'neverStarted', at }] as const) {
    const down = after(end)
    for (const change of [
      started,
      exited(0),
      { type: 'failed', at, error: 'y' },
      { type: 'stopRequested' },
    ] as const)
      assert.deepEqual(changeJob(down, change), { job: down, event: undefined })
  }
})

test('only a starting job remembers a stop, and only it can end without having started', () => {
  assert.equal(after({ type: 'stopRequested' }).force_stop, true)
  assert.equal(after(started, { type: 'stopRequested' }).force_stop, undefined)
  assert.equal(changeJob(after(), { type: 'neverStarted', at }).event, 'stop')
  assert.equal(changeJob(after(started), { type: 'neverStarted', at }).event, undefined)
})

test('clean-up is told for down jobs only', () => {
  assert.equal(changeJob(after(started), { type: 'cleaned' }).event, undefined)
  assert.equal(changeJob(after(started, exited(0)), { type: 'cleaned' }).event, 'cleanup')
})

test('each app keeps its newest down jobs listed, active ones do not count', () => {
  const job = (n: number, app: string, status: 1 | 2): ActiveJob => ({
    ...newJob(spec(`h1-${app}${n}`, { config: { env: { FLYNN_APP_ID: app } } }), 'h1', new Date(n)),
    status,
  })
  const jobs = [
    ...[1, 2, 3, 4].map(n => job(n, 'a', 2)),
    ...[5, 6].map(n => job(n, 'a', 1)),
    ...[7, 8].map(n => job(n, 'b', 2)),
  ]
  assert.deepEqual(jobsToUnlist(jobs, 3), ['h1-a1'])
})

test('the newest job of each process of a system app stays listed, however old', () => {
  const job = (n: number, type: string): ActiveJob => ({
    ...newJob(
      spec(`h1-${type}${n}`, {
        partition: 'system',
        metadata: { 'flynn-controller.type': type },
        config: { env: { FLYNN_APP_ID: 'a' } },
      }),
      'h1',
      new Date(n),
    ),
    status: 2,
  })
  const jobs = [1, 2].map(n => job(n, 'scheduler')).concat([3, 4, 5, 6].map(n => job(n, 'worker')))
  assert.deepEqual(jobsToUnlist(jobs, 2), ['h1-scheduler1', 'h1-worker3', 'h1-worker4'])
})

const active = (id: string, status: 0 | 1, partition = 'user'): ActiveJob => ({
  ...newJob(spec(id, { partition }), 'h1', at),
  ...(status === 0 ? {} : { status }),
})
const found = (id: string, status: 'created' | 'running' | 'stopped') => ({ id, pid: 1, status })

test('after a restart of the daemon alone, containers are taken over and jobs that never ran are started', () => {
  const plan = planRestore({
    jobs: [active('a', 1), active('b', 0), active('c', 0), active('d', 1), active('e', 0), active('f', 1)],
    containers: [found('a', 'running'), found('b', 'created'), found('d', 'stopped'), found('e', 'running')],
    rebooted: false,
    resurrect: true,
  })
  assert.deepEqual(
    plan.map(p => `${p.id} ${p.type}`),
    ['a adopt', 'b start', 'c start', 'd adopt', 'e adopt', 'f lost'],
  )
})

test('after a power cut system jobs come back, others and those being stopped do not', () => {
  const jobs = [active('s', 1, 'system'), active('u', 1), { ...active('t', 0, 'system'), force_stop: true }]
  const options = { jobs, containers: [found('s', 'running')], rebooted: true, resurrect: true }
  const resurrected = (o: Parameters<typeof planRestore>[0]) =>
    planRestore(o).map(p => p.type === 'lost' && p.rebooted && p.resurrect)
  assert.deepEqual(resurrected(options), [true, false, false])
  assert.deepEqual(resurrected({ ...options, resurrect: false }), [false, false, false])
})

test('a job under a new id has it in FLYNN_JOB_ID too, if it was there', () => {
  const with_ = spec('h1-a', { config: { env: { FLYNN_JOB_ID: 'h1-a', A: 'b' } } })
  assert.deepEqual(renamed(with_, 'h1-b').config.env, { FLYNN_JOB_ID: 'h1-b', A: 'b' })
  assert.equal(renamed(spec('h1-a'), 'h1-b').config.env, undefined)
  assert.equal(renamed(with_, 'h1-b').id, 'h1-b')
})

test("the scheduler to bring back is the controller's last one, never an app's process of that name", () => {
  const job = (id: string, app: string, type: string, partition: string, createdMs: number): ActiveJob => {
    const metadata = { 'flynn-controller.app_name': app, 'flynn-controller.type': type }
    return newJob(spec(id, { partition, metadata }), 'h1', new Date(createdMs))
  }
  const jobs = [
    job('a', 'controller', 'scheduler', 'system', 1),
    job('b', 'controller', 'scheduler', 'system', 3),
    job('c', 'controller', 'scheduler', 'system', 2),
    job('d', 'controller', 'worker', 'system', 4),
    job('e', 'shop', 'scheduler', 'system', 5),
    job('f', 'controller', 'scheduler', 'user', 6),
  ]
  assert.equal(newestScheduler(jobs)?.job.id, 'b')
  assert.equal(newestScheduler([]), undefined)
})
