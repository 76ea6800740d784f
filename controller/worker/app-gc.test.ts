import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Release } from '../types.ts'
import { gcLimit, leftOverReleases } from './app-gc.core.ts'

function release(id: string, slug: string, git = true): Release {
  return { id, artifacts: ['image', slug], created_at: '', ...(git ? { meta: { git: 'true' } } : {}) }
}
const uris = new Map(['s1', 's2', 's3', 's4'].map(id => [id, `http://blobstore.discoverd/${id}`]))

test('beyond the newest slugs, inactive releases of a git push are left over', () => {
  const releases = [release('r4', 's4'), release('r3', 's3'), release('r2', 's2'), release('r1', 's1')]
  const left = leftOverReleases({ releases, active: new Set(['r4']), keep: 2, uris })
  assert.deepEqual(
    left.map(r => r.id),
    ['r1'],
  )
})

test('releases that share a kept slug stay, and so do those of no git push', () => {
  const releases = [release('r4', 's4'), release('r3', 's4'), release('r2', 's2', false), release('r1', 's4')]
  assert.deepEqual(leftOverReleases({ releases, active: new Set(), keep: 1, uris }), [])
})

test('the limit is a whole number, or false for none', () => {
  assert.equal(gcLimit('10'), 10)
  assert.equal(gcLimit('false'), undefined)
  assert.equal(gcLimit(undefined), undefined)
  assert.equal(gcLimit('many'), null)
})
