// What a person gets from the quickstart on one machine, tried from outside: the installer run twice, the page, each
// command of `flynn` on a real app, and what is answered to bad input. Nothing half-done may be left by any of it.
import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, before, test } from 'node:test'
import type { Job, Release } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { named, type OneHost, oneHost, patienceMs } from '../fixtures/one-host.ts'

const app = 'guestbook'
const firstEntry = 'first entry'
let flynn: OneHost

before(async () => {
  flynn = await oneHost('platform')
})

after(async () => {
  await flynn?.[Symbol.asyncDispose]()
})

const jobIds = async () => (await flynn.jobs()).map(j => j.job.id).sort()
const guestbook = (...args: string[]) => flynn.ok('-a', app, ...args)
const entries = async (): Promise<readonly { name: string; message: string; words: number | null }[]> =>
  JSON.parse((await flynn.page(app, '/entries.json')).body)

// The installer ----------------------------------------------------------------------------------------------------

test('a bootstrap names the port that is in use, and starts nothing', async () => {
  const installed = await flynn.install()
  assert.equal(installed.code, 0, installed.stderr)
  const script = "require('net').createServer().listen(443, () => console.log('listening'))"
  const squatter = await flynn.host.spawn(['node', '-e', script], { log: '/var/log/squatter.log' })
  await poll(async () => (await flynn.host.readFile('/var/log/squatter.log')).includes('listening'), {
    timeoutMs: patienceMs,
    what: 'the other program to listen',
  })
  const { code, stderr } = await flynn.host.exec(['flynn-host', 'bootstrap'], {
    env: { CLUSTER_DOMAIN: 'flynn.localhost' },
  })
  assert.equal(code, 1)
  assert.match(stderr, /ports that Flynn needs are in use: .*\b443\b/)
  assert.deepEqual(await jobIds(), [])
  squatter.kill('SIGKILL')
})

