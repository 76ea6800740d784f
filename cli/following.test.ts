import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ControllerClient } from '../controller/client.ts'
import type { ControllerEvent, Job, JobState } from '../controller/types.ts'
import { followJobs } from './following.ts'
import { live } from './live.ts'

function follow(told: string[]) {
  return followJobs({
    // Nobody is there: the log of a job that failed is told without its lines.
    client: new ControllerClient({ url: 'http://127.0.0.1:9', key: 'k', retryMs: 0 }),
    app: 'a',
    release: 'r',
    live: live({ terminal: false, columns: () => 80, rows: () => 24, write: text => void told.push(text) }),
    lines: false,
  })
}

function event(uuid: string, state: JobState, more: Partial<Job> = {}): ControllerEvent<Job> {
  const data = { id: `h1-${uuid}`, uuid, release: 'r', type: 'web', state, ...more }
  const created_at = '2026-01-01T00:00:00Z'
  return { id: 1, app: 'a', object_type: 'job', object_id: uuid, data, created_at }
}

test('jobs that an earlier change stops, and that end only now, are no failures', () => {
  const told: string[] = []
  const jobs = follow(told)
  for (let n = 0; n < 10; n++) jobs.event(event(`old-${n}`, 'down', { exit_status: 143 }))
  jobs.event(event('new', 'pending'))
  jobs.event(event('new', 'up'))
  jobs.event(event('new', 'stopping'))
  jobs.event(event('new', 'down', { exit_status: 0 }))
  assert.equal(jobs.failures(), 0)
  assert.deepEqual(told, [])
})

test('a job that begins and ends by itself is one, and why is told once', async () => {
  const told: string[] = []
  const jobs = follow(told)
  for (const uuid of ['j1', 'j2']) {
    jobs.event(event(uuid, 'starting'))
    jobs.event(event(uuid, 'down', { exit_status: 3 }))
    jobs.event(event(uuid, 'down', { exit_status: 3 }))
  }
  assert.equal(jobs.failures(), 2)
  await jobs.settle()
  assert.deepEqual(told, ['web h1-j1 ended with status 3\n'])
})
