import assert from 'node:assert/strict'
import { test } from 'node:test'
import { bootArguments, layoutOf, procsFiles } from './cgroups.ts'

const hybrid = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
37 31 0:34 / /sys/fs/cgroup/freezer rw,relatime - cgroup cgroup rw,freezer
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
`
const pure = `31 23 0:28 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate,memory_recursiveprot
`

test('a hybrid machine is used by its version 1 hierarchies, named ones included', () => {
  assert.deepEqual(bootArguments(layoutOf(hybrid)), [
    '3',
    'cpu,cpuacct=cpu,cpuacct',
    'freezer=freezer',
    'systemd=none,name=systemd',
  ])
})

test('a process joins a group in every version 1 hierarchy', () => {
  assert.deepEqual(procsFiles(layoutOf(hybrid), 'flynn-hosts/a/h1').slice(0, 2), [
    '/sys/fs/cgroup/cpu,cpuacct/flynn-hosts/a/h1/cgroup.procs',
    '/sys/fs/cgroup/freezer/flynn-hosts/a/h1/cgroup.procs',
  ])
})

test('on a pure version 2 machine a process joins a leaf of the host', () => {
  const layout = layoutOf(pure)
  assert.deepEqual(bootArguments(layout), ['1', 'v2'])
  assert.deepEqual(procsFiles(layout, 'flynn-hosts/a/h1'), [
    '/sys/fs/cgroup/flynn-hosts/a/h1/init/cgroup.procs',
  ])
})

test('a machine without cgroups is named as such', () => {
  assert.throws(() => layoutOf('27 1 254:0 / / rw - ext4 /dev/vda rw\n'), /no cgroup/)
})