test('the quickstart ends with a page that shows a row of its database', async t => {
  const startedAt = performance.now()
  const { code, stdout, stderr } = await flynn.install('--quickstart')
  assert.equal(code, 0, stderr)
  t.diagnostic(`${((performance.now() - startedAt) / 1000).toFixed(1)} s from the start to the page`)
  assert.match(stdout, /The guestbook answers \d+ seconds after the start/)
  assert.match(stdout, /curl http:\/\/guestbook\.flynn\.localhost\//)
  assert.match(stdout, /flynn cluster add -p \S+ default flynn\.localhost [0-9a-f]{32}/)
  const page = await flynn.page(app, '/')
  assert.equal(page.status, 200)
  assert.ok(page.body.includes(firstEntry))
  assert.equal((await flynn.page('status', '/')).status, 200)
})

test('a second quickstart repeats nothing', async () => {
  await flynn.ok('-a', app, 'scale', 'web=2')
  // The worker counts them after the entry was made.
  await poll(async () => (await entries()).every(e => e.words !== null), {
    timeoutMs: patienceMs,
    what: 'the words of the entries to be counted',
  })
  const before = {
    jobs: await jobIds(),
    entries: await entries(),
    releases: await guestbook('release', '-q'),
  }
  const { code, stderr } = await flynn.install('--quickstart')
  assert.equal(code, 0, stderr)
  const now = { jobs: await jobIds(), entries: await entries(), releases: await guestbook('release', '-q') }
  assert.deepEqual(now, before)
})

// Commands on the guestbook ----------------------------------------------------------------------------------------

test('ps, scale, resource, deployment, route and info tell what runs', async () => {
  assert.equal(await guestbook('scale'), 'web=2 worker=1\n')
  const jobs = await flynn.json<readonly Job[]>('-a', app, 'ps')
  assert.deepEqual(jobs.map(j => `${j.type} ${j.state}`).sort(), ['web up', 'web up', 'worker up'])
  assert.match(await guestbook('resource'), /^[0-9a-f-]{36} +[0-9a-f-]{36} +postgres\s*$/m)
  assert.match(await guestbook('deployment'), /^[0-9a-f-]{36} +complete /m)
  assert.match(await guestbook('route'), /^http:guestbook\.flynn\.localhost +guestbook-web +http\//m)
  assert.match(await guestbook('info'), /^Web URL: +http:\/\/guestbook\.flynn\.localhost$/m)
  assert.match(await flynn.ok('apps'), /guestbook/)
})

test('log shows what the app wrote about a visitor', async () => {
  const form = { name: 'Grace', message: 'four words of hers' }
  assert.equal((await flynn.page(app, '/', { method: 'POST', form })).status, 303)
  const line = /app\[web\.h1-[0-9a-f-]+\]: signed by Grace$/m
  await poll(async () => line.test(await guestbook('log')), { timeoutMs: patienceMs, what: 'its line' })
  await poll(async () => /has 4 words/.test(await guestbook('log', '-t', 'worker')), {
    timeoutMs: patienceMs,
    what: "the worker's line",
  })
})

test('run passes output, input and exit status', async () => {
  const ended = await flynn.flynn(['-a', app, 'run', 'sh', '-c', 'echo out; echo err >&2; exit 42'])
  assert.deepEqual(ended, { code: 42, stdout: 'out\n', stderr: 'err\n' })
  const copied = await flynn.flynn(['-a', app, 'run', 'cat'], { input: 'line\n' })
  assert.deepEqual(copied, { code: 0, stdout: 'line\n', stderr: '' })
})

test('env is set by a release that a rollback takes back', async () => {
  const before = await guestbook('env')
  await guestbook('env', 'set', 'COLOR=blue')
  assert.equal(await guestbook('env', 'get', 'COLOR'), 'blue\n')
  assert.equal(await guestbook('run', 'sh', '-c', 'echo $COLOR'), 'blue\n')
  await guestbook('release', 'rollback', '-y')
  assert.equal(await guestbook('env'), before)
  assert.equal(await guestbook('scale'), 'web=2 worker=1\n')
})

test('pg psql reads the rows, and a dump brings them back after they were deleted', async () => {
  const count = async () =>
    Number(await guestbook('pg', 'psql', '--', '-Atc', 'SELECT count(*) FROM entries'))
  const rows = await count()
  assert.ok(rows >= 2)
  await guestbook('pg', 'dump', '-f', '/root/guestbook.dump')
  await guestbook('pg', 'psql', '--', '-c', 'DELETE FROM entries')
  assert.equal(await count(), 0)
  await guestbook('pg', 'restore', '-f', '/root/guestbook.dump')
  assert.equal(await count(), rows)
  assert.ok((await flynn.page(app, '/')).body.includes(firstEntry))
})

test('a killed job is replaced by a new one', async () => {
  const up = async () => (await guestbook('ps', '-q', '-t', 'web')).trim().split('\n')
  const [victim = '', other = ''] = await up()
  await guestbook('kill', victim)
  const now = await poll(
    async () => {
      const jobs = await flynn.json<readonly Job[]>('-a', app, 'ps', '-t', 'web')
      return jobs.length === 2 && jobs.every(j => j.state === 'up' && j.id !== victim) ? jobs : undefined
    },
    { timeoutMs: patienceMs, what: 'another web job' },
  )
  assert.ok(now.some(j => j.id === other))
})

/** Sends a line to a TCP port of the host and answers the first line that comes back. */
function echo(port: number, line: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: flynn.host.address, port, timeout: 5_000 }, () => socket.write(line))
    socket.setEncoding('utf8')
    socket.once('data', text => {
      socket.destroy()
      resolve(String(text))
    })
    socket.once('timeout', () => socket.destroy(new Error('no answer')))
    socket.once('error', reject)
    socket.once('close', () => reject(new Error('closed')))
  })
}

