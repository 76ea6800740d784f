// What the contract asks of every command alike, call by call: `--json` prints one JSON document, `--plan` changes nothing
// and asks on a terminal only, an app that does not exist is named with those that do, and without a terminal nothing
// waits for an answer. A call that is missing in this table fails the first test.
import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { commands } from '../../cli/commands.ts'
import { callsOf } from '../../cli/completing.core.ts'
import type { TestController } from '../fixtures/controller.ts'
import type { StandIn } from '../fixtures/stand-in-host.ts'
import type { Session } from './cli-session.ts'
import { type CliStage, startCliStage } from './cli-stage.ts'

/** Ids that the calls name; made once. */
type Made = {
  readonly release: string
  readonly route: string
  readonly volume: string
  readonly sink: string
  readonly file: string
  readonly dir: string
}

type Call = {
  readonly call: string
  /** What follows the words of the call. */
  readonly rest?: (made: Made) => readonly string[]
  /** Whether it is about an app; it is, unless this says no. */
  readonly app?: false
  /** Why `--json` is not tried here: it has none, or needs more than a controller. */
  readonly noJson?: string
  /** What the plan says, for those that have one. */
  readonly plan?: RegExp
}

const interactive = 'its output is that of a program'
const platform = 'needs jobs: cli-running, cli-host'

const calls: readonly Call[] = [
  { call: 'cluster', app: false },
  { call: 'cluster add', rest: () => ['--no-git', 'second', 'second.test', 'key'], app: false },
  { call: 'cluster default', rest: () => ['test'], app: false },
  { call: 'cluster remove', rest: () => ['second'], app: false },
  { call: 'cluster migrate-domain', app: false, noJson: 'needs a worker: cli-clusters' },
  { call: 'cluster log-sink', app: false },
  { call: 'cluster log-sink add syslog', rest: () => ['syslog://127.0.0.1:1'], app: false },
  { call: 'cluster log-sink remove', rest: made => [made.sink], app: false },
  { call: 'cluster audit-log', app: false },
  { call: 'create', rest: () => ['every-other'], app: false },
  { call: 'deploy', rest: made => [made.dir], noJson: platform },
  { call: 'info' },
  { call: 'apps', app: false },
  { call: 'delete', noJson: platform, plan: /^- app every$/m },
  { call: 'ps' },
  { call: 'explain', rest: () => ['x'], noJson: platform },
  { call: 'kill', rest: () => ['x'], noJson: platform },
  { call: 'log' },
  { call: 'run', rest: () => ['true'], noJson: platform },
  { call: 'env' },
  { call: 'env set', rest: () => ['A=2'], plan: /^~ env A: 1 => 2$/m },
  { call: 'env get', rest: () => ['A'] },
  { call: 'env unset', rest: () => ['A'], plan: /^- env A: 1$/m },
  { call: 'limit' },
  { call: 'limit set', rest: () => ['web', 'cpu=5'], plan: /^~ process web limit cpu: 1000 => 5$/m },
  { call: 'meta' },
  { call: 'meta set', rest: () => ['mine=1'] },
  { call: 'meta unset', rest: () => ['mine'] },
  { call: 'route' },
  { call: 'route add http', rest: () => ['every.test'], plan: /^\+ route http:every\.test/m },
  { call: 'route add tcp', plan: /^\+ route tcp:/m },
  { call: 'route update', rest: made => ['--sticky', made.route], plan: / sticky: false => true$/m },
  { call: 'route remove', rest: made => [made.route], plan: /^- route http:/m },
  { call: 'release' },
  { call: 'release show' },
  { call: 'release update', rest: made => [made.file], plan: /^\+ env FILE: 1$/m },
  { call: 'release add', rest: () => ['https://registry.test/x'], plan: /^~ image: /m },
  { call: 'release rollback', rest: made => ['-y', made.release], plan: /becomes current/ },
  { call: 'release delete', rest: made => ['-y', made.release], noJson: 'is the current one by then' },
  { call: 'deployment' },
  { call: 'deployment timeout', rest: () => ['77'], plan: /^~ deploy timeout: 120 => 77$/m },
  { call: 'deployment batch-size', rest: () => ['2'], plan: /^\+ deploy batch size: 2$/m },
  { call: 'deployment cancel', noJson: platform },
  { call: 'volume' },
  { call: 'volume show', rest: made => [made.volume] },
  { call: 'volume decommission', rest: made => [made.volume] },
  { call: 'remote add', noJson: 'needs a repository: cli-clusters' },
  { call: 'resource' },
  {
    call: 'resource add',
    rest: () => ['every-db'],
    noJson: 'the provider makes one only',
    plan: /^\+ resource every-db$/m,
  },
  {
    call: 'resource remove',
    rest: () => ['every-db'],
    plan: /^- resource every-db [0-9a-f-]+ and its data$/m,
  },
  { call: 'provider', app: false },
  { call: 'provider add', rest: () => ['other-db', 'http://127.0.0.1:1/'], app: false },
  ...['pg psql', 'pg dump', 'pg restore', 'mysql console', 'mysql dump', 'mysql restore'].map(call => ({
    call,
    noJson: interactive,
  })),
  ...['mongodb mongo', 'mongodb dump', 'mongodb restore'].map(call => ({ call, noJson: interactive })),
  ...['redis redis-cli', 'redis dump', 'redis restore'].map(call => ({ call, noJson: interactive })),
  { call: 'completion', rest: () => ['bash'], app: false, noJson: 'prints a script' },
  { call: 'version', app: false },
  { call: 'login', app: false, noJson: 'needs an issuer: cli-login' },
  { call: 'update', app: false, noJson: 'says only how' },
  { call: 'install', app: false, noJson: 'is deprecated' },
  { call: 'git-credentials', app: false, noJson: 'speaks git' },
  // Last: from then on a deployment waits for a worker, and there is none.
  { call: 'scale', rest: () => ['-n', 'web=1'], plan: /^~ scale web: 0 => 1$/m },
]

