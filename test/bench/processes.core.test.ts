import assert from 'node:assert/strict'
import { test } from 'node:test'
import { ownerOf, parseCgroupCpu, parseCpuTicks, parseMemory, shortName } from './processes.core.ts'

test('memory is read in bytes', () => {
  const text =
    '00400000-7fff rw-p 00000000 00:00 0 [rollup]\nRss:     2048 kB\nPss:      1024 kB\nPss_Anon:   512 kB\n'
  assert.deepEqual(parseMemory(text), { rssBytes: 2 ** 21, pssBytes: 2 ** 20, anonymousBytes: 2 ** 19 })
})

test('a kernel thread has no memory', () => {
  assert.equal(parseMemory(''), undefined)
})

test('processor time is that of the process alone, whatever it is called', () => {
  assert.equal(parseCpuTicks('12 (a ) b) S 1 12 12 0 -1 4194560 5 0 0 0 100 20 3 4 20 0 1 0'), 120)
})

test('a process belongs to the job of its cgroup', () => {
  const cgroup = '4:memory:/flynn-hosts/x/h1/flynn/system/h1-abc\n'
  assert.deepEqual(ownerOf(cgroup, ['node'], new Map()), {
    kind: 'job',
    partition: 'system',
    jobId: 'h1-abc',
  })
})

test('a shim belongs to the job that it keeps', () => {
  const argv = [
    '/usr/bin/containerd-shim-runc-v2',
    '-namespace',
    'flynn',
    '-id',
    'h1-abc',
    '-address',
    '/run/x',
  ]
  const owner = ownerOf('4:memory:/flynn-hosts/x/h1\n', argv, new Map([['h1-abc', 'user']]))
  assert.deepEqual(owner, { kind: 'job', partition: 'user', jobId: 'h1-abc' })
})

test('everything else is the host itself', () => {
  assert.deepEqual(ownerOf('4:memory:/flynn-hosts/x/h1\n', ['zfs-fuse'], new Map()), { kind: 'host' })
})

test('names are short and tell processes apart', () => {
  assert.equal(shortName(['/usr/bin/node', '--flag=1', '/bin/flynn-status.mjs']), 'node flynn-status.mjs')
  assert.equal(shortName(['/usr/bin/python3', '/usr/bin/patroni', '/data/patroni.yml']), 'python3 patroni')
  assert.equal(shortName(['postgres: postgres: walwriter ']), 'postgres workers')
  assert.equal(shortName(['postgres: postgres: u d 10.0.0.1(4) idle']), 'postgres backends')
  assert.equal(shortName(['containerd', '--config', 'x']), 'containerd')
})

test('processor time of a cgroup is read in nanoseconds from either version', () => {
  assert.equal(parseCgroupCpu('123456789\n'), 123456789)
  assert.equal(parseCgroupCpu('usage_usec 5000\nuser_usec 4000\n'), 5_000_000)
})