test('an app of its own gets routes, and its deletion leaves no job, route or page', async () => {
  await flynn.ok('create', '--remote', '', 'parrot')
  await flynn.ok('-a', 'parrot', 'deploy', '/code/examples/tcp-echo')
  const added = await flynn.ok('-a', 'parrot', 'route', 'add', 'tcp')
  const port = Number(/listening on port (\d+)/.exec(added)?.[1])
  await poll(async () => (await echo(port, 'hello\n')) === 'hello\n', {
    timeoutMs: patienceMs,
    what: 'the echo through the TCP route',
  })
  await flynn.ok('-a', app, 'route', 'add', 'http', 'book.flynn.localhost')
  await poll(async () => (await flynn.page('book', '/')).status === 200, {
    timeoutMs: patienceMs,
    what: 'the page by its second name',
  })
  const deleted = await flynn.flynn(['-a', 'parrot', 'delete', '-y'])
  assert.match(deleted.stderr, /^Deleted parrot \(removed 2 routes, deleted 1 releases/m)
  assert.doesNotMatch(await flynn.ok('apps'), /parrot/)
  assert.deepEqual(
    (await flynn.jobs()).filter(j => named(j).startsWith('parrot/')),
    [],
  )
  await poll(async () => (await flynn.page('parrot', '/')).status === 404, {
    timeoutMs: patienceMs,
    what: 'the http route to be gone',
  })
  await assert.rejects(echo(port, 'hello\n'))
})

// Bad input --------------------------------------------------------------------------------------------------------

type Answer = { readonly status: number; readonly code: string | undefined; readonly message: string }

/** A request to the controller through the router, sent from the host with its CLI's key. */
async function controller(
  method: string,
  path: string,
  body?: string,
  type = 'application/json',
): Promise<Answer> {
  const key = /Key = "(\w+)"/.exec(await flynn.host.readFile('/root/.flynnrc'))?.[1] ?? ''
  const name = 'controller.flynn.localhost'
  const argv = ['curl', '-sk', '-u', `:${key}`, '-H', `content-type: ${type}`, '-X', method]
  const to = [`https://${name}${path}`, '--resolve', `${name}:443:127.0.0.1`, '-w', '\n%{http_code}']
  const out = await flynn.host.run([...argv, ...(body === undefined ? [] : ['--data-binary', body]), ...to])
  const text = out.slice(0, out.lastIndexOf('\n'))
  const error = text === '' ? {} : (JSON.parse(text) as { code?: string; message?: string })
  return { status: Number(out.split('\n').at(-1)), code: error.code, message: error.message ?? text }
}

const nobody = '3b6a27bc-ceb6-4a2d-a4a8-1f1b1b1b1b1b'
const wrongLayer = '0'.repeat(64)

test('the controller answers bad input with the error of the contract, and keeps nothing of it', async () => {
  const { id } = await flynn.json<Release>('-a', app, 'release', 'show')
  const appId = (await flynn.json<readonly Job[]>('-a', app, 'ps'))[0]?.app ?? ''
  const before = { apps: await flynn.ok('apps'), releases: await guestbook('release'), jobs: await jobIds() }
  const processes = { web: { args: ['true'] } }
  const body = JSON.stringify
  const rows: readonly (readonly [string, string, string | undefined, number, string | undefined, RegExp])[] =
    [
      ['POST', '/apps', '{"name": ', 400, 'syntax_error', /JSON/],
      ['POST', '/apps', '[]', 400, 'validation_error', /body must be object/],
      ['POST', '/apps', body({ name: 5 }), 400, 'validation_error', /^name must be string/],
      [
        'POST',
        '/apps',
        body({ name: 'Bad Name' }),
        400,
        'validation_error',
        /^name must be lower-case letters/,
      ],
      ['POST', '/apps', body({ name: app }), 409, 'object_exists', /"guestbook" already exists/],
      ['GET', '/apps/nope', undefined, 404, undefined, /^$/],
      ['POST', '/apps/nope/deploy', body({ id }), 404, undefined, /^$/],
      [
        'POST',
        '/releases',
        body({ app_id: appId, artifacts: [nobody], processes }),
        400,
        'validation_error',
        new RegExp(nobody),
      ],
      [
        'POST',
        '/releases',
        body({ app_id: appId, processes: { web: { args: 'true' } } }),
        400,
        'validation_error',
        /^processes\.web\.args must be array/,
      ],
      [
        'POST',
        '/artifacts',
        body({ type: 'weird', uri: 'http://x' }),
        400,
        'validation_error',
        /^type must be/,
      ],
      ['PUT', `/apps/${app}/scale/${nobody}`, body({ new_processes: { web: 1 } }), 404, undefined, /^$/],
      [
        'PUT',
        `/apps/${app}/scale/${id}`,
        body({ new_processes: { nope: 1 } }),
        400,
        'validation_error',
        /nope/,
      ],
      [
        'POST',
        `/apps/${app}/routes`,
        body({ type: 'tcp', port: 80, service: 'x' }),
        409,
        'conflict',
        /reserved/,
      ],
      ['POST', `/apps/${app}/jobs`, body({ release: nobody, args: ['true'] }), 404, undefined, /^$/],
    ]
  for (const [method, path, sent, status, code, message] of rows) {
    const answer = await controller(method, path, sent)
    const what = `${method} ${path} ${sent}`
    assert.deepEqual([answer.status, answer.code], [status, code], `${what}: ${answer.message}`)
    assert.match(answer.message, message, what)
  }
  const layer = await controller(
    'PUT',
    `/apps/${app}/layers/${wrongLayer}`,
    'abc',
    'application/octet-stream',
  )
  assert.deepEqual([layer.status, layer.code], [400, 'validation_error'])
  assert.match(layer.message, /nothing was kept/)
  assert.equal((await controller('GET', `/apps/${app}/layers/${wrongLayer}`)).status, 404)
  const now = { apps: await flynn.ok('apps'), releases: await guestbook('release'), jobs: await jobIds() }
  assert.deepEqual(now.jobs, before.jobs)
  assert.equal(now.apps, before.apps)
  assert.equal(now.releases.split('\n').length, before.releases.split('\n').length)
})

test('the host refuses jobs that it cannot read', async () => {
  const id = `h1-${nobody}`
  const put = async (body: string) => {
    const key = (await flynn.host.readFile('/etc/flynn/auth-key')).trim()
    const headers = { 'auth-key': key, 'content-type': 'application/json' }
    const res = await flynn.host.fetch(`/host/jobs/${id}`, { port: 1113, method: 'PUT', headers, body })
    return [res.status, ((await res.json()) as { code: string }).code]
  }
  assert.deepEqual(await put('{"config": '), [400, 'syntax_error'])
  assert.deepEqual(await put('{"config": {"args": ["true"]}}'), [400, 'validation_error'])
  assert.deepEqual(await put('{"mountspecs": "x"}'), [400, 'validation_error'])
  await assert.rejects((await flynn.hostApi()).job(id), { code: 'object_not_found' })
})

test('a job whose image does not have the hash that was promised fails, and the layer is not kept', async () => {
  const api = await flynn.hostApi()
  const real = (await flynn.jobs())[0]?.job.mountspecs?.[0]
  assert.ok(real)
  const url = `file:///var/lib/flynn/layer-cache/${real.id}.squashfs`
  const forged = { ...real, id: wrongLayer, url, hashes: { sha512_256: wrongLayer } }
  const id = 'h1-00000000-0000-4000-8000-000000000001'
  await api.addJob({ id, config: { args: ['true'] }, mountspecs: [forged] })
  const job = await poll(
    async () => {
      const found = await api.job(id)
      return found.error === undefined ? undefined : found
    },
    { timeoutMs: patienceMs, what: 'the job to fail' },
  )
  assert.equal(job.status, 4)
  assert.match(job.error ?? '', /sha512_256/)
  const files = await flynn.host.run(['ls', '/var/lib/flynn/layer-cache'])
  assert.doesNotMatch(files, new RegExp(wrongLayer))
})

test('a job that fills its disk gets an error, and nothing else notices', async () => {
  const script = 'dd if=/dev/zero of=/tmp/fill bs=1M count=60'
  const argv = ['-a', app, 'run', '--limits', 'temp_disk=20MB', 'sh', '-c', script]
  const { code, stderr } = await flynn.flynn(argv)
  assert.equal(code, 1)
  assert.match(stderr, /No space left on device/)
  assert.equal((await flynn.page(app, '/')).status, 200)
})

test('the command line says what is wrong and exits with 1', async () => {
  const rows: readonly (readonly [readonly string[], RegExp])[] = [
    [['-a', 'nope', 'ps'], /not found/],
    [['create', app], /application "guestbook" already exists/],
    [['-a', app, 'scale', 'nothing=2'], /unknown process types: "nothing"/],
    [['-a', app, 'deploy', '/root/missing'], /missing is no directory/],
    [['-a', app, 'route', 'add', 'tcp', '-p', '443'], /reserved/],
    [
      ['-a', app, 'run', 'nosuchprogram'],
      /"nosuchprogram" is no program of the image: executable file not found/,
    ],
    [['-a', app, 'release', 'show', nobody], /not found/],
    [['-a', app, 'kill', nobody], /could not kill/i],
  ]
  for (const [args, text] of rows) {
    const { code, stderr } = await flynn.flynn(args)
    assert.equal(code, 1, `${args.join(' ')}: ${stderr}`)
    assert.match(stderr, text)
  }
})

test('after all of it the cluster is healthy and every job is one that was asked for', async () => {
  await poll(async () => (await flynn.page('status', '/')).status === 200, {
    timeoutMs: patienceMs,
    what: 'the status app to say healthy',
  })
  const counts = await poll(() => flynn.running(), { timeoutMs: patienceMs, what: 'all jobs to run' })
  assert.deepEqual([counts['guestbook/web'], counts['guestbook/worker']], [2, 1])
  for (const [name, n] of Object.entries(counts)) if (!name.startsWith('guestbook/')) assert.equal(n, 1, name)
})
