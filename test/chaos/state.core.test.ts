import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ActiveJob } from '../../host/types.ts'
import { type ClusterView, type HostView, stateFaults } from './state.core.ts'

const zero = '0001-01-01T00:00:00Z'
const job = (host: string, n: number, volume?: string): ActiveJob => ({
  job: {
    id: `${host}-${n}`,
    metadata: { 'flynn-controller.app_name': 'app', 'flynn-controller.type': 'web' },
    config: volume === undefined ? {} : { volumes: [{ target: '/data', volume }] },
  },
  host_id: host,
  internal_ip: `100.100.${host.slice(1)}.${n}`,
  status: 1,
  ...{ created_at: zero, started_at: zero, ended_at: zero },
})

function host(name: string, jobs: readonly ActiveJob[], change: Partial<HostView> = {}): HostView {
  const ids = jobs.map(j => j.job.id)
  const mounts = ids.flatMap(id => [
    `/var/lib/flynn/jobs/${id}/disk`,
    `/run/flynn/x/v2.task/flynn/${id}/rootfs`,
  ])
  return { name, jobs, tasks: ids, containers: ids, mounts, links: ids.length, page: 200, ...change }
}

const instances = ['100.100.1.1:5432', '100.100.2.1:5432']
const seen = { instances, leader: '100.100.1.1:5432' }

function view(change: Partial<ClusterView> = {}): ClusterView {
  return {
    hosts: [host('h1', [job('h1', 1, 'a')]), host('h2', [job('h2', 1, 'b')])],
    services: [{ name: 'postgres', seen: [seen, seen] }],
    controllerJobs: ['h1-1 up', 'h2-1 up'],
    etcdLeaders: ['10.0.0.1:1111', '10.0.0.1:1111'],
    postgres: [
      { address: '100.100.1.1:5432', role: 'master', state: 'running' },
      { address: '100.100.2.1:5432', role: 'replica', state: 'running' },
    ],
    ...change,
  }
}
const faults = (change: Partial<ClusterView>) => stateFaults(view(change), { 'app/web': 2 }).join('\n')

test('a whole cluster has no faults', () => {
  assert.equal(faults({}), '')
})

test('too few, too many and unwanted jobs are faults', () => {
  assert.match(stateFaults(view(), { 'app/web': 3 }).join(), /2 jobs of app\/web, wanted 3/)
  assert.match(stateFaults(view(), { 'app/web': 2, 'app/x': 1 }).join(), /0 jobs of app\/x, wanted 1/)
})

test('a job that the controller does not know, and one that it only believes in', () => {
  assert.match(faults({ controllerJobs: ['h1-1 up'] }), /h2-1 runs and the controller does not know it/)
  assert.match(faults({ controllerJobs: ['h1-1 up', 'h2-1 up', 'h3-1 up'] }), /h3-1, which is gone/)
})

test('two jobs that hold one volume', () => {
  const hosts = [host('h1', [job('h1', 1, 'a')]), host('h2', [job('h2', 1, 'a')])]
  assert.match(faults({ hosts }), /volume a has two writers: h1-1, h2-1/)
})

test('tasks, containers, mounts and cables of dead jobs', () => {
  const first = [job('h1', 1)]
  const second = host('h2', [job('h2', 1)])
  const stray = (change: Partial<HostView>) => faults({ hosts: [host('h1', first, change), second] })
  assert.match(stray({ tasks: ['h1-1', 'h1-9'] }), /h1 still has the task of h1-9/)
  assert.match(stray({ containers: ['h1-1', 'h1-9'] }), /still has the container of h1-9/)
  assert.match(stray({ mounts: ['/var/lib/flynn/jobs/h1-9/disk'] }), /still has a mount of h1-9/)
  assert.match(stray({ links: 3 }), /h1 has 3 cables for 1 containers/)
  assert.match(stray({ tasks: [] }), /h1-1 has no task/)
})

test('daemons that disagree, no leader, a leader that is gone, an instance that no job is', () => {
  const services = (...s: (typeof seen | { instances: string[]; leader: string | undefined })[]) =>
    faults({ services: [{ name: 'postgres', seen: s }] })
  assert.match(services(seen, { ...seen, leader: instances[1] }), /looks different on the hosts/)
  assert.match(services({ instances, leader: undefined }), /has no leader/)
  assert.match(services({ instances, leader: '100.100.9.9:5432' }), /which is no instance of it/)
  assert.match(
    services({ instances: [...instances, '100.100.9.9:1'], leader: instances[0] }),
    /which no job is/,
  )
})

test('two primaries, and one that discoverd does not name', () => {
  const [a, b] = view().postgres
  assert.ok(a && b)
  assert.match(faults({ postgres: [a, { ...b, role: 'master' }] }), /2 servers take writes/)
  assert.match(faults({ postgres: [{ ...a, role: 'replica' }, b] }), /0 servers take writes/)
  const swapped = [
    { ...a, role: 'replica' },
    { ...b, role: 'master' },
  ]
  assert.match(faults({ postgres: swapped }), /led by 100.100.2.1:5432, discoverd says 100.100.1.1:5432/)
  assert.match(faults({ postgres: [a, { ...b, state: 'starting' }] }), /100.100.2.1:5432 is starting/)
})

test('a server of the database that is not registered', () => {
  const [a] = view().postgres
  assert.ok(a)
  const found = stateFaults(view({ postgres: [a] }), { 'app/web': 2, 'postgres/postgres': 2 }).join()
  assert.match(found, /1 of 2 servers are registered/)
})

test('a router that does not show the page', () => {
  const hosts = [host('h1', [job('h1', 1)], { page: 503 }), host('h2', [job('h2', 1)])]
  assert.match(faults({ hosts }), /the page through h1 answers 503/)
})
