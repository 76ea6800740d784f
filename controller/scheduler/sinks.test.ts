import assert from 'node:assert/strict'
import { test } from 'node:test'
import { planSinks } from './sinks.core.ts'

const config = { url: 'syslog://x', use_ids: true }
const sink = { id: 'a', kind: 'syslog', config }

test('a host gets what it lacks and what changed, and loses what is gone', () => {
  assert.deepEqual(planSinks([sink], []), [{ kind: 'put', sink }])
  const other = { ...sink, config: { url: 'syslog://y' } }
  assert.deepEqual(planSinks([sink], [other]), [{ kind: 'put', sink }])
  assert.deepEqual(planSinks([], [sink]), [{ kind: 'remove', id: 'a' }])
})

test('what is as wanted stays, also with its keys in another order, and so do sinks of the host itself', () => {
  const turned = { ...sink, config: { use_ids: true, url: 'syslog://x' } }
  const own = { id: '10.0.0.1:514', kind: 'logaggregator', host_managed: true, config: { addr: 'x' } }
  assert.deepEqual(planSinks([sink], [turned, own]), [])
})
