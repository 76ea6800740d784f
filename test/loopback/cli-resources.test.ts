// Commands of the CLI about what an app has, routes, volumes, resources, jobs and their log, against the real controller web
// process on a real PostgreSQL (contract cli.md 8).
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import type { Route } from '../../controller/types.ts'
import { startController, type TestController } from '../fixtures/controller.ts'
import type { StandIn } from '../fixtures/stand-in-host.ts'
import { cells, clusterAt, type Session, startSession } from './cli-session.ts'
import { type CliStage, startCliStage } from './cli-stage.ts'

let stage: CliStage
let controller: TestController
let standIn: StandIn
let session: Session

before(async () => {
  stage = await startCliStage()
  ;({ controller, standIn, session } = stage)
})
after(() => stage?.[Symbol.asyncDispose]())

// Routes ------------------------------------------------------------------------------------------------------------

test('routes are added, listed with blanks where a column says nothing of tcp, and removed', async () => {
  const app = await stage.newApp()
  const id = (await session.ok(['-a', app.name, 'route', 'add', 'http', '--sticky', 'www.r.test'])).trim()
  assert.match(id, /^http\/[0-9a-f-]{36}$/)
  const tcp = await session.ok(['-a', app.name, 'route', 'add', 'tcp', '-s', 'other'])
  const [, tcpId, port] = /^(tcp\/[0-9a-f-]{36}) listening on port (3\d{3})\n$/.exec(tcp) ?? []
  const lines = (await session.ok(['-a', app.name, 'route'])).split('\n')
  // Those of the original first.
  const head = ['ROUTE', 'SERVICE', 'ID', 'STICKY', 'LEADER', 'PATH', 'TLS', 'REQ/S', 'ERRORS', 'P99']
  assert.deepEqual(cells(lines[0]), head)
  assert.deepEqual(cells(lines[1]), [`tcp:${port}`, 'other', tcpId, 'false'])
  assert.deepEqual(cells(lines[2]), ['http:www.r.test', `${app.name}-web`, id, 'true', 'false', '/', 'none'])
  assert.equal(await session.ok(['-a', app.name, 'route', 'remove', id]), `Route ${id} removed.\n`)
  const wrong = await session.flynn(['-a', app.name, 'route', 'remove', 'x'])
  assert.deepEqual([wrong.code, wrong.stderr.split(' (')[0]], [1, '"x" is no route id'])
})

test('route update changes what is named and keeps the rest', async () => {
  const app = await stage.newApp()
  const route = await session.json<Route>(['-a', app.name, 'route', 'add', 'http', 'www.u.test', '--sticky'])
  const id = `http/${route.id}`
  assert.equal(await session.ok(['-a', app.name, 'route', 'update', id, '--leader']), `updated ${id}\n`)
  const after = await controller.client.route(app.id, id)
  assert.deepEqual([after.leader, after.sticky, after.service], [true, true, `${app.name}-web`])
  const plan = await session.ok(['-a', app.name, 'route', 'update', '--no-sticky', id, '--plan'])
  assert.equal(plan, `~ route ${id} sticky: true => false\n`)
  const both = await session.flynn(['-a', app.name, 'route', 'update', id, '--sticky', '--no-sticky'])
  assert.match(both.stdout, /^--sticky and --no-sticky exclude each other\n/)
  const pair = await session.flynn(['-a', app.name, 'route', 'update', id, '-c', '/dev/null'])
  assert.match(pair.stderr, /a certificate and a key are both needed/)
})

test('route options for the routers are set, kept, and taken away', async () => {
  const app = await stage.newApp()
  const asked = ['--redirect-https', '--max-body', '1000', '--rate-limit=20', 'www.o.test']
  const route = await session.json<Route>(['-a', app.name, 'route', 'add', 'http', ...asked])
  const id = `http/${route.id}`
  assert.deepEqual([route.redirect_https, route.max_body_bytes, route.rate_limit], [true, 1_000, 20])
  await session.ok(['-a', app.name, 'route', 'update', id, '--maintenance', '--no-redirect-https'])
  const after = await controller.client.route(app.id, id)
  assert.deepEqual([after.maintenance, after.redirect_https, after.max_body_bytes], [true, undefined, 1_000])
  const wrong = await session.flynn(['-a', app.name, 'route', 'update', id, '--rate-limit', 'many'])
  assert.match(wrong.stdout, /^--rate-limit wants a whole number/)
})

