import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ActiveJob } from '../../host/types.ts'
import type { ExpandedFormation } from '../types.ts'
import {
  asksDefault,
  asksOf,
  fromActiveJob,
  fromFormation,
  fromRecordedJobs,
  toMicros,
  toWireJob,
} from './convert.core.ts'
import type { Job } from './state.core.ts'

const active: ActiveJob = {
  job: {
    id: 'node1-3f1b-77',
    metadata: {
      team: 'red',
      'flynn-controller.app': 'app',
      'flynn-controller.release': 'rel',
      'flynn-controller.type': 'web',
      'flynn-controller.formation': 'true',
    },
    config: { args: ['x'], volumes: [{ target: '/data', volume: 'v1', delete_on_stop: true }] },
  },
  host_id: 'node1',
  created_at: '2026-01-02T03:04:05.678901234Z',
  started_at: '0001-01-01T00:00:00Z',
  ended_at: '0001-01-01T00:00:00Z',
}

test('a host job without a status is starting, and Go zero times are absent', () => {
  const job = fromActiveJob(active)
  assert.equal(job?.uuid, '3f1b-77')
  assert.equal(job?.status, 'starting')
  assert.equal(job?.startedMs, undefined)
  assert.equal(job?.createdMs, Date.parse('2026-01-02T03:04:05.678Z'))
  assert.deepEqual(job?.meta, { team: 'red' })
  assert.deepEqual(job?.volumes, [{ id: 'v1', path: '/data', deleteOnStop: true }])
})

test('a host job that the controller did not start is none of ours', () => {
  assert.equal(fromActiveJob({ ...active, job: { ...active.job, metadata: {} } }), undefined)
})

test('times are told apart to the microsecond, however many digits they have', () => {
  assert.ok(toMicros('2026-01-01T00:00:00.5Z') > toMicros('2026-01-01T00:00:00.000001Z'))
  assert.ok(toMicros('2026-01-01T00:00:00Z') < toMicros('2026-01-01T00:00:00.000001Z'))
  assert.equal(toMicros('2026-01-01T00:00:00.1Z') - toMicros('2026-01-01T00:00:00Z'), 100_000)
})

const expanded: ExpandedFormation = {
  app: {
    id: 'app',
    name: 'shop',
    meta: { 'flynn-system-app': 'true', 'flynn-system-critical': 'true' },
    strategy: 'one-by-one',
    deploy_timeout: 1,
    created_at: '',
    updated_at: '',
  },
  release: {
    id: 'rel',
    created_at: '',
    processes: { db: { data: true }, web: { service: 'shop-web', omni: true } },
  },
  artifacts: [],
  processes: { db: 1, web: 2 },
  updated_at: '2026-01-01T00:00:00Z',
}

test('the deprecated data flag of a process type means a volume at /data', () => {
  const { processes, system, critical } = fromFormation(expanded)
  assert.deepEqual(processes['db']?.volumes, [{ path: '/data', deleteOnStop: false }])
  assert.equal(processes['web']?.service, 'shop-web')
  assert.ok(system && critical)
})

test('a process counts for what its release asks for, and for little when it asks for nothing', () => {
  assert.deepEqual(asksOf(undefined), asksDefault)
  // As releases are stored: the defaults filled in.
  const filled = { memory: { request: 1024 ** 3, limit: 1024 ** 3 }, cpu: { request: 1000, limit: 1000 } }
  assert.deepEqual(asksOf(filled), asksDefault)
  const said = { memory: { request: 5, limit: 1024 ** 3 }, cpu: { limit: 2000 } }
  assert.deepEqual(asksOf(said), { memoryBytes: 5, cpuMillis: 2000 })
})

test('a deleted formation wants nothing', () => {
  assert.deepEqual(fromFormation({ ...expanded, deleted: true }).counts, {})
})

test('a recorded job brings the volumes that are its own in the volume table', () => {
  const [job] = fromRecordedJobs(
    [{ uuid: 'u', app: 'a', release: 'r', type: 'db', state: 'blocked' }],
    [{ id: 'v', host_id: 'h', type: 'data', state: 'created', job: 'u' }],
  )
  assert.equal(job?.state, 'pending')
  assert.deepEqual(job?.volumeIds, ['v'])
})

test('a job that no host was asked for has no cluster id', () => {
  const job: Job = {
    uuid: 'u',
    appId: 'a',
    releaseId: 'r',
    type: '',
    phase: 'pending',
    system: false,
    placing: false,
    onHost: false,
    hostRunning: false,
    restarts: 0,
    attempts: 0,
    notBeforeMs: 0,
    uncertain: false,
    createdMs: 0,
    volumeIds: [],
    asks: asksDefault,
    args: [],
    meta: {},
  }
  assert.deepEqual(toWireJob(job, 'pending'), {
    uuid: 'u',
    app: 'a',
    release: 'r',
    state: 'pending',
    args: [],
    volumes: [],
  })
  const placed = toWireJob({ ...job, hostId: 'h1', exitStatus: 0, restarts: 2 }, 'down')
  assert.equal(placed.id, 'h1-u')
  assert.equal(placed.exit_status, 0)
  assert.equal(placed.restarts, 2)
})
