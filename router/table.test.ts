import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Route } from '../controller/types.ts'
import { oldWorkers } from '../pkg/haproxy/master.ts'
import { httpMapOf } from './maps.core.ts'
import { planChange } from './plan.core.ts'
import { usedConnections } from './process.ts'
import {
  assignSlots,
  changeTable,
  changeTableBy,
  desiredOf,
  emptyTable,
  httpMapKey,
  poolFor,
  type Table,
} from './table.core.ts'

const times = { created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z' }
const route = (over: Partial<Route>): Route => ({
  type: 'http',
  id: over.domain ?? 'r',
  service: 'web',
  leader: false,
  ...times,
  ...over,
})
const instance = (addr: string, id = addr) => ({
  id,
  addr,
  proto: 'tcp',
  meta: { FLYNN_JOB_ID: `job-${addr}` },
})

function tableOf(
  routes: readonly Route[],
  services: Readonly<Record<string, readonly string[]>>,
  leader?: string,
): Table {
  let table = changeTable(emptyTable, { kind: 'sync', routes })
  for (const [service, addrs] of Object.entries(services)) {
    const instances = new Map(addrs.map(a => [a, instance(a)]))
    table = changeTable(table, { kind: 'service', service, state: { instances, leaderId: leader } })
  }
  return table
}

function layoutOf(table: Table, previous: Record<string, string> = {}) {
  const desired = desiredOf(table)
  const slots = assignSlots(previous, desired.backends.values(), new Set())
  return { desired, slots, pool: poolFor({ b: 4, s: 1, n: 1, t: 1 }, slots), tcpPorts: [], generation: '' }
}

test('a route becomes a map key on whole path segments, in lower case', () => {
  assert.equal(httpMapKey(route({ domain: 'Example.COM', path: '/api' })), 'example.com/api/')
  assert.equal(httpMapKey(route({ domain: '*.example.com' })), '*.example.com/')
  assert.equal(httpMapKey(route({ domain: '*' })), '*/')
})

test('a domain or path that could break a map line is left out and the other routes stay', () => {
  const bad = route({ id: 'bad', domain: 'a b\nc' })
  const desired = desiredOf(tableOf([bad, route({ domain: 'good.test' })], {}))
  assert.deepEqual([...desired.http.keys()], ['good.test/'])
})

test('routes of one service share a backend, a leader route has its own with the leader only', () => {
  const routes = [
    route({ domain: 'a.test' }),
    route({ domain: 'b.test' }),
    route({ domain: 'l.test', leader: true }),
  ]
  const desired = desiredOf(tableOf(routes, { web: ['10.0.0.1:80', '10.0.0.2:80'] }, '10.0.0.2:80'))
  assert.deepEqual([...desired.backends.keys()].sort(), ['b:web', 'b:web:leader'])
  assert.deepEqual(
    desired.backends.get('b:web:leader')?.servers.map(s => s.addr),
    ['10.0.0.2:80'],
  )
})

test('several changes at once come to the same as one after the other, and the table before stays', () => {
  const one = route({ domain: 'one.test' })
  const old = route({ domain: 'old.test' })
  const state = { instances: new Map(), leaderId: undefined }
  const before = changeTable(emptyTable, { kind: 'set', route: old })
  const changes = [
    { kind: 'set', route: one },
    { kind: 'service', service: 'a', state },
    { kind: 'service', service: 'b', state },
    { kind: 'forget', service: 'a' },
    { kind: 'remove', route: old },
  ] as const
  const after = changeTableBy(before, changes)
  assert.deepEqual(
    after,
    changes.reduce((table, change) => changeTable(table, change), before),
  )
  assert.deepEqual([[...after.routes.values()], [...after.services.keys()]], [[one], ['b']])
  assert.deepEqual([before.routes.size, before.services.size], [1, 0])
  const synced = changeTableBy(after, [
    { kind: 'sync', routes: [] },
    { kind: 'set', route: one },
  ])
  assert.deepEqual([...synced.routes.values()], [one])
})

test('a backend keeps its slot while others come and go', () => {
  const first = layoutOf(
    tableOf([route({ domain: 'a.test', service: 'a' }), route({ domain: 'b.test', service: 'b' })], {}),
  )
  const second = layoutOf(
    tableOf([route({ domain: 'b.test', service: 'b' }), route({ domain: 'c.test', service: 'c' })], {}),
    first.slots,
  )
  assert.equal(second.slots['b:b'], first.slots['b:b'])
  assert.notEqual(second.slots['b:c'], second.slots['b:b'])
})

test('a new instance is added before routes change and an old one retired after', () => {
  const before = layoutOf(tableOf([route({ domain: 'a.test' })], { web: ['10.0.0.1:80'] }))
  const after = layoutOf(
    tableOf([route({ domain: 'a.test' }), route({ domain: 'b.test' })], { web: ['10.0.0.2:80'] }),
    before.slots,
  )
  const plan = planChange(before, after)
  assert.ok('steps' in plan)
  assert.deepEqual(
    plan.steps.map(s => s.kind),
    ['add-server', 'add-map', 'retire-server'],
  )
})

test('a pool that is used up grows with room to spare, by a reload', () => {
  const before = layoutOf(tableOf([route({ domain: 'a.test', service: 'a' })], {}))
  const many = Array.from({ length: 6 }, (_, i) => route({ domain: `s${i}.test`, service: `s${i}` }))
  const after = layoutOf(tableOf(many, {}), before.slots)
  assert.ok(after.pool.b > 7)
  assert.equal(after.pool.t, before.pool.t)
  assert.ok('reload' in planChange(before, after))
})

const certificate = (id: string, text = id) => ({ id, cert: `cert ${text}`, key: `key ${text}`, ...times })

test('a replaced certificate is added before the old one goes, and nothing is reloaded', () => {
  const before = layoutOf(tableOf([route({ domain: 'a.test', certificate: certificate('c1') })], {}))
  const after = layoutOf(
    tableOf([route({ domain: 'a.test', certificate: certificate('c2') })], {}),
    before.slots,
  )
  const plan = planChange(before, after)
  assert.ok('steps' in plan)
  assert.deepEqual(
    plan.steps.map(s => s.kind),
    ['add-certificate', 'delete-certificate'],
  )
})

test('a certificate is named after its text and its hosts, and the catch-all is none of them', () => {
  const one = desiredOf(tableOf([route({ domain: 'a.test', certificate: certificate('c') })], {}))
  const two = desiredOf(
    tableOf(
      [
        route({ domain: 'a.test', certificate: certificate('c') }),
        route({ domain: '*', certificate: certificate('c') }),
        route({ domain: 'B.test', certificate: certificate('c') }),
      ],
      {},
    ),
  )
  const [a, b] = [[...one.certificates.values()][0], [...two.certificates.values()][0]]
  assert.deepEqual(b?.hosts, ['a.test', 'b.test'])
  assert.notEqual(a?.name, b?.name)
})

test('a slot that another backend had until now is not given away in the same change', () => {
  const before = layoutOf(tableOf([route({ domain: 'a.test', service: 'a' })], { a: ['10.0.0.1:80'] }))
  const after = layoutOf(tableOf([route({ domain: 'a.test', service: 'b' })], {}), before.slots)
  assert.notEqual(after.slots['b:b'], before.slots['b:a'])
})

test('what a route asks for stands in the map, limits only where there are some', () => {
  const routes = [
    route({ id: 'p', domain: 'p.test' }),
    route({ id: 'o', domain: 'o.test', sticky: true, redirect_https: true, maintenance: true }),
    route({ id: 'l', domain: 'l.test', rate_limit: 3, max_body_bytes: 7, port: 8080 }),
  ]
  const map = httpMapOf(layoutOf(tableOf(routes, {})))
  assert.equal(map.get('p.test/'), 'b1|p')
  assert.equal(map.get('o.test/'), 's1|o|srm|0|0|0')
  assert.equal(map.get('l.test:8080/'), 's1|l|lz|3|0|7')
})

test('an instance whose address is no IP address is left out', () => {
  const desired = desiredOf(
    tableOf([route({ domain: 'a.test' })], { web: ['name:80', '10.0.0.1:80', '[::1]:80'] }),
  )
  assert.deepEqual(
    desired.backends.get('b:web')?.servers.map(s => s.addr),
    ['10.0.0.1:80', '[::1]:80'],
  )
})

test('old workers and connections in use are read from what HAProxy prints', () => {
  const text = `#<PID>          <type>          <reloads>       <uptime>
1               master          1               0d00h00m03s
# workers
30              worker          0               0d00h00m01s
# old workers
20              worker          1               0d00h00m02s
21              worker          2               0d00h00m02s
# programs
`
  assert.deepEqual(oldWorkers(text), ['20', '21'])
  const rows =
    '# bkname/svname bkid/svid addr port - purge_delay used_cur used_max\nb1/x 3/1 127.0.0.1 1 - 5000 4 9\n'
  assert.equal(usedConnections(rows, 'b1/x'), 4)
  assert.equal(usedConnections(rows, 'b1/y'), 0)
})