test('an automatic certificate wants an account, and is told of with its state', async () => {
  const app = await stage.newApp()
  const add = ['-a', app.name, 'route', 'add', 'http', '--auto-tls', 'www.auto.example.com']
  const off = await session.flynn(add)
  assert.equal(off.code, 1)
  assert.match(off.stderr, /flynn-host acme configure/)
  const contact = { contact_email: 'ops@example.com', terms_of_service_agreed: true }
  await controller.client.putAcmeConfig({ enabled: true, ...contact })
  const id = (await session.ok(add)).trim()
  // No worker is there to order it.
  const [, line] = (await session.ok(['-a', app.name, 'route'])).split('\n')
  assert.deepEqual(cells(line).at(-1), 'auto pending')
  await session.ok(['-a', app.name, 'route', 'update', id, '--no-auto-tls'])
  const [, after] = (await session.ok(['-a', app.name, 'route'])).split('\n')
  assert.deepEqual(cells(after).at(-1), 'none')
  const both = await session.flynn([...add, '-c', 'x', '-k', 'y'])
  assert.match(both.stderr, /--auto-tls goes with no certificate of your own/)
  await controller.client.putAcmeConfig({ enabled: false })
})

// Volumes, resources, providers, jobs, log --------------------------------------------------------------------------

test('a volume is listed, shown and decommissioned', async () => {
  const app = await stage.newApp()
  const id = '6f1c9a52-1111-4a6b-8a3e-0123456789ab'
  await controller.client.putVolume({ id, host_id: 'hosta', type: 'data', state: 'created', app: app.id })
  const lines = (await session.ok(['-a', app.name, 'volume'])).split('\n')
  assert.deepEqual(cells(lines[0]), ['ID', 'HOST', 'STATE', 'ATTACHED JOB', 'CREATED', 'DECOMMISSIONED'])
  assert.deepEqual(cells(lines[1]).slice(0, 3), [id, 'hosta', 'created'])
  const shown = await session.ok(['-a', app.name, 'volume', 'show', id])
  assert.match(
    shown,
    new RegExp(`^ID: +${id}\nState: +created\nHostID: +hosta\n[\\s\\S]*\nDecommissionedAt: {2}<nil>\n$`),
  )
  const done = await session.ok(['-a', app.name, 'volume', 'decommission', id])
  assert.match(
    done,
    new RegExp(`^volume ${id} successfully decommissioned at \\d{4}-\\d\\d-\\d\\d .* UTC\n$`),
  )
  assert.equal(cells((await session.ok(['-a', app.name, 'volume'])).split('\n')[1]).at(-1), 'true')
})

test('a resource comes with its variables and takes them away again', async () => {
  const app = await stage.newApp()
  const provider = await session.flynn(['provider', 'add', 'cli-db', `http://${standIn.addr}/databases`])
  assert.deepEqual(provider, { code: 0, stdout: '', stderr: 'Created provider cli-db.\n' })
  assert.match(await session.ok(['provider']), /^ID +NAME +URL\n[\s\S]*cli-db/)
  const added = await session.flynn(['-a', app.name, 'resource', 'add', 'cli-db'])
  assert.match(added.stderr, /^Created resource [0-9a-f-]{36} and release [0-9a-f-]{36}\.\n$/)
  assert.equal(await session.ok(['-a', app.name, 'env']), 'DATABASE_URL=postgres://x\n')
  const lines = (await session.ok(['-a', app.name, 'resource'])).split('\n')
  assert.deepEqual(
    [cells(lines[0]), cells(lines[1]).at(-1)],
    [['ID', 'Provider ID', 'Provider Name'], 'cli-db'],
  )
  const wrong = await session.flynn(['-a', app.name, 'resource', 'remove', 'cli-db', 'x'])
  assert.match(wrong.stderr, /^the app has no such resource of provider cli-db/)
})

test('without a provider the list is empty, without even a header', async () => {
  const fresh = await startController({ env: { DISCOVERD: 'none' } })
  const other = await startSession(clusterAt(fresh.url, fresh.key))
  try {
    assert.equal(await other.ok(['provider']), '')
    assert.deepEqual(await other.json(['provider']), [])
  } finally {
    await other.remove()
    await fresh.stop()
  }
})

