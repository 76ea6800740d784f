import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Reach } from '../../pkg/net/reach.ts'
import { deadHosts, type Silences, stepSilences } from './dead-hosts.core.ts'

const after = (...rounds: Readonly<Record<string, Reach>>[]): readonly string[] =>
  deadHosts(rounds.reduce<Silences>((s, round) => stepSilences(s, new Map(Object.entries(round))), new Map()))

test('a host is dead after two silences in a row, and alive with its first answer', () => {
  assert.deepEqual(after({ a: 'silent' }), [])
  assert.deepEqual(after({ a: 'silent' }, { a: 'silent' }), ['a'])
  assert.deepEqual(after({ a: 'silent' }, { a: 'refused' }, { a: 'silent' }), [])
  assert.deepEqual(after({ a: 'silent' }, { a: 'silent' }, { a: 'silent' }, { a: 'open' }), [])
})

test('a host that came back to discoverd begins anew', () => {
  assert.deepEqual(after({ a: 'silent', b: 'silent' }, { b: 'silent' }, { a: 'silent', b: 'silent' }), ['b'])
})
