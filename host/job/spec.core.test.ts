import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import type { ContainerConfig, Job, JobRequest } from '../types.ts'
import { containerSpec, environment, hostnameOf, limits, noProfile, withDefaults } from './spec.core.ts'
import { acceptJob } from './validate.core.ts'

const job = (config: ContainerConfig, more: Partial<Job> = {}): Job => ({
  id: 'h1-5a0f0c2e-0000-4000-8000-000000000000',
  config,
  ...more,
})
const context = {
  externalIp: '10.0.0.1',
  listenIp: '',
  discoverd: 'http://10.0.0.1:1111',
  authKey: 'secret',
  address: '100.100.1.2',
  layers: ['/layers/a'],
  volumePaths: { v1: '/vol/v1' },
  profiles: noProfile,
}

test('ports without a number are counted up from 5000 and named in the environment', () => {
  const { config } = withDefaults(job({ ports: [{ proto: 'tcp' }, { port: 80 }, {}] }))
  assert.deepEqual(
    config.ports?.map(p => [p.port, p.proto]),
    [
      [5000, 'tcp'],
      [80, 'tcp'],
      [5002, 'tcp'],
    ],
  )
  assert.deepEqual(config.env, { PORT: '5000', PORT_0: '5000', PORT_1: '80', PORT_2: '5002' })
})

test('the job overrides the host in the environment, except for its address and name', () => {
  const env = environment(
    job({ env: { PATH: '/x', DISCOVERD: 'none', EXTERNAL_IP: '1.1.1.1', HOSTNAME: 'me' } }),
    context,
  )
  assert.deepEqual(env, {
    PATH: '/x',
    TERM: 'xterm',
    HOME: '/',
    LISTEN_IP: '',
    DISCOVERD: 'none',
    EXTERNAL_IP: '100.100.1.2',
    HOSTNAME: '5a0f0c2e-0000-4000-8000-000000000000',
  })
})

test('jobs with the network of the host have its address, system jobs have its key, others do not', () => {
  const env = environment(job({}, { partition: 'system' }), { ...context, address: undefined })
  assert.equal(env['EXTERNAL_IP'], '10.0.0.1')
  assert.equal(env['FLYNN_HOST_AUTH_KEY'], 'secret')
  assert.equal(environment(job({}), context)['FLYNN_HOST_AUTH_KEY'], undefined)
})

test('a host name is what follows the first dash, at most 64 characters', () => {
  assert.equal(hostnameOf('host1-a-b'), 'a-b')
  assert.equal(hostnameOf('nodash'), 'nodash')
  assert.equal(hostnameOf(`h-${'x'.repeat(70)}`).length, 64)
})

test('limits have the defaults of the platform', () => {
  assert.deepEqual(limits(job({})), { memoryBytes: 1024 ** 3, tempDiskBytes: 100 * 1024 ** 2 })
  const resources = {
    memory: { limit: 1 },
    cpu: { limit: 750 },
    max_fd: { request: 10, limit: 20 },
    max_procs: { limit: 5 },
  }
  assert.deepEqual(limits(job({}, { resources })), {
    memoryBytes: 1,
    cpuMilli: 750,
    processes: 5,
    openFiles: { soft: 10, hard: 20 },
    tempDiskBytes: 100 * 1024 ** 2,
  })
})

test('mounts and volumes become binds; what is missing is refused', () => {
  const config = {
    mounts: [{ location: '/m', target: '/src', writeable: true }],
    volumes: [{ target: '/data', volume: 'v1', writeable: true }],
  }
  assert.deepEqual(containerSpec(job(config), context).mounts, [
    { source: '/src', target: '/m', writeable: true },
    { source: '/vol/v1', target: '/data', writeable: true },
  ])
  assert.throws(
    () => containerSpec(job({ mounts: [{ location: '/m' }] }), context),
    /invalid empty mount target/,
  )
  assert.throws(
    () => containerSpec(job({ volumes: [{ target: '/d', volume: 'gone' }] }), context),
    /volume gone does not exist/,
  )
})

test('capabilities: absent means the defaults, empty means none, the host network adds NET_ADMIN', () => {
  const caps = (config: ContainerConfig) => containerSpec(job(config), context).capabilities
  assert.equal(caps({}).length, 15)
  assert.deepEqual(caps({ linux_capabilities: [] }), [])
  assert.ok(caps({ host_network: true }).includes('CAP_NET_ADMIN'))
})

test('user jobs get no new privileges and a seccomp profile; builders get neither', () => {
  const spec = containerSpec(job({}, { partition: 'user' }), context)
  assert.deepEqual([spec.noNewPrivileges, spec.seccomp, spec.init], [true, true, true])
  const builder = job(
    { linux_capabilities: ['CAP_SYS_ADMIN'], args: ['/usr/bin/tini', 'x'] },
    { partition: 'user' },
  )
  const free = containerSpec(builder, context)
  assert.deepEqual([free.noNewPrivileges, free.seccomp, free.init], [false, false, false])
})

const layer = { type: 'squashfs', id: 'l' }

test('a request without layers, with a bad id, protocol or volume is refused', () => {
  const code = (id: string, body: JobRequest) => {
    try {
      acceptJob(id, body)
      return 'accepted'
    } catch (e) {
      return isFlynnError(e) ? `${e.status} ${e.message.split(' ')[0]}` : e
    }
  }
  const layers = { mountspecs: [layer] }
  assert.equal(code('h1-a', layers), 'accepted')
  assert.equal(code('h1-a', {}), '400 mountspecs')
  for (const id of ['../x', 'a/b', '-a', 'a-', 'x'.repeat(77), '']) assert.equal(code(id, layers), '400 id')
  assert.equal(
    code('h1-a', { ...layers, config: { ports: [{ proto: 'icmp' }] } }),
    '400 config.ports.0.proto',
  )
  const volumes = [{ target: 'data', volume: 'v' }]
  assert.equal(code('h1-a', { ...layers, config: { volumes } }), '400 config.volumes.0.target')
})

test("only system jobs may have the host's network, processes or cgroups", () => {
  for (const config of [{ host_network: true }, { host_pid_namespace: true }, { writeable_cgroups: true }]) {
    assert.throws(() => acceptJob('h1-a', { mountspecs: [layer], config }), /partition system only/)
    assert.ok(acceptJob('h1-a', { mountspecs: [layer], config, partition: 'system' }))
    assert.ok(acceptJob('h1-a', { mountspecs: [layer], config, metadata: { 'flynn-system-app': 'true' } }))
  }
})

test('the id of the body counts, the id of the URL when there is none', () => {
  assert.equal(acceptJob('h1-a', { id: 'h1-b', mountspecs: [layer] }).id, 'h1-b')
  assert.equal(acceptJob('h1-a', { mountspecs: [layer] }).id, 'h1-a')
})