let stage: CliStage
let controller: TestController
let standIn: StandIn
let session: Session
let made: Made

before(async () => {
  stage = await startCliStage()
  ;({ controller, standIn, session } = stage)
  made = await prepare()
})
after(() => stage?.[Symbol.asyncDispose]())

async function prepare(): Promise<Made> {
  const { client } = controller
  const app = await client.createApp({ name: 'every' })
  const image = await client.createArtifact({ type: 'flynn', uri: 'http://images.test/1', manifest: {} })
  const processes = { web: { args: ['web'] } }
  const release = { app_id: app.id, artifacts: [image.id], processes }
  const old = await client.createRelease(release)
  const current = await client.createRelease({ ...release, env: { A: '1' } })
  await client.setAppRelease(app.id, current.id)
  const address = { type: 'http', domain: 'one.test' } as const
  const route = await client.createRoute(app.id, { ...address, service: 'every-web', drain_backends: true })
  const volume = '6f1c9a52-2222-4a6b-8a3e-0123456789ab'
  await client.putVolume({ id: volume, host_id: 'hosta', type: 'data', state: 'created', app: app.id })
  const sink = await client.createSink({ kind: 'syslog', config: { url: 'syslog://127.0.0.1:2' } })
  await client.createProvider({ name: 'every-db', url: `http://${standIn.addr}/databases` })
  const file = join(session.home, 'release.json')
  await writeFile(file, JSON.stringify({ env: { FILE: '1' } }))
  const dir = join(session.home, 'app')
  await mkdir(dir)
  await writeFile(join(dir, 'Procfile'), 'web: true\n')
  return { release: old.id, route: `http/${route.id}`, volume, sink: sink.id, file, dir }
}

/** The words of a call, with `more` before what belongs to another program. */
function wordsOf({ call, rest, app }: Call, name: string, more: readonly string[] = []): readonly string[] {
  return [...(app === false ? [] : ['-a', name]), ...call.split(' '), ...more, ...(rest?.(made) ?? [])]
}

const newestEvent = async () => (await controller.client.events({ count: 1 }))[0]?.id

test('the table has every call of every command', async () => {
  const known = await Promise.all(commands.map(async c => callsOf((await c.load()).usage)))
  assert.deepEqual(calls.map(c => c.call).toSorted(), known.flat().toSorted())
})

test('an app that does not exist is told by every command that is about one, with the nearest names', async () => {
  for (const row of calls.filter(c => c.app !== false)) {
    const { code, stdout, stderr } = await session.flynn(wordsOf(row, 'evry'), { input: 'open' })
    assert.deepEqual([code, stdout], [1, ''], row.call)
    assert.match(stderr, /there is no app "evry"; did you mean every\?/, row.call)
  }
})

test('every command that changes a running app has a plan, which changes nothing', async () => {
  await controller.client.provisionResource('every-db', { apps: ['every'], config: null })
  const before = await newestEvent()
  for (const row of calls) {
    if (row.plan === undefined) continue
    const { code, stdout, stderr } = await session.flynn(wordsOf(row, 'every', ['--plan']), { input: 'open' })
    assert.equal(code, 0, `${row.call}: ${stderr}`)
    assert.match(stdout, row.plan, row.call)
    const json = JSON.parse(await session.ok(wordsOf(row, 'every', ['--plan', '--json']))) as object
    assert.deepEqual(Object.keys(json), ['changes', 'steps'], row.call)
  }
  assert.equal(await newestEvent(), before)
})

test('on a terminal a plan asks: no changes nothing, yes does it', async () => {
  const words = ['-a', 'every', 'env', 'set', 'ASKED=1', '--plan']
  const no = await session.onTerminal(words, 'no\n')
  assert.equal(no.code, 0)
  assert.match(no.stdout, /\+ env ASKED: 1\r?\n[\s\S]*Do this\? \(yes\/no\): /)
  assert.equal((await controller.client.appRelease('every')).env?.['ASKED'], undefined)
  const yes = await session.onTerminal(words, 'yes\n')
  assert.match(yes.stdout, /Created release [0-9a-f-]{36}\./)
  assert.equal((await controller.client.appRelease('every')).env?.['ASKED'], '1')
})

test('every command that prints does it as one JSON document when --json is given', async () => {
  for (const row of calls) {
    if (row.noJson !== undefined) continue
    const outcome = await session.flynn(wordsOf(row, 'every', ['--json']), { input: 'open' })
    assert.equal(outcome.code, 0, `${row.call}: ${outcome.stderr}${outcome.stdout}`)
    const lines = outcome.stdout.trimEnd().split('\n')
    // The log is a stream: each of its lines is a document.
    if (row.call !== 'log') assert.equal(lines.length, 1, `${row.call}: ${outcome.stdout}`)
    for (const line of lines) assert.doesNotThrow(() => JSON.parse(line), `${row.call}: ${line}`)
  }
})

test('a mistyped action or option shows how to call the command, on standard output', async () => {
  const action = await session.flynn(['-a', 'every', 'env', 'sett', 'A=1'])
  assert.deepEqual([action.code, action.stderr], [1, ''])
  assert.match(action.stdout, /^flynn env has no action "sett"; did you mean set\?\nusage: flynn env /)
  const option = await session.flynn(['-a', 'every', 'scale', '--no-wiat', 'web=1'])
  assert.match(option.stdout, /^Unknown option '--no-wiat'; did you mean --no-wait\?\nusage: flynn scale /)
})
