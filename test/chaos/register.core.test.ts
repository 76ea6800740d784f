import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '../../pkg/random/random.core.ts'
import { checkRegister, glimpsesFault, type Outcome, type RegisterOperation } from './register.core.ts'

type Span = readonly [calledAt: number, answeredAt: number]
const set = (span: Span, from: string, to: string, outcome: Outcome = 'ok'): RegisterOperation => ({
  ...{ client: 'c', calledAt: span[0], answeredAt: span[1], outcome, kind: 'set', from, to },
})
const read = (span: Span, value: string, outcome: Outcome = 'ok'): RegisterOperation => ({
  ...{ client: 'c', calledAt: span[0], answeredAt: span[1], outcome, kind: 'read', value },
})
const verdict = (...history: RegisterOperation[]) => checkRegister(history).type

test('a chain of writes one after the other is linearizable', () => {
  assert.equal(verdict(), 'linearizable')
  assert.equal(verdict(set([0, 1], '', 'a'), set([2, 3], 'a', 'b'), read([4, 5], 'b')), 'linearizable')
})

test('of two writes of the same value at once one may win, the other is refused', () => {
  assert.equal(verdict(set([0, 9], '', 'a'), set([0, 9], '', 'b', 'refused')), 'linearizable')
})

test('two winners over the same value are a lost write', () => {
  assert.equal(verdict(set([0, 9], '', 'a'), set([0, 9], '', 'b')), 'violation')
  assert.equal(
    verdict(set([0, 1], '', 'a'), set([2, 3], 'a', 'b'), set([2, 9], 'a', 'c'), read([10, 11], 'c')),
    'violation',
  )
})

test('an acknowledged write that is gone afterwards is a violation', () => {
  assert.equal(verdict(set([0, 1], '', 'a'), set([2, 3], 'a', 'b'), read([4, 5], 'a')), 'violation')
  assert.equal(verdict(set([0, 1], '', 'a'), read([2, 3], '')), 'violation')
})

test('a read while a write is under way may see either value, and never the older one after the newer', () => {
  const writes = [set([0, 1], '', 'a'), set([2, 10], 'a', 'b')]
  assert.equal(verdict(...writes, read([3, 4], 'a'), read([5, 6], 'b')), 'linearizable')
  assert.equal(verdict(...writes, read([3, 4], 'b'), read([5, 6], 'a')), 'violation')
})

test('a refusal although nobody else wrote is a violation', () => {
  assert.equal(verdict(set([0, 1], '', 'a'), set([2, 3], 'a', 'b', 'refused')), 'violation')
})

test('a write without an answer may have happened, later than it was sent, or never', () => {
  const lost = set([2, 3], 'a', 'b', 'unknown')
  assert.equal(verdict(set([0, 1], '', 'a'), lost, read([4, 5], 'b')), 'linearizable')
  assert.equal(verdict(set([0, 1], '', 'a'), lost, read([4, 5], 'a')), 'linearizable')
  assert.equal(verdict(set([0, 1], '', 'a'), lost, read([4, 5], 'a'), read([6, 7], 'b')), 'linearizable')
  assert.equal(verdict(set([0, 1], '', 'a'), lost, set([4, 5], 'a', 'c', 'refused')), 'linearizable')
})

test('a write without an answer never happened before it was sent, nor twice', () => {
  const lost = set([4, 5], 'a', 'b', 'unknown')
  assert.equal(verdict(set([0, 1], '', 'a'), read([2, 3], 'b'), lost), 'violation')
  assert.equal(
    verdict(set([0, 1], '', 'a'), lost, read([6, 7], 'b'), read([8, 9], 'a'), read([10, 11], 'b')),
    'violation',
  )
})

test('a read without an answer tells nothing', () => {
  assert.equal(verdict(set([0, 1], '', 'a'), read([2, 3], 'zzz', 'unknown')), 'linearizable')
})

test('a violation names the operations that fit nowhere', () => {
  const found = checkRegister([set([0, 1], '', 'a'), set([2, 3], 'a', 'b'), read([4, 5], 'a')])
  assert.equal(found.type, 'violation')
  assert.ok(found.type === 'violation')
  assert.equal(found.order.length, 2)
  assert.deepEqual(found.stuck, [read([4, 5], 'a')])
})

/** A real register with clients that overlap; each answer may get lost. */
function randomHistory(seed: number, length: number): RegisterOperation[] {
  const random = seededRandom([seed, 1, 2, 3])
  const history: RegisterOperation[] = []
  const known = ['', '', '', '']
  let state = ''
  for (let i = 0; i < length; i++) {
    const client = random.below(known.length)
    const at = i * 10
    const span: Span = [at - random.below(30), at + random.below(30)]
    if (random.below(3) === 0) known[client] = state
    const from = known[client] ?? ''
    const to = `v${i}`
    const lost = random.below(5) === 0
    const works = from === state && !(lost && random.below(2) === 0)
    history.push(set(span, from, to, lost ? 'unknown' : works ? 'ok' : 'refused'))
    if (works) state = to
    if (works && !lost) known[client] = to
  }
  history.push(read([length * 10 + 50, length * 10 + 60], state))
  return history
}

test('histories of a real register are linearizable, whatever the seed', () => {
  for (let seed = 0; seed < 40; seed++)
    assert.equal(checkRegister(randomHistory(seed, 300)).type, 'linearizable', `seed ${seed}`)
})

test('a real history of which one acknowledged write is forgotten is not', () => {
  for (let seed = 0; seed < 40; seed++) {
    const history = randomHistory(seed, 300)
    const won = history.filter(op => op.kind === 'set' && op.outcome === 'ok')
    const last = won.at(-1)
    assert.ok(last?.kind === 'set')
    const forgetful: RegisterOperation[] = [...history.slice(0, -1), read([3050, 3060], last.from)]
    assert.notEqual(checkRegister(forgetful).type, 'linearizable', `seed ${seed}`)
  }
})

test('what a daemon shows may stand still and never goes back', () => {
  const glimpse = (index: number, value: string) => ({ at: 0, index, value })
  assert.equal(glimpsesFault([glimpse(1, 'a'), glimpse(1, 'a'), glimpse(5, 'b')]), undefined)
  assert.match(glimpsesFault([glimpse(5, 'b'), glimpse(1, 'a')]) ?? '', /went back from index 5/)
  assert.match(glimpsesFault([glimpse(5, 'b'), glimpse(5, 'c')]) ?? '', /index 5 was b/)
})
