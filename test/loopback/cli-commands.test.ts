// Commands of the CLI that need no running app, against the real controller web process on a real PostgreSQL: output
// layouts, standard output and standard error, exit codes (contract cli.md 2, 7, 8).
import assert from 'node:assert/strict'
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import type { App, Release } from '../../controller/types.ts'
import type { TestController } from '../fixtures/controller.ts'
import { cells, type Session } from './cli-session.ts'
import { type CliStage, startCliStage } from './cli-stage.ts'

let stage: CliStage
let controller: TestController
let session: Session

before(async () => {
  stage = await startCliStage()
  ;({ controller, session } = stage)
})
after(() => stage?.[Symbol.asyncDispose]())

// Invocation and usage ----------------------------------------------------------------------------------------------

test('without a command the usage line is on standard output, and the exit code is 1', async () => {
  assert.deepEqual(await session.flynn([]), {
    code: 1,
    stdout: 'usage: flynn [-a <app>] [-c <cluster>] <command> [<args>...]\n',
    stderr: '',
  })
})

test('help is on standard output with exit code 0, for all and for one command', async () => {
  const all = await session.flynn(['help'])
  assert.deepEqual([all.code, all.stderr], [0, ''])
  assert.match(all.stdout, / {2}scale +Change formation\n[\s\S]*\n\n$/)
  assert.equal((await session.flynn(['-h'])).stdout, all.stdout)
  const one = await session.flynn(['help', 'ps'])
  assert.deepEqual(await session.flynn(['ps', '--help']), one)
  assert.match(one.stdout, /^usage: flynn ps /)
})

test('help --json is one object of usage texts, escaped as Go does', async () => {
  const text = await session.ok(['help', '--json'])
  const texts = JSON.parse(text) as Record<string, string>
  assert.match(texts['ps'] ?? '', /^usage: flynn ps/)
  assert.ok(text.includes('\\u003c') && !text.includes('<'))
  assert.ok(text.includes('\n\t"apps": '))
})

test('an unknown command is told on standard error, with what may have been meant', async () => {
  assert.deepEqual(await session.flynn(['scael']), {
    code: 1,
    stdout: '',
    stderr: "scael is not a flynn command. See 'flynn help'\nDid you mean scale?\n",
  })
  assert.equal((await session.flynn(['help', 'help'])).code, 1)
})

test('bad arguments show the synopsis on standard output, after a complaint when there is one', async () => {
  const usage = 'usage: flynn apps [--json]\n'
  assert.deepEqual(await session.flynn(['apps', 'x']), { code: 1, stdout: usage, stderr: '' })
  const missing = await session.flynn(['-a'])
  assert.deepEqual([missing.code, missing.stdout.split('\n')[0]], [1, '-a requires argument'])
})

test('version and --version print the same line', async () => {
  const version = await session.ok(['version'])
  assert.match(version, /^(dev|v\d{8}\.\d+.*)\n$/)
  assert.equal(await session.ok(['--version']), version)
  assert.deepEqual(await session.json(['version']), { version: version.trim() })
})

