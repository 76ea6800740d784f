import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { ClusterHost, HostClient } from '../client.ts'
import type { ActiveJob } from '../types.ts'
import { type Command, type Context, parseCommand, UsageError } from './command.ts'
import { commands, errorLine, runCommandLine } from './commands.ts'
import { inspectRows } from './inspect.ts'
import { raftStatus } from './list.ts'
import { formatJob, jobTable } from './ps.ts'
import { mountspecsOf, parseLimits, runCommand } from './run.ts'
import { volumesInUse } from './volume.ts'

const job = (id: string, more: Partial<ActiveJob> = {}): ActiveJob => ({
  job: { id, config: { args: ['sh', '-c', 'x'], env: { A: 'b', KEY: 'secret' } }, mountspecs: [] },
  host_id: 'h1',
  created_at: '2026-01-01T00:00:00.000Z',
  started_at: '0001-01-01T00:00:00Z',
  ended_at: '0001-01-01T00:00:00Z',
  ...more,
})

/** A host that answers from memory: only what the commands under test ask for. */
function fakeHost(jobs: readonly ActiveJob[], calls: string[] = []): ClusterHost {
  const client = {
    jobs: async () => Object.fromEntries(jobs.map(j => [j.job.id, j])),
    stopJob: async (id: string) => {
      calls.push(`stop ${id}`)
    },
    setTags: async (tags: Record<string, string>) => {
      calls.push(`tags ${JSON.stringify(tags)}`)
    },
  }
  const tags = { disk: 'ssd', zone: 'a' }
  return {
    id: 'h1',
    addr: '10.0.0.1:1113',
    tags,
    shutdown: false,
    draining: false,
    client: client as unknown as HostClient,
  }
}

async function run(argv: readonly string[], hosts: readonly ClusterHost[] = []) {
  const out: string[] = []
  const err: string[] = []
  const context: Context = {
    stdout: { write: text => out.push(text) },
    stderr: { write: text => err.push(text) },
    env: {},
    authKey: () => 'key',
    hosts: async () => hosts,
  }
  const code = await runCommandLine(argv, context)
  return { code, stdout: out.join(''), stderr: err.join('') }
}

test('help is asked for with exit code 0, no command is an error', async () => {
  for (const argv of [['help'], ['-h'], ['--help']]) {
    const { code, stdout } = await run(argv)
    assert.equal(code, 0)
    assert.match(stdout, /^usage: flynn-host \[-h\|--help\] \[--version\] <command>/)
  }
  assert.equal((await run([])).code, 1)
})

test('an unknown command is said on stdout with the usage, exit code 1', async () => {
  const { code, stdout } = await run(['fly'])
  assert.equal(code, 1)
  assert.match(stdout, /^ERROR: "fly" is not a valid command\n\nusage: /)
})

test('wrong arguments print the usage of the command on stdout, exit code 1', async () => {
  for (const argv of [
    ['ps', '--nonsense'],
    ['inspect'],
    ['signal', 'h1-a', 'TERM'],
    ['volume', 'frobnicate'],
  ]) {
    const { code, stdout, stderr } = await run(argv, [fakeHost([])])
    assert.equal(code, 1, argv.join(' '))
    assert.match(stdout, new RegExp(`usage: flynn-host ${argv[0]}`))
    assert.equal(stderr, '')
  }
})

test('a cluster of two hosts is refused with the reason, before anything is looked at', async () => {
  const { code, stderr } = await run(['bootstrap', '--min-hosts', '2', '--peer-ips', '192.0.2.1,192.0.2.2'])
  assert.equal(code, 1)
  assert.match(stderr, /2 hosts cannot survive the loss of either: consensus needs a majority .*3 and more/)
  assert.match((await run(['bootstrap', '--peer-ips', '192.0.2.1,192.0.2.2'])).stderr, /needs a majority/)
})

test('every command has a usage with an example, and prints it for help', async () => {
  for (const command of commands) {
    const { code, stdout } = await run(['help', command.name])
    assert.equal(code, 0)
    assert.match(stdout, new RegExp(`usage: flynn-host ${command.name}`))
    assert.match(stdout, /Examples?:/)
    assert.deepEqual((await run([command.name, '--help'])).stdout, stdout)
  }
})

test('an error of a command is one line on stderr', () => {
  const line = errorLine('ps', new Error('no\n  hosts'), new Date('2026-01-01T12:34:56.789Z'))
  assert.equal(line, '12:34:56.789000 ps: no hosts\n')
})

test('ps shows running jobs, newest first; -a all; -q ids', async () => {
  const jobs = [
    job('h1-old', { status: 1, created_at: '2026-01-01T00:00:00.000Z' }),
    job('h1-new', { status: 1, created_at: '2026-01-02T00:00:00.000Z' }),
    job('h1-done', { status: 2 }),
  ]
  assert.equal((await run(['ps', '-q'], [fakeHost(jobs)])).stdout, 'h1-new\nh1-old\n')
  assert.match((await run(['ps', '--all'], [fakeHost(jobs)])).stdout, /h1-done {2,}done/)
})

test('the job table has the original columns', () => {
  const j = job('h1-a', {
    status: 4,
    error: 'why',
    created_at: '2026-01-01T00:00:00.000Z',
    job: {
      id: 'h1-a',
      config: {},
      metadata: { 'flynn-controller.app_name': 'web', 'flynn-controller.type': 'app' },
    },
  })
  assert.equal(
    jobTable([j], Date.parse('2026-01-01T00:00:30.000Z')),
    'ID    STATE   CREATED         CONTROLLER APP  CONTROLLER TYPE  ERROR\n' +
      'h1-a  failed  30 seconds ago  web             app              why\n',
  )
})

