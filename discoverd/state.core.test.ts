// The fold from etcd's history to events: what streams show for each kind of change, and that history, listing and
// difference of states agree for random histories.
import assert from 'node:assert/strict'
import { describe, test } from 'node:test'
import { instanceKey, leaderKey, metaKey, serviceKey } from './keys.core.ts'
import {
  applyChanges,
  diffStates,
  emptyState,
  fromListing,
  type KeyChange,
  replay,
  type State,
} from './state.core.ts'
import type { DiscoverdEvent } from './types.ts'

type Put = Extract<KeyChange, { type: 'put' }>

/** An etcd of one process: keeps keys, counts revisions, tells changes. */
class History {
  revision = 1
  readonly keys = new Map<string, Put>()
  state: State = emptyState

  #commit(changes: readonly KeyChange[]): readonly DiscoverdEvent[] {
    const step = applyChanges(this.state, changes, this.revision)
    this.state = step.state
    return step.events
  }
  write(entries: Readonly<Record<string, unknown>>, lease = '1'): readonly DiscoverdEvent[] {
    this.revision++
    return this.#commit(
      Object.entries(entries).map(([key, value]) => {
        const createRevision = this.keys.get(key)?.createRevision ?? this.revision
        const put: Put = {
          type: 'put',
          key,
          value: JSON.stringify(value),
          createRevision,
          modRevision: this.revision,
          lease,
        }
        this.keys.set(key, put)
        return put
      }),
    )
  }
  delete(...keys: readonly string[]): readonly DiscoverdEvent[] {
    this.revision++
    for (const key of keys) this.keys.delete(key)
    return this.#commit(keys.map(key => ({ type: 'delete' as const, key })))
  }
}

const service = (leaderType = 'oldest') => ({ [serviceKey('a')]: { leader_type: leaderType } })
const instance = (id: string, meta?: Record<string, string>) => ({
  [instanceKey('a', id)]: { addr: `10.0.0.${id}:80`, proto: 'tcp', ...(meta ? { meta } : {}) },
})
const shown = (events: readonly DiscoverdEvent[]) =>
  events.map(e => `${e.kind} ${e.instance?.id ?? e.service_meta?.index ?? '-'}`)

function withService(leaderType = 'oldest'): History {
  const h = new History()
  h.write(service(leaderType))
  return h
}

describe('instances', () => {
  test('a first instance comes up and leads', () => {
    assert.deepEqual(shown(withService().write(instance('1'))), ['up 1', 'leader 1'])
  })

  test('a later instance comes up without a leader event', () => {
    const h = withService()
    h.write(instance('1'))
    assert.deepEqual(shown(h.write(instance('2'))), ['up 2'])
  })

  test('changed metadata is an update that keeps the index', () => {
    const h = withService()
    const [up] = h.write(instance('1'))
    const events = h.write(instance('1', { a: 'b' }))
    assert.deepEqual(shown(events), ['update 1'])
    assert.equal(events[0]?.instance?.index, up?.instance?.index)
  })

  test('an instance that only changes its lease shows nothing', () => {
    const h = withService()
    h.write(instance('1'))
    assert.deepEqual(h.write(instance('1'), '2'), [])
    assert.equal(h.state.services.get('a')?.instances.get('1')?.lease, '2')
  })

  test('a removed leader hands over to the next oldest', () => {
    const h = withService()
    for (const id of ['3', '1', '2']) h.write(instance(id))
    assert.deepEqual(shown(h.delete(instanceKey('a', '3'))), ['down 3', 'leader 1'])
  })

  test('the last instance leaves no leader', () => {
    const h = withService()
    h.write(instance('1'))
    assert.deepEqual(shown(h.delete(instanceKey('a', '1'))), ['down 1', 'leader -'])
  })

  test('a lease that ends takes its instances down by age and elects once', () => {
    const h = withService()
    for (const id of ['3', '1', '2']) h.write(instance(id))
    const gone = h.delete(instanceKey('a', '1'), instanceKey('a', '3'))
    assert.deepEqual(shown(gone), ['down 3', 'down 1', 'leader 2'])
  })

  test('an instance that registers again is younger than those that stayed', () => {
    const h = withService()
    h.write(instance('1'))
    h.write(instance('2'))
    h.delete(instanceKey('a', '1'))
    assert.deepEqual(shown(h.write(instance('1'))), ['up 1'])
    assert.deepEqual([...(h.state.services.get('a')?.instances.keys() ?? [])], ['2', '1'])
  })

  test('a removed service takes everything with it and shows no leader event', () => {
    const h = withService()
    h.write({ [metaKey('a')]: { data: 1 } })
    h.write(instance('1'))
    h.write(instance('2'))
    const keys = [...h.keys.keys()]
    assert.deepEqual(shown(h.delete(...keys)), ['down 1', 'down 2'])
    assert.equal(h.state.services.size, 0)
  })
})

