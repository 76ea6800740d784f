import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { DiscoverdEvent } from '../discoverd/client.ts'
import { type InstancesEvent, noInstances, stepInstances } from './instances.core.ts'

const event = (kind: DiscoverdEvent['kind'], id?: string): DiscoverdEvent => ({
  service: 'web',
  kind,
  ...(id === undefined ? {} : { instance: { id, addr: `10.0.0.1:${id}`, proto: 'tcp' } }),
})
const connected = { kind: 'connected' } as const

/** The ids that were shown after each event; undefined where nothing was. */
function shown(...events: InstancesEvent[]): readonly (string | undefined)[] {
  let state = noInstances
  return events.map(e => {
    const step = stepInstances(state, e)
    state = step.state
    return step.show && [...step.show.instances.keys()].join()
  })
}
const upAndCurrent = [connected, event('up', '1'), event('current')] as const

test('nothing is shown before the listing is complete', () => {
  assert.deepEqual(shown(...upAndCurrent, event('up', '2')), [undefined, undefined, '1', '1,2'])
})

test('a service that is empty from the start is shown empty', () => {
  assert.deepEqual(shown(connected, event('current')), [undefined, ''])
})

test('the last instance that goes down is gone at once', () => {
  assert.equal(shown(...upAndCurrent, event('down', '1')).at(-1), '')
})

test('a reconnect that finds nothing keeps the last instances until their time is over', () => {
  const reconnect = [connected, event('down', '1'), event('current')] as const
  assert.deepEqual(shown(...upAndCurrent, ...reconnect).slice(3), [undefined, undefined, undefined])
  assert.equal(shown(...upAndCurrent, ...reconnect, { kind: 'keptLongEnough' }).at(-1), '')
})

test('an instance that comes up while the last ones are kept takes their place', () => {
  const reconnect = [connected, event('down', '1'), event('current')] as const
  const all = shown(...upAndCurrent, ...reconnect, event('up', '2'), { kind: 'keptLongEnough' })
  assert.deepEqual(all.slice(-2), ['2', undefined])
})

test('a reconnect that finds fewer instances shows those', () => {
  const reconnect = [connected, event('down', '1'), event('current')] as const
  assert.equal(
    shown(connected, event('up', '1'), event('up', '2'), event('current'), ...reconnect).at(-1),
    '2',
  )
})
