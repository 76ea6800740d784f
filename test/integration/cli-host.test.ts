// The installed CLI on a host with the whole platform: deploying a directory, logs, one-off jobs, databases (contract
// cli.md 8.6, 9, 10).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { poll } from '../../pkg/clock/clock.ts'
import type { ExecResult, TestHost } from '../cluster/types.ts'
import { bootFlynn, domain, type FlynnCluster, patienceMs } from '../fixtures/flynn-cluster.ts'

const commandTimeoutMs = 180_000
let cluster: FlynnCluster
let host: TestHost

before(async () => {
  cluster = await bootFlynn({ name: 'cli-host', hosts: 1 })
  host = cluster.machines.host(1)
  await ok('create', '--remote', '', 'hello')
  await writeApp(serving)
  await ok('-a', 'hello', 'deploy', '/srv/hello')
})
after(async () => {
  await cluster?.[Symbol.asyncDispose]()
})

const serving = `console.error('started')
require('http').createServer((q, r) => { console.log(q.url); r.end('hello') }).listen(process.env.PORT)`

async function writeApp(program: string): Promise<void> {
  await host.writeFile('/srv/hello/Procfile', 'web: node server.js\nworker: sleep 1000\n')
  await host.writeFile('/srv/hello/server.js', program)
}

function flynn(...args: string[]): Promise<ExecResult> {
  return host.exec(['flynn', ...args], { timeoutMs: commandTimeoutMs })
}

async function ok(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await flynn(...args)
  assert.equal(code, 0, `flynn ${args.join(' ')}: ${stderr}${stdout}`)
  return stdout
}

/** A line of shell on the host, for redirections and terminals. */
function shell(line: string): Promise<ExecResult> {
  return host.exec(['sh', '-c', line], { timeoutMs: commandTimeoutMs })
}

test('deploy shows its steps and jobs on standard error, and the address on standard output', async () => {
  const { code, stdout, stderr } = await flynn('-a', 'hello', 'deploy', '/srv/hello')
  assert.deepEqual([code, stdout], [0, `http://hello.${domain}\n`])
  for (const step of ['pack', 'upload', 'release']) assert.match(stderr, new RegExp(`^ok {2}${step}\\b`, 'm'))
  assert.match(stderr, /^\d\d:\d\d:\d\d\.\d{3} ==> web h1-[0-9a-f-]{36} up$/m)
  assert.equal(await cluster.visit(host, 'hello'), 200)
})

test('a deployment that fails shows the last lines of the job, and the old release serves on', async () => {
  const before = await ok('-a', 'hello', 'release', 'show', '--json')
  await writeApp(`console.log('reading settings'); throw new Error('no settings found')`)
  const { code, stdout, stderr } = await flynn('-a', 'hello', 'deploy', '/srv/hello')
  await writeApp(serving)
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /^web h1-[0-9a-f-]{36} ended with status 1:$/m)
  assert.match(stderr, /^ {4}reading settings$/m)
  assert.match(stderr, /^ {4}Error: no settings found$/m)
  assert.match(stderr, /the old release serves on/)
  assert.equal(await ok('-a', 'hello', 'release', 'show', '--json'), before)
  assert.equal(await cluster.visit(host, 'hello'), 200)
})

test('the account for automatic certificates is configured on a host, and a route asks for one', async () => {
  const acme = (...args: string[]) =>
    host.exec(['flynn-host', 'acme', ...args], { timeoutMs: commandTimeoutMs })
  const early = await acme('enable')
  assert.deepEqual([early.code, early.stdout], [1, ''])
  assert.match(early.stderr, /contact_email is required/)
  const shown = await acme('configure', '--email=ops@example.com', '--agree-tos', '--staging')
  assert.match(
    shown.stdout,
    /^Enabled: +false\nContact: +ops@example.com\nDirectory: +https:\/\/acme-staging/,
  )
  const status = JSON.parse((await acme('status', '--json')).stdout) as { config: { enabled: boolean } }
  assert.equal(status.config.enabled, false)
})

