import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seccompProfile } from './seccomp.core.ts'
import { cpuShares, type Machine, ociSpec } from './spec.core.ts'
import type { ContainerSpec } from './types.ts'

const machine: Machine = {
  arch: 'x64',
  openFilesMax: 20_000,
  limitsSwap: true,
  initProgram: '/usr/bin/tini-static',
}
const job: ContainerSpec = {
  id: 'h1-a',
  args: ['web', '--port', '5000'],
  env: { PATH: '/bin', A: '1=2' },
  cwd: '/app',
  uid: 0,
  gid: 0,
  hostname: 'a',
  partition: 'user',
  tty: false,
  stdin: false,
  layers: ['/layers/x'],
  mounts: [],
  hostNetwork: false,
  hostPidNamespace: false,
  limits: { tempDiskBytes: 0 },
  capabilities: ['CAP_CHOWN', 'CAP_NET_BIND_SERVICE'],
  allowedDevices: [{ type: 'c', major: 136, minor: -1, permissions: 'rwm' }],
  createdDevices: [],
  writeableCgroups: false,
  noNewPrivileges: true,
  seccomp: true,
}

function build(changes: Partial<ContainerSpec> = {}, on: Partial<Machine> = {}) {
  const context = { machine: { ...machine, ...on }, cgroupRoot: '/flynn', resolvConf: '/job/resolv.conf' }
  return ociSpec({ ...job, ...changes }, context)
}

test('a job without wishes gets the default limits', () => {
  const { linux, process } = build()
  assert.deepEqual(linux.resources.memory, { limit: 1024 ** 3, swap: 1024 ** 3 })
  assert.equal(linux.resources.cpu, undefined)
  assert.equal(linux.cgroupsPath, '/flynn/user/h1-a')
  assert.deepEqual(process.rlimits, [{ type: 'RLIMIT_NOFILE', soft: 10_000, hard: 10_000 }])
})

test('memory and swap are limited together only where the kernel can', () => {
  const limits = { tempDiskBytes: 0, memoryBytes: 2 ** 28 }
  assert.deepEqual(build({ limits }, { limitsSwap: false }).linux.resources.memory, { limit: 2 ** 28 })
})

test('cpu becomes a relative weight and never less than two shares', () => {
  assert.deepEqual([cpuShares(750), cpuShares(1000), cpuShares(1)], [768, 1024, 2])
})

test('more open files than the machine gives are cut, and the soft limit with them', () => {
  const limits = { tempDiskBytes: 0, openFiles: { soft: 30_000, hard: 50_000 } }
  assert.deepEqual(build({ limits }).process.rlimits[0], {
    type: 'RLIMIT_NOFILE',
    soft: 20_000,
    hard: 20_000,
  })
})

test('the environment names the host, unless the job does', () => {
  assert.ok(build().process.env.includes('HOSTNAME=a'))
  assert.ok(build().process.env.includes('A=1=2'))
  assert.ok(build({ env: { HOSTNAME: 'b' } }).process.env.includes('HOSTNAME=b'))
})

test('namespaces are private but for what is shared with the host', () => {
  const types = (changes: Partial<ContainerSpec>) => build(changes).linux.namespaces.map(n => n.type)
  assert.deepEqual(types({}), ['mount', 'uts', 'ipc', 'cgroup', 'pid', 'network'])
  assert.deepEqual(types({ hostNetwork: true, hostPidNamespace: true }), ['mount', 'uts', 'ipc', 'cgroup'])
  assert.equal(build({ hostNetwork: true }).hostname, undefined)
})

test('every device is denied before any is allowed, and wildcards have no number', () => {
  const rules = build().linux.resources.devices
  assert.deepEqual(rules[0], { allow: false, access: 'rwm' })
  assert.deepEqual(rules[1], { allow: true, type: 'c', major: 136, access: 'rwm' })
})

test('root holds its capabilities, another user only the harmless ones', () => {
  assert.deepEqual(build().process.capabilities.ambient, [])
  const user = build({ uid: 1000 }).process.capabilities
  assert.deepEqual(user.ambient, ['CAP_NET_BIND_SERVICE'])
  assert.deepEqual(user.bounding, job.capabilities)
})

test('binds are private, without set-uid programs and devices, and read-only unless writeable', () => {
  const mounts = build({
    mounts: [
      { source: '/v/data', target: '/data', writeable: true },
      { source: '/dev/zvol', target: '/dev/zvol', writeable: false },
    ],
  }).mounts
  assert.deepEqual(mounts.find(m => m.destination === '/data')?.options, [
    'rbind',
    'rprivate',
    'rw',
    'nosuid',
    'nodev',
  ])
  assert.deepEqual(mounts.find(m => m.destination === '/dev/zvol')?.options, ['rbind', 'rprivate', 'ro'])
})

test('a mount with a device keeps its flags and data', () => {
  const mounts = build({
    mounts: [
      {
        source: 'none',
        target: '/t',
        writeable: true,
        device: 'tmpfs',
        flags: 1 | 8,
        data: 'size=1m,mode=700',
      },
    ],
  }).mounts
  const found = mounts.find(m => m.destination === '/t')
  assert.deepEqual(found, {
    destination: '/t',
    type: 'tmpfs',
    source: 'none',
    options: ['ro', 'noexec', 'size=1m', 'mode=700'],
  })
})

test('resolv.conf is bound once, and the one that the job brings wins', () => {
  const sources = (mounts: ContainerSpec['mounts']) =>
    build({ mounts })
      .mounts.filter(m => m.destination === '/etc/resolv.conf')
      .map(m => m.source)
  assert.deepEqual(sources([]), ['/job/resolv.conf'])
  assert.deepEqual(sources([{ source: '/own', target: '/etc/resolv.conf', writeable: false }]), ['/own'])
})

test('an init is put before the command when asked', () => {
  const spec = build({ init: true })
  assert.deepEqual(spec.process.args, ['/.containerinit', '--', 'web', '--port', '5000'])
  assert.ok(spec.mounts.some(m => m.destination === '/.containerinit' && m.source === '/usr/bin/tini-static'))
  assert.deepEqual(build({ init: true, hostPidNamespace: true }).process.args.slice(0, 3), [
    '/.containerinit',
    '-s',
    '--',
  ])
})

test('a terminal has the size that was asked for', () => {
  const size = { rows: 24, columns: 80 }
  assert.deepEqual(build({ tty: true, size }).process.consoleSize, { height: 24, width: 80 })
  assert.equal(build({ size }).process.consoleSize, undefined)
})

test('calls that a capability guards come back with it', () => {
  const denied = (capabilities: readonly string[]) =>
    new Set(seccompProfile(capabilities, 'x64').syscalls.flatMap(rule => rule.names))
  for (const name of ['mount', 'ptrace', 'kexec_load', 'bpf', 'keyctl', 'init_module', 'clone3', 'unshare'])
    assert.ok(denied([]).has(name), name)
  const admin = denied(['CAP_SYS_ADMIN'])
  for (const name of ['mount', 'unshare', 'clone3']) assert.ok(!admin.has(name), name)
  assert.ok(admin.has('keyctl') && admin.has('ptrace'))
  assert.equal(build({ seccomp: false }).linux.seccomp, undefined)
})
