// What the CLI knows of clusters, git and shells: configuration, resolution of app and cluster, credentials, log sinks,
// audit log (contract cli.md 3-5, 8.8, 11), against the real controller web process.
import assert from 'node:assert/strict'
import { readFile, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { parseConfig } from '../../cli/config.ts'
import type { Tables } from '../../controller/schema/tables.ts'
import { writeTo } from '../../controller/schema/write.ts'
import type { DomainMigration } from '../../controller/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { createDb, createPool, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import type { TestController } from '../fixtures/controller.ts'
import { cells, clusterAt, gitConfig, makeRepository, type Session, startSession } from './cli-session.ts'
import { type CliStage, startCliStage } from './cli-stage.ts'

let stage: CliStage
let controller: TestController
let session: Session

before(async () => {
  stage = await startCliStage()
  ;({ controller, session } = stage)
})
after(() => stage?.[Symbol.asyncDispose]())

// Clusters, configuration and git -----------------------------------------------------------------------------------

test('log sinks are added, listed with their configuration, and removed', async () => {
  const added = await session.flynn([
    'cluster',
    'log-sink',
    'add',
    'syslog',
    '--use-ids',
    'syslog://logs.test:514',
    'my-app',
  ])
  const [, id] = /^Created sink ([0-9a-f-]{36})\.\n$/.exec(added.stderr) ?? []
  assert.deepEqual([added.code, added.stdout, typeof id], [0, '', 'string'])
  const lines = (await session.ok(['cluster', 'log-sink'])).split('\n').map(cells)
  assert.deepEqual(
    [lines[0], lines[1]?.slice(0, 2)],
    [
      ['ID', 'KIND', 'CONFIG'],
      [id, 'syslog'],
    ],
  )
  assert.deepEqual(JSON.parse(lines[1]?.[2] ?? ''), {
    url: 'syslog://logs.test:514',
    template: 'my-app',
    use_ids: true,
    format: 'rfc6587',
  })
  const bad = await session.flynn(['cluster', 'log-sink', 'add', 'syslog', 'http://x'])
  assert.match(bad.stderr, /^Invalid syslog protocol: http/)
  const format = await session.flynn(['cluster', 'log-sink', 'add', 'syslog', '--format=x', 'syslog://x'])
  assert.match(format.stderr, /^Invalid syslog format: x/)
  const gone = await session.flynn(['cluster', 'log-sink', 'remove', id ?? ''])
  assert.deepEqual(gone, { code: 0, stdout: '', stderr: `Deleted sink ${id}.\n` })
})

test('the audit log tells who changed what, newest last', async () => {
  const { name } = await stage.newApp()
  await session.ok(['-a', name, 'meta', 'set', 'seen=1'])
  const lines = (await session.ok(['cluster', 'audit-log', '--app', name])).trimEnd().split('\n').map(cells)
  assert.deepEqual(lines[0], ['TIME', 'WHO', 'FROM', 'METHOD', 'PATH', 'RESULT'])
  assert.deepEqual(lines.at(-1)?.slice(2, 4), ['127.0.0.1', 'POST'])
  assert.equal(lines.at(-1)?.at(-1), '200')
})

/** Ends the domain migration that is under way, as the worker does when controller and router have been deployed. */
async function finishMigration(certificate: { ca_cert: string; cert: string; pin: string }): Promise<void> {
  const started = await poll(
    async () => (await controller.client.events({ types: ['domain_migration'] })).at(0)?.data,
    { timeoutMs: 30_000, what: 'the wish for another domain' },
  )
  const { domain_migration: migration } = started as { domain_migration: DomainMigration }
  const pool = createPool(pgOptionsFromEnv({ ...controller.databaseEnv }, 'cli-test'), silentLogger())
  const finished = { ...migration, tls_cert: certificate, finished_at: new Date().toISOString() }
  try {
    await writeTo(createDb<Tables>(pool), async w =>
      w.emit({
        type: 'domain_migration',
        objectId: migration.id,
        data: { domain_migration: finished },
        op: 'update',
      }),
    )
  } finally {
    await pool.end()
  }
}

test('migrate-domain asks, waits for the end, and moves the configuration and git along', async () => {
  const { client } = controller
  const app = await client.createApp({ name: 'controller' })
  const release = await client.createRelease({ app_id: app.id, env: { DEFAULT_ROUTE_DOMAIN: 'apps.test' } })
  await client.setAppRelease(app.id, release.id)
  const own = await startSession({
    ...clusterAt(controller.url, controller.key),
    DockerPushURL: 'https://docker.test',
  })
  try {
    const refused = await own.flynn(['cluster', 'migrate-domain', 'new.test'], { input: 'no\n' })
    assert.equal(refused.code, 0)
    assert.match(refused.stdout, /^Migrate cluster domain from "apps.test" to "new.test"\? .*Aborted\n$/)
    const certificate = { ca_cert: 'new authority', cert: 'new certificate', pin: 'bmV3IHBpbg==' }
    const [moved] = await Promise.all([
      own.flynn(['cluster', 'migrate-domain', '-y', 'new.test']),
      finishMigration(certificate),
    ])
    assert.deepEqual(moved, {
      code: 0,
      stdout:
        'Migrating cluster domain (this can take up to 2m0s)...\nChanged cluster domain from "apps.test" to "new.test"\nUpdated local CLI configuration\n',
      stderr: '',
    })
    const [entry] = parseConfig(await readFile(own.configPath, 'utf8'), 'f').clusters
    assert.deepEqual(entry, {
      Name: 'test',
      Key: controller.key,
      TLSPin: certificate.pin,
      ControllerURL: 'https://controller.new.test',
      GitURL: 'https://git.new.test',
      ImageURL: 'https://images.new.test',
      DockerPushURL: 'https://docker.new.test',
    })
    const authority = await readFile(join(own.home, '.flynn', 'ca-certs', 'test.pem'), 'utf8')
    assert.equal(authority, 'new authority')
    assert.match(await readFile(join(own.home, '.gitconfig'), 'utf8'), /git\.new\.test/)
  } finally {
    await own.remove()
  }
})

test('clusters are added, listed, made the default and removed in the configuration', async () => {
  const fresh = await startSession()
  try {
    const add = (name: string, ...more: string[]) =>
      fresh.flynn(['cluster', 'add', '--no-git', ...more, name, `${name}.test`, 'secret'])
    const none = await fresh.flynn(['apps'])
    assert.deepEqual([none.code, none.stderr.split(' (')[0]], [1, 'no clusters configured'])
    assert.equal((await add('one')).stderr, 'Cluster "one" added and set as default.\n')
    assert.equal((await add('two')).stderr, 'Cluster "two" added.\n')
    assert.match((await add('two')).stderr, /^Cluster "two" already exists in /)
    assert.equal((await add('two', '-f')).code, 0)
    const lines = (await fresh.ok(['cluster'])).split('\n').map(cells)
    assert.deepEqual(lines[0], ['NAME', 'CONTROLLER URL', 'GIT URL', 'IMAGE URL'])
    assert.deepEqual(lines[1]?.slice(0, 3), ['one', 'https://controller.one.test', '(none)'])
    assert.equal(lines[1]?.at(-1), '(default)')
    assert.equal(
      (await fresh.flynn(['cluster', 'default', 'two'])).stderr,
      '"two" is now the default cluster.\n',
    )
    assert.match(
      await fresh.ok(['cluster', 'default']),
      /^NAME +URL\ntwo +https:\/\/controller\.two\.test +\(default\)\n$/,
    )
    const unknown = await fresh.flynn(['cluster', 'default', 'three'])
    assert.ok(unknown.code === 1 && unknown.stderr.startsWith('Cluster "three" does not exist'))
    const removed = await fresh.flynn(['cluster', 'remove', 'two'])
    assert.equal(removed.stderr, 'Cluster "two" removed and "one" is now the default cluster.\n')
    assert.deepEqual(await fresh.flynn(['cluster', 'remove', 'two']), { code: 0, stdout: '', stderr: '' })
    assert.equal((await stat(fresh.configPath)).mode & 0o777, 0o600)
    assert.ok(!(await fresh.ok(['cluster', '--json'])).includes('secret'))
  } finally {
    await fresh.remove()
  }
})

test('a broken configuration, an unknown cluster, a bad pin and a wrong key are told plainly', async () => {
  const fresh = await startSession(clusterAt(controller.url, 'wrong-key'))
  try {
    const refused = await fresh.flynn(['apps'])
    assert.equal(refused.code, 1)
    assert.match(refused.stderr, /^the controller at http:\/\/127\.0\.0\.1:\d+ does not accept the key/)
    const unknown = await fresh.flynn(['-c', 'none', 'apps'])
    assert.deepEqual([unknown.code, unknown.stderr.split(' (')[0]], [1, 'unknown cluster "none"'])
    await writeFile(fresh.configPath, (await readFile(fresh.configPath, 'utf8')).replace('Key =', 'TLSPin ='))
    assert.match((await fresh.flynn(['apps'])).stderr, /^error decoding tls pin/)
    await writeFile(fresh.configPath, 'default = ')
    assert.match((await fresh.flynn(['apps'])).stderr, /^\S+ is no valid TOML/)
  } finally {
    await fresh.remove()
  }
})

test('in a repository create and remote add set the remote, and the remote names the app', async () => {
  const cwd = await makeRepository(join(session.home, 'repo'))
  assert.match((await session.flynn(['info'], { cwd })).stderr, /^no apps in git remotes/)
  assert.match((await session.flynn(['info'])).stderr, /^no app found/)
  await session.ok(['create', 'in-repo'], { cwd })
  assert.equal(await gitConfig(cwd, 'remote.flynn.url'), 'https://git.test/in-repo.git')
  assert.match(await session.ok(['info'], { cwd }), /^=== in-repo\n/)
  const app = await stage.newApp()
  const added = await session.flynn(['-a', app.name, 'remote', 'add', 'other'], { cwd })
  assert.equal(added.stderr, `Created remote other with url https://git.test/${app.name}.git.\n`)
  assert.match(await session.ok(['-a', 'other', 'info'], { cwd }), new RegExp(`^=== ${app.name}\n`))
  const many = await session.flynn(['info'], { cwd })
  assert.match(many.stderr, /\nAvailable Flynn remotes:\n {2}flynn \(in-repo\)\n {2}other /)
  const refused = await session.flynn(['create', 'third', '-r', 'other'], { cwd, input: 'no\n' })
  assert.equal(refused.code, 0)
  assert.match(refused.stderr, /No app was created/)
  const outside = await session.flynn(['-a', app.name, 'remote', 'add'])
  assert.ok(outside.code === 0 && outside.stderr.includes('git repository'))
})

test('git-credentials answers git for a known cluster only, and says nothing otherwise', async () => {
  const ask = (operation: string, input: string) => session.flynn(['git-credentials', operation], { input })
  const known = await ask('get', 'protocol=https\nhost=git.test\n\n')
  assert.equal(known.stdout, `protocol=https\nusername=user\nhost=git.test\npassword=${controller.key}\n`)
  for (const [operation, input] of [
    ['get', 'protocol=https\nhost=git.other\n\n'],
    ['get', 'protocol=http\nhost=git.test\n\n'],
    ['store', 'protocol=https\nhost=git.test\n\n'],
  ] as const)
    assert.deepEqual(await ask(operation, input), { code: 0, stdout: '', stderr: '' })
})

test('completion prints names of apps and clusters for the scripts, and refuses unknown shells', async () => {
  const app = await stage.newApp()
  assert.ok((await session.ok(['completion', 'apps'])).split('\n').includes(app.name))
  assert.equal(await session.ok(['completion', 'clusters']), 'test\n')
  for (const shell of ['bash', 'zsh', 'fish']) assert.match(await session.ok(['completion', shell]), /flynn/)
  assert.match((await session.flynn(['completion', 'tcsh'])).stderr, /^no completion for "tcsh"/)
})