test('a template shows fields and metadata of a job', () => {
  const j = job('h1-a', { status: 1, job: { id: 'h1-a', config: {}, metadata: { k: 'v' } } })
  assert.equal(formatJob('{{.Job.ID}} {{ metadata "k" }} {{.Status}}', j), 'h1-a v running')
  assert.throws(() => formatJob('{{.Nope}}', j), UsageError)
})

test('inspect hides what it is told to hide', () => {
  const rows = (options: { omitEnv: boolean; redact: string[] }) =>
    inspectRows(job('h1-a', { status: 1 }), options)
  assert.deepEqual(rows({ omitEnv: false, redact: ['KEY'] }).slice(-2), [
    ['ENV[A]', 'b'],
    ['ENV[KEY]', 'XXXREDACTEDXXX'],
  ])
  assert.deepEqual(rows({ omitEnv: true, redact: [] }).at(-1), ['IP Address', ''])
})

test('stop says what it stopped, and fails when one could not be', async () => {
  const calls: string[] = []
  const good = await run(['stop', 'h1-a', 'h1-b'], [fakeHost([], calls)])
  assert.deepEqual([good.code, good.stdout], [0, 'h1-a stopped\nh1-b stopped\n'])
  const mixed = await run(['stop', 'h2-a', 'h1-a'], [fakeHost([], calls)])
  assert.equal(mixed.code, 1)
  assert.match(mixed.stdout, /^could not stop job h2-a: cluster: unknown host "h2".*\nh1-a stopped\n$/)
})

test('tags are shown, set and removed', async () => {
  const calls: string[] = []
  assert.equal((await run(['tags'], [fakeHost([])])).stdout, 'HOST  TAGS\nh1    disk=ssd zone=a\n')
  await run(['tags', 'set', 'h1', 'a=b', 'c'], [fakeHost([], calls)])
  await run(['tags', 'del', 'h1', 'a'], [fakeHost([], calls)])
  assert.deepEqual(calls, ['tags {"a":"b"}', 'tags {"c":"true"}', 'tags {"a":""}'])
})

test('hosts are proxies, peers or the leader', () => {
  const peers = ['10.0.0.1:1111', '10.0.0.2:1111']
  assert.equal(raftStatus('10.0.0.1', peers, '10.0.0.1:1111'), 'peer (leader)')
  assert.equal(raftStatus('10.0.0.2', peers, '10.0.0.1:1111'), 'peer')
  assert.equal(raftStatus('10.0.0.3', peers, undefined), 'proxy')
  assert.equal(raftStatus('10.0.0.1', undefined, undefined), '')
})

test('run leaves everything behind the artifact to the job', () => {
  const parsed = parseCommand(runCommand, ['--hostnet', 'file', 'ls', '-l', '--host', 'x'])
  assert.notEqual(parsed, 'help')
  if (parsed === 'help') return
  assert.deepEqual(parsed.rest, ['file', 'ls', '-l', '--host', 'x'])
  assert.equal(parsed.flags['hostnet'], true)
  const split = parseCommand(runCommand, ['--', 'file', '--', 'ls'])
  assert.deepEqual(split !== 'help' && split.rest, ['file', '--', 'ls'])
})

test('limits have binary multiples for bytes and decimal ones for the rest', () => {
  const limits = parseLimits(['memory=1g', 'cpu=2k', 'temp_disk=10MB', 'max_fd=5'])
  assert.deepEqual(
    [limits['memory']?.limit, limits['cpu']?.limit, limits['temp_disk']?.limit, limits['max_fd']],
    [1024 ** 3, 2000, 10 * 1024 ** 2, { request: 5, limit: 5 }],
  )
  for (const bad of ['memory', 'memory=x', 'speed=1']) assert.throws(() => parseLimits([bad]), UsageError)
})

test('the layers of an artifact become mountspecs with their URLs', () => {
  const layers = [{ id: 'abc', length: 5, hashes: { sha512_256: 'abc' } }]
  const artifact = { layer_url_template: 'file:///c/{id}.squashfs', manifest: { rootfs: [{ layers }] } }
  assert.deepEqual(mountspecsOf(artifact), [
    { type: 'squashfs', id: 'abc', size: 5, hashes: { sha512_256: 'abc' }, url: 'file:///c/abc.squashfs' },
  ])
})

test('volumes of jobs that run are in use, those of ended jobs are not', () => {
  const volumes = (v: string) => [{ target: '/d', volume: v }]
  const running = job('h1-a', { status: 1, job: { id: 'h1-a', config: { volumes: volumes('v1') } } })
  const ended = job('h1-b', { status: 2, job: { id: 'h1-b', config: { volumes: volumes('v2') } } })
  assert.deepEqual([...volumesInUse([running, ended])], ['h1-a', 'v1'])
})

test('options of a command are refused when they are not its own', () => {
  const command: Command = {
    name: 'x',
    usage: '',
    options: { a: { type: 'string' } },
    positionals: { min: 0, max: 1 },
    run: async () => 0,
  }
  assert.throws(() => parseCommand(command, ['--b']), UsageError)
  assert.throws(() => parseCommand(command, ['1', '2']), /unexpected argument 2/)
  assert.equal(parseCommand(command, ['-h']), 'help')
})

test('acme refuses options that say two things, or nothing, before it looks for the controller', async () => {
  for (const argv of [
    ['acme', 'configure'],
    ['acme', 'configure', '--staging', '--production'],
    ['acme', 'enable', '--staging'],
    ['acme', 'sing'],
  ]) {
    const { code, stdout } = await run(argv)
    assert.equal(code, 1, argv.join(' '))
    assert.match(stdout, /usage: flynn-host acme/)
  }
  const { code, stderr } = await run(['acme', 'status'], [fakeHost([])])
  assert.equal(code, 1)
  assert.match(stderr, /acme: no controller job runs/)
})
