import assert from 'node:assert/strict'
import { test } from 'node:test'
import { added, leftBehind, type Snapshot } from './leftovers.ts'

const empty: Snapshot = {
  processes: [],
  mounts: [],
  loops: [],
  namespaces: [],
  cgroups: [],
  links: [],
  tables: [],
}

test('what was there before is not counted, a second one of the same name is', () => {
  assert.deepEqual(added(['/', '/mnt'], ['/', '/mnt', '/mnt', '/new']), ['/mnt', '/new'])
  assert.deepEqual(added(['/', '/mnt'], ['/']), [])
})

test('what goes away by itself is not left behind', async () => {
  let looks = 0
  const look = async () => ({ ...empty, loops: looks++ === 0 ? ['/dev/loop0 /a'] : ['/dev/loop1 /b'] })
  assert.deepEqual(await leftBehind(empty, look, 100), [])
  assert.equal(looks, 2)
})

test('what stays is named with its kind', async () => {
  const look = async () => ({ ...empty, links: ['fh-1'], tables: ['table inet x'] })
  assert.deepEqual(await leftBehind(empty, look, 50), ['links: fh-1', 'tables: table inet x'])
})