test('log prints time, source and job of each line; options choose lines and streams', async () => {
  assert.equal(await cluster.visit(host, 'hello'), 200)
  const line = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z app\[web\.h1-[0-9a-f-]{36}\]: \/$/
  await poll(async () => line.test((await ok('-a', 'hello', 'log', '-t', 'web', '-n', '1')).trimEnd()), {
    timeoutMs: patienceMs,
    what: 'the request in the log',
  })
  assert.equal(await ok('-a', 'hello', 'log', '-r', '-t', 'web', '-n', '1'), '/\n')
  assert.equal(await ok('-a', 'hello', 'log', '-t', 'worker'), '')
  const split = await flynn('-a', 'hello', 'log', '-s', '-r', '-t', 'web')
  assert.ok(split.stderr.includes('started\n') && !split.stdout.includes('started'))
  const job = (await ok('-a', 'hello', 'ps', '-q', '-t', 'web')).trim()
  const own = (await ok('-a', 'hello', 'log', '-j', job)).trimEnd().split('\n')
  assert.ok(own.length > 0 && own.every(text => text.includes(job)))
})

test('log -f goes on with new lines until it is interrupted, and then ends with 0', async () => {
  const follow = shell('timeout --preserve-status -s INT 6 flynn -a hello log -f -r -n 1')
  await poll(() => cluster.visit(host, 'hello').then(status => status === 200), {
    timeoutMs: patienceMs,
    what: 'a visit',
  })
  const { code, stdout } = await follow
  assert.equal(code, 0)
  assert.ok(stdout.split('\n').length > 1, stdout)
})

test('run gives the status of the job, keeps its two streams apart, and hands input on', async () => {
  const line = `printf in | flynn -a hello run -- sh -c 'cat; echo err >&2; echo $0 $1; exit 7' a -- b`
  assert.deepEqual(await shell(line), { code: 7, stdout: 'ina --\n', stderr: 'err\n' })
})

test('an interrupt reaches the job of run, whose status is then that of the command', async () => {
  const job = `trap "exit 9" INT; echo ready; while :; do sleep 0.1; done`
  const { code } = await shell(`timeout --preserve-status -s INT 4 flynn -a hello run -- sh -c '${job}'`)
  assert.equal(code, 9)
})

test('run has a terminal when there is one here, of the same size', async () => {
  const { stdout } = await shell(
    `script -qec "stty cols 91 rows 33; flynn -a hello run -- sh -c 'tty; stty size; exit 3'; echo code \\$?" /dev/null </dev/null`,
  )
  assert.match(stdout, /\/dev\/(pts\/\d+|console)/)
  assert.match(stdout, /33 91/)
})

test('run -d prints the id of a job that is logged', async () => {
  const { code, stdout, stderr } = await flynn('-a', 'hello', 'run', '-d', 'echo', 'from a detached job')
  assert.deepEqual([code, stdout], [0, ''])
  await poll(
    async () => (await ok('-a', 'hello', 'log', '-j', stderr.trim(), '-r')) === 'from a detached job\n',
    {
      timeoutMs: patienceMs,
      what: 'its line',
    },
  )
})

test('a program that is not in the image is an error, not a status', async () => {
  const { code, stdout, stderr } = await flynn('-a', 'hello', 'run', 'no-such-program')
  assert.ok(code !== 0 && stdout === '' && stderr !== '', JSON.stringify({ code, stdout, stderr }))
})

test('a job that takes more memory than it may is told as that', async () => {
  const program = 'const all = []; for (;;) all.push(Buffer.alloc(1e6, 1))'
  const { code, stderr } = await flynn('-a', 'hello', 'run', '--limits', 'memory=32MB', 'node', '-e', program)
  assert.deepEqual([code, stderr], [137, 'out of memory: killed at its memory limit of 32 MiB\n'])
})