test('ps filters by state and type, sorts by age, and -q prints ids', async () => {
  const app = await stage.newApp()
  const release = await stage.releaseOf(app)
  const jobs = [
    ['00000000-0000-4000-8000-000000000001', 'web', 'up'],
    ['00000000-0000-4000-8000-000000000002', '', 'up'],
    ['00000000-0000-4000-8000-000000000003', 'worker', 'down'],
  ] as const
  for (const [uuid, type, state] of jobs)
    await controller.client.putJob({
      uuid,
      id: `hosta-${uuid}`,
      host_id: 'hosta',
      app: app.id,
      release: release.id,
      type,
      state,
      args: ['a', 'b'],
    })
  const lines = (await session.ok(['-a', app.name, 'ps', '-c'])).trimEnd().split('\n').map(cells)
  assert.deepEqual(lines[0], ['ID', 'TYPE', 'STATE', 'CREATED', 'RELEASE', 'COMMAND'])
  assert.deepEqual(
    lines.slice(1).map(l => [l[1], l[2], l[4], l[5]]),
    [
      ['web', 'up', release.id, 'a b'],
      ['run', 'up', release.id, 'a b'],
    ],
  )
  assert.equal(await session.ok(['-a', app.name, 'ps', '-q', '-t', 'run']), `hosta-${jobs[1][0]}\n`)
  assert.equal((await session.ok(['-a', app.name, 'ps', '-aq'])).split('\n').length, 4)
})

test('kill goes on after a failure, tells each one, and exits with 1', async () => {
  const app = await stage.newApp()
  const { code, stdout, stderr } = await session.flynn(['-a', app.name, 'kill', 'none', 'nor-this'])
  const told = (id: string) =>
    `ERROR: could not kill job ${id}: controller: resource not found (there is no job "${id}"; flynn ps -a lists those of the app)\n`
  assert.deepEqual([code, stdout], [1, ''])
  assert.equal(stderr, `${['none', 'nor-this'].map(told).join('')}Could not kill all jobs.\n`)
})

test('log --json passes each line on as the object it is', async () => {
  const { name } = await stage.newApp()
  const lines = (await session.ok(['-a', name, 'log', '--json'])).trimEnd().split('\n')
  assert.deepEqual(
    lines.map(line => JSON.parse(line)),
    [
      { msg: 'one', timestamp: '2026-01-01T00:00:00Z' },
      { msg: 'two', timestamp: '2026-01-01T00:00:01Z' },
    ],
  )
})

test('scale of nothing prints nothing, and bad words are named', async () => {
  const app = await stage.newApp()
  await stage.releaseOf(app)
  assert.equal(await session.ok(['-a', app.name, 'scale']), '')
  const failures = [
    [['web'], 'ERROR: scale arguments must be of the form'],
    [['web=x'], 'ERROR: could not parse count in "web=x"'],
    [['a=1', 'b=2'], 'ERROR: unknown process types: "a", "b"'],
    [['--all', 'web=1'], "ERROR: Can't use --all with"],
  ] as const
  for (const [words, text] of failures) {
    const { code, stderr } = await session.flynn(['-a', app.name, 'scale', ...words])
    assert.ok(code === 1 && stderr.startsWith(text), stderr)
  }
  const noWait = await session.ok(['-a', app.name, 'scale', '-n', 'web=1', 'worker=2'])
  assert.equal(noWait, 'scaling web: 0=>1, worker: 0=>2\n\n')
  assert.equal(await session.ok(['-a', app.name, 'scale']), 'web=1 worker=2\n')
  const release = (await controller.client.appRelease(app.id)).id
  assert.equal(await session.ok(['-a', app.name, 'scale', '--all']), `${release} (current)\nweb=1 worker=2\n`)
})

test('a database that the app does not have is told with what to do', async () => {
  const app = await stage.newApp()
  await stage.releaseOf(app)
  const expected = [
    ['pg', 'dump', 'No postgres database found. Provision one with `flynn resource add postgres`\n'],
    ['mysql', 'dump', 'No mysql database found. Provision one with `flynn resource add mysql`\n'],
    ['mongodb', 'dump', 'No mongodb database found. Provision one with `flynn resource add mongodb`\n'],
    ['redis', 'redis-cli', 'No redis server found. Provision one with `flynn resource add redis`\n'],
  ] as const
  for (const [kind, action, text] of expected)
    assert.deepEqual(await session.flynn(['-a', app.name, kind, action]), {
      code: 1,
      stdout: '',
      stderr: text,
    })
  await stage.releaseOf(app, { env: { FLYNN_REDIS: 'no-such-app', REDIS_PASSWORD: 'x' } })
  const gone = await session.flynn(['-a', app.name, 'redis', 'dump'])
  assert.equal(gone.stderr, 'error getting app release: controller: resource not found\n')
  await stage.releaseOf(app, { env: { FLYNN_POSTGRES: 'postgres' } })
  const missing = await session.flynn(['-a', app.name, 'pg', 'dump'])
  assert.match(missing.stderr, /^missing PGHOST in app environment/)
})
