// When certificates are ordered, renewed and tried again.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  drawn,
  dueNow,
  ordersAtOnceMax,
  ordersPerHourMax,
  renewalAt,
  retryAt,
  retryMaxMs,
  retryMinMs,
} from './certificates.core.ts'

const dayMs = 24 * 60 * 60_000
const ids = Array.from({ length: 1_000 }, (_, n) => `00000000-0000-4000-8000-${String(n).padStart(12, '0')}`)

test('renewals of certificates that began together are spread over a week, all a month before the end', () => {
  const days = ids.map(id => renewalAt(id, 0, 90 * dayMs) / dayMs)
  assert.ok(Math.min(...days) >= 52.5 && Math.max(...days) <= 60)
  const byDay = new Map<number, number>()
  for (const day of days) byDay.set(Math.floor(day), (byDay.get(Math.floor(day)) ?? 0) + 1)
  for (const [day, count] of byDay) assert.ok(count < 250, `${count} on day ${day}`)
  assert.equal(renewalAt(ids[0] ?? '', 0, 90 * dayMs), renewalAt(ids[0] ?? '', 0, 90 * dayMs))
})

test('a certificate of six days is renewed while two are left', () => {
  for (const id of ids) assert.ok(renewalAt(id, 0, 6 * dayMs) <= 4 * dayMs)
})

test('draws are spread', () => {
  const low = ids.filter(id => drawn(id) < 0.5).length
  assert.ok(low > 400 && low < 600, String(low))
})

test('failures are tried again ever more slowly, at most four times in the first hour, once a day in the end', () => {
  let [now, tries] = [0, 0]
  for (let attempt = 1; now < 60 * 60_000; attempt++) {
    tries++
    now = retryAt('one', attempt, now, undefined)
  }
  assert.ok(tries <= 4, String(tries))
  assert.ok(retryAt('one', 1, 0, undefined) >= retryMinMs)
  assert.ok(retryAt('one', 40, 0, undefined) <= retryMaxMs * 1.25)
})

test('an authority that says when to come again is heard', () => {
  assert.equal(retryAt('one', 1, 1_000, 3 * dayMs), 1_000 + 3 * dayMs)
})

test('the longest due come first, a few at once, and no more in an hour than an authority takes', () => {
  const waiting = ids.map((id, n) => ({ id, nextMs: 1_000 - n, triedMs: undefined }))
  assert.deepEqual(dueNow(waiting, 1_000), ids.slice(-ordersAtOnceMax).reverse())
  const later = waiting.map(w => ({ ...w, nextMs: 2_000 }))
  assert.deepEqual(dueNow(later, 1_000), [])
  const tried = (count: number) =>
    waiting.map((w, n) => (n < count ? { ...w, nextMs: dayMs, triedMs: 500 } : w))
  assert.equal(dueNow(tried(ordersPerHourMax - 1), 1_000).length, 1)
  assert.equal(dueNow(tried(ordersPerHourMax), 1_000).length, 0)
  assert.equal(dueNow(tried(ordersPerHourMax), 500 + 60 * 60_000).length, ordersAtOnceMax)
})
