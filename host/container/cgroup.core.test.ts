import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseMountinfo } from '../../pkg/mount/mount.ts'
import { cpuWeight, findHierarchy, flatKey } from './cgroup.core.ts'

const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
const unified = '31 23 0:28 / /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate\n'

test('a hybrid machine has its controllers in version 1, also two in one tree', () => {
  assert.deepEqual(findHierarchy(parseMountinfo(hybrid), '/sys/fs/cgroup'), {
    version: 1,
    controllers: {
      cpu: '/sys/fs/cgroup/cpu,cpuacct',
      cpuacct: '/sys/fs/cgroup/cpu,cpuacct',
      memory: '/sys/fs/cgroup/memory',
    },
  })
})

test('version 2 at the root of cgroups is version 2', () => {
  assert.deepEqual(findHierarchy(parseMountinfo(unified), '/sys/fs/cgroup'), {
    version: 2,
    path: '/sys/fs/cgroup',
  })
})

test('a machine without cgroups has no hierarchy', () => {
  assert.equal(findHierarchy([], '/sys/fs/cgroup'), undefined)
})

test('values are read by their key', () => {
  assert.equal(flatKey('low 0\nhigh 0\noom 3\noom_kill 2\noom_group_kill 0\n', 'oom_kill'), 2)
  assert.equal(flatKey('oom_kill_disable 0\nunder_oom 0\noom_kill 1\n', 'oom_kill'), 1)
  assert.equal(flatKey('usage_usec 1234\n', 'nothing'), undefined)
})

test('shares become weights over the whole range of both', () => {
  assert.deepEqual([2, 768, 1024, 8192, 262144, 1, 1e9].map(cpuWeight), [1, 30, 39, 313, 10000, 1, 10000])
})