describe('metadata and leaders', () => {
  test('a metadata write shows its revision as index', () => {
    const h = withService()
    assert.deepEqual(shown(h.write({ [metaKey('a')]: { data: { x: 1 } } })), [`service_meta ${h.revision}`])
  })

  test('metadata that names a leader shows metadata first', () => {
    const h = withService('manual')
    h.write(instance('1'))
    const events = h.write({ [metaKey('a')]: { data: 1 }, [leaderKey('a')]: { id: '1', among: [1, 3] } })
    assert.deepEqual(shown(events), [`service_meta ${h.revision}`, 'leader 1'])
  })

  test('a manual service has no leader until one is named', () => {
    assert.deepEqual(shown(withService('manual').write(instance('1'))), ['up 1'])
  })

  test('naming the same leader again is shown again', () => {
    const h = withService('manual')
    h.write(instance('1'))
    const name = { [leaderKey('a')]: { id: '1', among: [1, 3] } }
    assert.deepEqual(shown(h.write(name)), ['leader 1'])
    assert.deepEqual(shown(h.write(name)), ['leader 1'])
  })

  test('a named leader that is not registered leads when it registers', () => {
    const h = withService('manual')
    assert.deepEqual(shown(h.write({ [leaderKey('a')]: { id: '1', among: [0, 0] } })), [])
    assert.deepEqual(shown(h.write(instance('1'))), ['up 1', 'leader 1'])
  })

  test('a leader named on an oldest-leads service stands until instances come or go', () => {
    const h = withService()
    h.write(instance('1'))
    h.write(instance('2'))
    const youngest = h.state.services.get('a')?.instances.get('2')?.index
    assert.deepEqual(shown(h.write({ [leaderKey('a')]: { id: '2', among: [2, youngest] } })), ['leader 2'])
    assert.deepEqual(shown(h.write(instance('2', { still: 'here' }))), ['update 2'])
    assert.deepEqual(shown(h.write(instance('3'))), ['up 3', 'leader 1'])
  })

  test('any other leader type elects by age', () => {
    assert.deepEqual(shown(withService('whatever').write(instance('1'))), ['up 1', 'leader 1'])
  })
})

test('a subscriber is shown instances by age, then leader, then metadata', () => {
  const h = withService()
  for (const id of ['2', '1']) h.write(instance(id))
  h.write({ [metaKey('a')]: { data: null } })
  const a = h.state.services.get('a')
  assert.ok(a)
  assert.deepEqual(shown(replay(a)), ['up 2', 'up 1', 'leader 2', `service_meta ${h.revision}`])
})

/** Small seeded generator (mulberry32): the same seed replays the same history. */
function random(seed: number): (n: number) => number {
  let a = seed
  return n => {
    a = (a + 0x6d2b79f5) | 0
    let t = Math.imul(a ^ (a >>> 15), 1 | a)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % n
  }
}

function step(h: History, pick: (n: number) => number): void {
  const id = String(pick(4))
  switch (pick(7)) {
    case 0:
      h.write(service(pick(2) === 0 ? 'manual' : 'oldest'))
      break
    case 1:
    case 2:
      h.write(instance(id, pick(2) === 0 ? { v: String(pick(3)) } : undefined), String(pick(2)))
      break
    case 3:
      if (h.keys.has(instanceKey('a', id))) h.delete(instanceKey('a', id))
      break
    case 4:
      h.write({ [metaKey('a')]: { data: pick(5) } })
      break
    case 5:
      h.write({ [leaderKey('a')]: { id, among: [pick(4), pick(h.revision + 1)] } })
      break
    case 6:
      if (pick(6) === 0 && h.keys.size > 0) h.delete(...h.keys.keys())
  }
}

/** What somebody who only sees events believes. */
function believe(events: readonly DiscoverdEvent[], view: Map<string, string>): void {
  for (const { kind, instance: i } of events)
    if (kind === 'down') view.delete(i?.id ?? '')
    else if (kind === 'up' || kind === 'update') view.set(i?.id ?? '', JSON.stringify(i))
}

test('history, listing and difference of states agree for random histories', () => {
  const seed = Number(process.env['SEED'] ?? Date.now() % 1e9)
  for (let round = 0; round < 50; round++) {
    const pick = random(seed + round)
    const h = new History()
    let marked: State = emptyState
    const view = new Map<string, string>()
    for (let n = 0; n < 60; n++) {
      step(h, pick)
      const listed = fromListing([...h.keys.values()], h.revision)
      assert.deepEqual([...listed.services], [...h.state.services], `SEED=${seed + round} step ${n}`)
      if (pick(5) > 0) continue
      believe(diffStates(marked, h.state), view)
      marked = h.state
      const a = h.state.services.get('a')
      const truth = new Map<string, string>()
      believe(a ? replay(a) : [], truth)
      assert.deepEqual([...view].sort(), [...truth].sort(), `SEED=${seed + round} step ${n}`)
    }
  }
})