test('ps, scale and kill speak of the same jobs', async () => {
  const scaled = await ok('-a', 'hello', 'scale', 'web=2', 'worker=1')
  assert.match(scaled, /^scaling web: 1=>2, worker: 0=>1\n\n[\s\S]*\nscale completed in [\d.ms]+\n$/)
  const ids = (await ok('-a', 'hello', 'ps', '-q', '-t', 'web')).trimEnd().split('\n')
  assert.equal(ids.length, 2)
  const killed = await flynn('-a', 'hello', 'kill', ...ids)
  assert.equal(killed.stderr, ids.map(id => `Job ${id} killed.\n`).join(''))
  await poll(
    async () => {
      const now = (await ok('-a', 'hello', 'ps', '-q', '-t', 'web')).trimEnd().split('\n')
      return now.length === 2 && now.every(id => id.startsWith('h1-') && !ids.includes(id))
    },
    { timeoutMs: patienceMs, what: 'two new jobs' },
  )
})

test('a database is dumped, restored, and asked, alone and with several jobs', async () => {
  await ok('-a', 'hello', 'resource', 'add', 'postgres')
  const sql = (text: string) => ok('-a', 'hello', 'pg', 'psql', '--', '-At', '-c', text)
  await sql('CREATE TABLE t (n int); INSERT INTO t SELECT generate_series(1, 1000)')
  await ok('-a', 'hello', 'pg', 'dump', '-f', '/srv/db.dump')
  assert.equal((await shell('head -c 5 /srv/db.dump')).stdout, 'PGDMP', 'the custom format')
  const plain = await flynn('-a', 'hello', 'pg', 'dump', '--format=plain')
  assert.match(plain.stdout, /^COPY public\.t /m)
  assert.equal(plain.stderr, '', 'no progress without a terminal')
  for (const more of [[], ['-j', '2']]) {
    await sql('TRUNCATE t')
    await ok('-a', 'hello', 'pg', 'restore', ...more, '-f', '/srv/db.dump')
    assert.equal(await sql('SELECT count(*) FROM t'), '1000\n', more.join(' '))
  }
  const failed = await flynn('-a', 'hello', 'pg', 'psql', '--', '-c', 'SELECT wrong')
  assert.ok(failed.code === 1 && failed.stderr.includes('column "wrong" does not exist'))
})

test('a resource is taken away with its variables', async () => {
  const { code, stderr } = await flynn('-a', 'hello', 'resource', 'remove', 'postgres')
  assert.equal(code, 0, stderr)
  assert.match(stderr, /^Deleted resource [0-9a-f-]{36}, created release [0-9a-f-]{36}\.$/m)
  assert.ok(!(await ok('-a', 'hello', 'env')).includes('PGHOST'))
  assert.match((await flynn('-a', 'hello', 'pg', 'psql')).stderr, /^No postgres database found/)
})

test('volumes of the platform are listed with their job', async () => {
  const text = await ok('-a', 'postgres', 'volume')
  assert.match(text, /^[0-9a-f-]{36} +h1 +created +h1-[0-9a-f-]{36} +.* ago +false$/m)
})

test('cluster add verifies the pin and sets git up; a wrong pin is refused and nothing is saved', async () => {
  const line = (await host.run(['flynn-host', 'cli-add-command'])).trim().split('\n').at(-1) ?? ''
  const words = line.split(' ').slice(1)
  const env = { HOME: '/srv/home', FLYNNRC: '/srv/home/rc' }
  await host.run(['mkdir', '-p', '/srv/home'])
  const added = await host.exec(['flynn', ...words], { env })
  assert.deepEqual([added.code, added.stderr], [0, 'Cluster "default" added and set as default.\n'])
  const git = await host.exec(['git', 'config', '--global', '--list'], { env })
  assert.match(
    git.stdout,
    /^http\.https:\/\/git\.flynn\.localhost\.sslcainfo=\/srv\/home\/\.flynn\/ca-certs\/default\.pem$/m,
  )
  assert.match(
    git.stdout,
    /^credential\.https:\/\/git\.flynn\.localhost\.helper=\/usr\/local\/bin\/flynn git-credentials$/m,
  )
  const pin = words.indexOf('-p') + 1
  const wrong = words.map((word, i) => (i === pin ? Buffer.alloc(32).toString('base64') : word))
  const refused = await host.exec(['flynn', ...wrong], { env: { ...env, FLYNNRC: '/srv/home/other' } })
  assert.equal(refused.code, 1)
  assert.match(refused.stderr, /does not match the pin/)
  assert.notEqual((await host.exec(['test', '-e', '/srv/home/other'])).code, 0)
})
