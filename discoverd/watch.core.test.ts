// What a watcher sees across reconnections: each change once, nothing missed.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DiscoverdEvent, EventKind, Instance } from './types.ts'
import { connected, newWatch, received, type WatchState } from './watch.core.ts'

const instance = (id: string, v = '1'): Instance => ({
  id,
  addr: `10.0.0.1:${id}`,
  proto: 'tcp',
  meta: { v },
  index: Number(id),
})
const event = (kind: EventKind, i?: Instance): DiscoverdEvent => ({
  service: 'a',
  kind,
  ...(i ? { instance: i } : {}),
})
const meta = (index: number): DiscoverdEvent => ({
  service: 'a',
  kind: 'service_meta',
  service_meta: { data: null, index },
})

function play(state: WatchState, events: readonly DiscoverdEvent[]): [WatchState, readonly string[]] {
  const out: string[] = []
  for (const e of events) {
    const step = received(state, e)
    state = step.state
    out.push(...step.events.map(o => `${o.kind} ${o.instance?.id ?? o.service_meta?.index ?? '-'}`))
  }
  return [state, out]
}

const first = [
  event('up', instance('1')),
  event('up', instance('2')),
  event('leader', instance('1')),
  meta(7),
  event('current'),
]

function afterFirst(): WatchState {
  return play(connected(newWatch), first)[0]
}

test('the first connection shows everything as it comes', () => {
  const [, out] = play(connected(newWatch), first)
  assert.deepEqual(out, ['up 1', 'up 2', 'leader 1', 'service_meta 7', 'current -'])
})

test('a reconnection without changes shows only current', () => {
  const [, out] = play(connected(afterFirst()), first)
  assert.deepEqual(out, ['current -'])
})

test('an instance missed while away comes up', () => {
  const [, out] = play(connected(afterFirst()), [event('up', instance('3')), ...first])
  assert.deepEqual(out, ['up 3', 'current -'])
})

test('an instance changed while away is updated', () => {
  const [, out] = play(connected(afterFirst()), [event('up', instance('1', '2')), ...first.slice(1)])
  assert.deepEqual(out, ['update 1', 'current -'])
})

test('an instance lost while away goes down before current', () => {
  const [, out] = play(connected(afterFirst()), [first[0], ...first.slice(2)] as DiscoverdEvent[])
  assert.deepEqual(out, ['down 2', 'current -'])
})

test('a leader and metadata changed while away are shown', () => {
  const changed = [
    event('up', instance('1')),
    event('up', instance('2')),
    event('leader', instance('2')),
    meta(9),
  ]
  const [, out] = play(connected(afterFirst()), [...changed, event('current')])
  assert.deepEqual(out, ['leader 2', 'service_meta 9', 'current -'])
})

test('a leader lost while away is shown as no leader', () => {
  const [, out] = play(connected(afterFirst()), [event('current')])
  assert.deepEqual(out, ['down 1', 'down 2', 'leader -', 'current -'])
})

test('live events pass as they are', () => {
  const [, out] = play(afterFirst(), [
    event('leader', instance('1')),
    event('down', instance('1')),
    meta(7),
    event('leader'),
  ])
  assert.deepEqual(out, ['leader 1', 'down 1', 'service_meta 7', 'leader -'])
})