test('update says how this program is updated', async () => {
  const { code, stdout, stderr } = await session.flynn(['update'])
  assert.deepEqual([code, stdout], [1, ''])
  assert.match(stderr, /does not update itself \(.*install-flynn/)
})

test('install is deprecated and does nothing', async () => {
  const { code, stdout, stderr } = await session.flynn(['install', 'anything'])
  assert.deepEqual([code, stderr], [0, ''])
  assert.match(stdout, /deprecated/)
})

// Apps --------------------------------------------------------------------------------------------------------------

test('create says so on standard error, and a name that is taken is an error with its code', async () => {
  const made = await session.flynn(['create', 'first'])
  assert.deepEqual(made, { code: 0, stdout: '', stderr: 'Created first\n' })
  const again = await session.flynn(['create', 'first'])
  assert.equal(again.code, 1)
  assert.match(again.stderr, /^object_exists: application "first" already exists/)
  assert.equal((await session.json<App>(['create', 'second'])).name, 'second')
})

test('apps lists id and name, newest first', async () => {
  const app = await stage.newApp()
  const lines = (await session.ok(['apps'])).split('\n')
  assert.deepEqual(cells(lines[0]), ['ID', 'NAME'])
  assert.deepEqual(cells(lines[1]), [app.id, app.name])
  assert.equal((await session.json<App[]>(['apps']))[0]?.id, app.id)
})

test('info names the app and its addresses', async () => {
  const app = await stage.newApp()
  const text = `=== ${app.name}\nGit URL:  https://git.test/${app.name}.git\nWeb URL:  http://${app.name}.apps.test\n`
  assert.equal(await session.ok(['-a', app.name, 'info']), text)
  assert.equal(await session.ok(['info'], { env: { FLYNN_APP: app.id } }), text)
  await stage.releaseOf(app)
  assert.ok(!(await session.ok(['-a', app.name, 'info'])).includes('Git URL'), 'not deployed by git')
})

test('an app that does not exist is told so, with those that are spelled like it', async () => {
  await controller.client.createApp({ name: 'guestbook' })
  for (const command of [['info'], ['env'], ['ps'], ['scale'], ['release']]) {
    const { code, stderr } = await session.flynn(['-a', 'gestbook', ...command])
    assert.equal(code, 1)
    assert.equal(
      stderr,
      'controller: resource not found (there is no app "gestbook"; did you mean guestbook?)\n',
      command[0],
    )
  }
})

// Environment, limits, meta -----------------------------------------------------------------------------------------

test('env set deploys a new release, env lists sorted, get and unset do what they say', async () => {
  const { name } = await stage.newApp()
  assert.equal(await session.ok(['-a', name, 'env']), '')
  const set = await session.flynn(['-a', name, 'env', 'set', 'B=x=y', 'A=1'])
  assert.deepEqual([set.code, set.stdout], [0, ''])
  assert.match(set.stderr, /^Created release [0-9a-f-]{36}\.\n$/)
  assert.equal(await session.ok(['-a', name, 'env']), 'A=1\nB=x=y\n')
  assert.equal(await session.ok(['-a', name, 'env', 'get', 'B']), 'x=y\n')
  await session.ok(['-a', name, 'env', 'unset', 'A', 'absent'])
  assert.deepEqual(await session.json(['-a', name, 'env']), { B: 'x=y' })
  assert.deepEqual(
    [
      await session.flynn(['-a', name, 'env', 'get', 'A']),
      await session.flynn(['-a', name, 'env', 'set', 'A']),
    ].map(o => [o.code, o.stderr.slice(0, 29)]),
    [
      [1, 'var "A" not found in release '],
      [1, 'invalid var format: "A" (write'],
    ].map(([code, text]) => [code, String(text).slice(0, 29)]),
  )
})

test('env of a process type lies over that of the release', async () => {
  const app = await stage.newApp()
  await stage.releaseOf(app, { env: { A: '1' } })
  await session.ok(['-a', app.name, 'env', '-t', 'web', 'set', 'A=2'])
  assert.equal(await session.ok(['-a', app.name, 'env']), 'A=1\n')
  assert.equal(await session.ok(['-a', app.name, 'env', '-t', 'web']), 'A=2\n')
  assert.equal(await session.ok(['-a', app.name, 'env', 'get', '-t', 'web', 'A']), '2\n')
  const unknown = await session.flynn(['-a', app.name, 'env', 'set', '-t', 'none', 'A=2'])
  assert.match(unknown.stderr, /^process "none" in release [0-9a-f-]+ not found/)
})

test('limit fills in defaults once, and shows four digits and a unit', async () => {
  const app = await stage.newApp()
  await stage.releaseOf(app)
  const set = await session.flynn(['-a', app.name, 'limit', 'set', 'web', 'memory=1536MB', 'cpu=2k'])
  assert.deepEqual([set.code, set.stderr], [0, ''])
  assert.match(set.stdout, /^Created release [0-9a-f-]{36}\n$/)
  assert.equal(
    await session.ok(['-a', app.name, 'limit', '-t', 'web']),
    'web:  cpu=2000  max_fd=10000  memory=1.5GB  temp_disk=100MB\n',
  )
  assert.match(await session.ok(['-a', app.name, 'limit']), /^web: {5}cpu=2000 .*\nworker: {2}cpu=1000 /)
  const unknown = await session.flynn(['-a', app.name, 'limit', '-t', 'none'])
  assert.match(unknown.stderr, /^unknown process type "none"/)
})

test('meta is changed key by key, silently, and listed sorted', async () => {
  const { name } = await stage.newApp()
  const set = await session.flynn(['-a', name, 'meta', 'set', 'z=1', 'a=b=c'])
  assert.deepEqual(set, { code: 0, stdout: '', stderr: '' })
  const lines = (await session.ok(['-a', name, 'meta'])).trimEnd().split('\n').map(cells)
  assert.deepEqual(
    [lines[0], lines[1], lines.at(-1)],
    [
      ['KEY', 'VALUE'],
      ['a', 'b=c'],
      ['z', '1'],
    ],
  )
  await session.ok(['-a', name, 'meta', 'unset', 'a', 'z'])
  assert.deepEqual(Object.keys(await session.json(['-a', name, 'meta'])), ['gc.max_inactive_slug_releases'])
})

test('deployment batch-size leaves the other meta as it is', async () => {
  const { name } = await stage.newApp()
  assert.equal(await session.ok(['-a', name, 'deployment', 'batch-size']), 'not set\n')
  await session.ok(['-a', name, 'meta', 'set', 'mine=1'])
  assert.equal(await session.ok(['-a', name, 'deployment', 'batch-size', '3']), '')
  assert.equal(await session.ok(['-a', name, 'deployment', 'batch-size']), '3\n')
  assert.equal((await session.json<Record<string, string>>(['-a', name, 'meta']))['mine'], '1')
})

test('deployment timeout is shown and set', async () => {
  const { name } = await stage.newApp()
  assert.equal(await session.ok(['-a', name, 'deployment', 'timeout']), '120\n')
  assert.equal(await session.ok(['-a', name, 'deployment', 'timeout', '300']), '')
  assert.equal(await session.json(['-a', name, 'deployment', 'timeout']), 300)
  const none = await session.flynn(['-a', name, 'deployment', 'cancel'])
  assert.match(none.stderr, /^no deployment is under way/)
})

// Releases ----------------------------------------------------------------------------------------------------------

test('release lists newest first, show prints all of one, and --json gives it in one line', async () => {
  const app = await stage.newApp()
  const old = await stage.releaseOf(app)
  const release = await stage.releaseOf(app, { env: { K: 'v' }, meta: { git: 'true' } })
  const lines = (await session.ok(['-a', app.name, 'release'])).split('\n')
  assert.deepEqual([cells(lines[0]), cells(lines[1])[0]], [['ID', 'Created'], release.id])
  assert.equal(await session.ok(['-a', app.name, 'release', '-q']), `${release.id}\n${old.id}\n`)
  const shown = await session.ok(['-a', app.name, 'release', 'show'])
  assert.match(shown, new RegExp(`^ID: +${release.id}\nArtifact\\[0\\]: +flynn\\+http://images.test/\\d+\n`))
  assert.match(shown, /\nProcess Types: {2}web, worker\nCreated At: +\d{4}-\d\d-\d\d [\d:.]+ \+0000 UTC\n/)
  assert.match(shown, /\nENV\[K\] +v\nMETA\[git\] +true\n$/)
  const json = await session.ok(['-a', app.name, 'release', 'show', '--json', old.id])
  assert.equal(json.split('\n').length, 2)
  assert.equal((JSON.parse(json) as Release).id, old.id)
})

test('release update lays a file over the release, and --clean replaces all but the image', async () => {
  const app = await stage.newApp()
  const release = await stage.releaseOf(app, { env: { A: '1' } })
  const file = join(session.home, 'release.json')
  await writeFile(file, JSON.stringify({ env: { B: '2' }, processes: { web: { args: ['new'] } } }))
  const update = (...more: string[]) =>
    session.json<Release>(['-a', app.name, 'release', 'update', ...more, file])
  const merged = await update()
  assert.deepEqual([merged.env, merged.processes?.['web']?.args], [{ A: '1', B: '2' }, ['new']])
  assert.deepEqual(merged.processes?.['worker']?.args, ['worker'])
  const clean = await update('--clean')
  assert.deepEqual([clean.env, Object.keys(clean.processes ?? {})], [{ B: '2' }, ['web']])
  assert.deepEqual(clean.artifacts, release.artifacts)
})

test('release add takes docker images only, and warns that it is deprecated', async () => {
  const app = await stage.newApp()
  const made = await session.flynn(['-a', app.name, 'release', 'add', 'https://registry.test/app'])
  assert.equal(made.code, 0, made.stderr)
  assert.match(made.stderr, /^warning: .*deprecated.*\nCreated release [0-9a-f-]{36}\.\n$/)
  const other = await session.flynn(['-a', app.name, 'release', 'add', '-t', 'tar', 'https://x.test'])
  assert.deepEqual([other.code, other.stderr.split(' (')[0]], [1, 'Release type tar not supported.'])
})

test('rollback goes to the release deployed before, back and forth, and says so in two lines', async () => {
  const app = await stage.newApp()
  const ids: string[] = []
  for (const n of [1, 2, 3])
    ids.push((await session.json<Release>(['-a', app.name, 'env', 'set', `N=${n}`])).id)
  const back = await session.flynn(['-a', app.name, 'release', 'rollback', '-y'])
  assert.deepEqual(back, {
    code: 0,
    stdout: '',
    stderr: `Rolling back to release ${ids[1]} from ${ids[2]}.\nSuccessfully rolled back to release ${ids[1]}.\n`,
  })
  const forth = await session.json<Release>(['-a', app.name, 'release', 'rollback', '-y'])
  assert.equal(forth.id, ids[2], 'the one deployed before, not the second of the list')
  const current = await session.flynn(['-a', app.name, 'release', 'rollback', '-y', ids[2] ?? ''])
  assert.match(current.stderr, /is the current one/)
})

test('release delete waits for the end, and the current release stays', async () => {
  const app = await stage.newApp()
  const old = await stage.releaseOf(app)
  const current = await stage.releaseOf(app)
  const refused = await session.flynn(['-a', app.name, 'release', 'delete', '-y', current.id])
  assert.deepEqual([refused.code, refused.stderr.split(':')[0]], [1, 'validation_error'])
  const gone = await session.flynn(['-a', app.name, 'release', 'delete', '-y', old.id])
  assert.deepEqual(gone, { code: 0, stdout: '', stderr: `Deleted release ${old.id} (deleted 0 files)\n` })
})

// Plans and prompts -------------------------------------------------------------------------------------------------

test('--plan shows what would change and changes nothing', async () => {
  const app = await stage.newApp()
  await stage.releaseOf(app, { env: { A: '1' } })
  const before = await controller.client.appReleases(app.id)
  const plan = (...args: string[]) => session.ok(['-a', app.name, ...args, '--plan'])
  const step = '=> a new release becomes current; nothing runs that it would replace\n'
  assert.equal(await plan('env', 'set', 'A=2', 'B=3'), `~ env A: 1 => 2\n+ env B: 3\n${step}`)
  assert.equal(await plan('env', 'unset', 'A'), `- env A: 1\n${step}`)
  assert.match(await plan('limit', 'set', 'web', 'cpu=5'), /^~ process web limit cpu: 1000 => 5\n/)
  assert.equal(await plan('scale', 'web=2'), '~ scale web: 0 => 2\n')
  assert.match(await plan('route', 'add', 'http', 'www.plan.test'), /^\+ route http:www\.plan\.test\n/)
  const json = await session.json<{ changes: unknown[] }>(['-a', app.name, 'env', 'set', 'A=2', '--plan'])
  assert.deepEqual(json.changes, [{ action: 'change', what: 'env A', before: '1', after: '2' }])
  assert.deepEqual(await controller.client.appReleases(app.id), before)
  assert.equal((await controller.client.appRoutes(app.id)).length, 1)
})

test('without a terminal and --yes a question is an error that names --yes, also when input never ends', async () => {
  const app = await stage.newApp()
  const began = performance.now()
  for (const input of ['', 'open'] as const) {
    const { code, stderr } = await session.flynn(['-a', app.name, 'delete'], { input })
    assert.equal(code, 1)
    assert.match(stderr, /add --yes/)
  }
  assert.ok(performance.now() - began < 30_000)
  assert.ok(await controller.client.app(app.id), 'nothing was deleted')
})

test('an answer that is piped in is taken: no is exit code 0 and changes nothing', async () => {
  const app = await stage.newApp()
  const { code, stdout } = await session.flynn(['-a', app.name, 'delete'], { input: 'maybe\nno\n' })
  assert.equal(code, 0)
  assert.equal(
    stdout,
    `Are you sure you want to delete the app "${app.name}"? (yes/no): Please type 'yes' or 'no': `,
  )
  assert.ok(await controller.client.app(app.id))
})
