import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMountinfo } from './mount.ts'

const recorded = `22 27 0:21 / /proc rw,relatime - proc proc rw
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
36 29 7:0 / /var/lib/flynn/layers/ab ro,noatime shared:3 master:1 - squashfs /dev/loop0 ro,errors=continue
40 29 254:0 /data/a\\040b /mnt/a\\040b rw - ext4 /dev/vda rw
`

test('mountinfo lines give target, root, type, source and options', () => {
  const mounts = parseMountinfo(recorded)
  assert.equal(mounts.length, 4)
  assert.deepEqual(mounts[1], {
    target: '/sys/fs/cgroup/memory',
    root: '/',
    type: 'cgroup',
    source: 'cgroup',
    options: ['rw', 'relatime'],
    superOptions: ['rw', 'memory'],
  })
})

test('optional fields of mountinfo are skipped', () => {
  const layer = parseMountinfo(recorded)[2]
  assert.equal(layer?.type, 'squashfs')
  assert.equal(layer?.source, '/dev/loop0')
})

test('spaces in mountinfo paths are decoded', () => {
  const bind = parseMountinfo(recorded)[3]
  assert.equal(bind?.target, '/mnt/a b')
  assert.equal(bind?.root, '/data/a b')
})
