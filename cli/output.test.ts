// What people see: suggestions, plans, progress, completion, times and sizes.
import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { commands } from './commands.ts'
import { bashScript, describeCommand } from './completing.core.ts'
import { live } from './live.ts'
import { meterLine } from './meter.ts'
import { deploymentStep, diffReleases, diffRoutes, diffScale, renderPlan } from './plan.core.ts'
import { distance, nearest, orList } from './suggest.core.ts'
import { ago, goDuration, goTime } from './times.ts'

test('the distance of two words counts letters missing, wrong, too many and swapped', () => {
  assert.deepEqual(
    [distance('', 'abc'), distance('scale', 'scale'), distance('sclae', 'scale'), distance('scal', 'scale')],
    [3, 0, 1, 1],
  )
})

test('a mistyped word is answered with the nearest ones, and a foreign word with none', () => {
  const names = commands.map(c => c.name)
  assert.deepEqual(nearest('scael', names), ['scale'])
  assert.deepEqual(nearest('rel', names), ['release'])
  assert.ok(nearest('deploymnt', names).includes('deployment'))
  assert.deepEqual(nearest('xyzzy', names), [])
  assert.equal(orList(['a', 'b', 'c']), 'a, b or c')
})

test('a plan names what is added, changed and removed, and what is done for it', () => {
  const before = { env: { A: '1', B: '2' }, processes: { web: { args: ['x'], env: { P: '1' } } } }
  const after = {
    env: { A: '9', C: '3' },
    processes: { web: { args: ['y'], env: {}, resources: { memory: { limit: 2 ** 30 } } } },
  }
  const steps = [deploymentStep({ strategy: 'one-by-one', running: { web: 2, worker: 0 } })]
  assert.equal(
    renderPlan({ changes: diffReleases(before, after), steps }),
    `~ env A: 1 => 9
- env B: 2
+ env C: 3
~ process web args: ["x"] => ["y"]
- process web env P: 1
+ process web limit memory: 1GB
=> a new release replaces web=2, one-by-one
`,
  )
  assert.equal(renderPlan({ changes: [], steps: [] }), 'nothing changes\n')
})

test('plans of counts and routes show only what changes, and never a key', () => {
  assert.deepEqual(diffScale({ web: 1, worker: 2 }, { web: 3, worker: 2 }), [
    { action: 'change', what: 'scale web', before: '1', after: '3' },
  ])
  const route = {
    type: 'http' as const,
    id: 'x',
    service: 's',
    leader: false,
    created_at: '',
    updated_at: '',
  }
  const changes = diffRoutes('r', route, { ...route, service: 't', tls_cert: 'CERT', tls_key: 'SECRET' })
  assert.deepEqual(
    changes.map(c => [c.action, c.what]),
    [
      ['change', 'r service'],
      ['add', 'r certificate'],
    ],
  )
  assert.ok(!JSON.stringify(changes).includes('SECRET'))
})

test('in a pipe each change of progress is one line, and nothing moves the cursor', () => {
  let text = ''
  const shown = live({ terminal: false, columns: () => 80, rows: () => 24, write: t => (text += t) })
  shown.set('a', 'web starting')
  shown.say('why it failed\n')
  shown.set('a', () => 'web up')
  shown.close()
  assert.equal(text, 'web starting\nwhy it failed\nweb up\n')
})

test('on a terminal a line changes in place, is never wider than the screen, and the cursor comes back', () => {
  const written: string[] = []
  const shown = live({
    terminal: true,
    columns: () => 10,
    rows: () => 3,
    write: t => {
      written.push(t)
    },
  })
  shown.set('a', 'web starting since long')
  shown.set('a', 'web up')
  for (const key of ['b', 'c', 'd']) shown.set(key, key)
  shown.close()
  shown.close()
  const text = written.join('')
  assert.ok(text.includes('\x1b[Kweb start\n'))
  assert.ok(text.includes('\x1b[1A\r\x1b[Kweb up\n'))
  assert.equal(written.at(-2), '\x1b[2A\r\x1b[Kc\n\r\x1b[Kd\n', 'only as many lines as the screen has')
  assert.equal(written.at(-1), '\x1b[?25h')
})

test('times, durations and sizes look as the original prints them', () => {
  assert.equal(goTime('2026-01-02T03:04:05.120000Z'), '2026-01-02 03:04:05.12 +0000 UTC')
  assert.equal(goTime('2026-01-02T03:04:05Z'), '2026-01-02 03:04:05 +0000 UTC')
  assert.equal(goTime(undefined), '<nil>')
  assert.equal(ago(undefined), '')
  assert.deepEqual(
    [goDuration(507.159389), goDuration(3944.629056), goDuration(62_500)],
    ['507.159389ms', '3.944629056s', '1m2.5s'],
  )
  assert.equal(meterLine(1536, 1000, undefined), '1.50 KB 1.50 KB/s 1s')
  assert.match(meterLine(512, 1000, 1024), /^512\.00 B \/ 1\.00 KB \[=+>-+\] 50\.00 % 512\.00 B\/s 1s$/)
})

test('every command has a usage with an example, and its summary is a line of help', async () => {
  for (const entry of commands) {
    const { usage } = await entry.load()
    assert.match(usage, new RegExp(`^usage: flynn ${entry.name}\\b`), entry.name)
    assert.match(usage, /\nExamples?:\n {2}\$ (flynn|git) /, entry.name)
    assert.ok(usage.split('\n').every(line => line.length <= 220))
  }
})

test('what changes a running app takes --plan, and what prints takes --json', async () => {
  const usageOf = async (name: string) => (await commands.find(c => c.name === name)?.load())?.usage ?? ''
  for (const name of ['env', 'limit', 'scale', 'release', 'route', 'deploy'])
    assert.match(await usageOf(name), /\[--plan\]/, name)
  const silent = ['pg', 'mysql', 'mongodb', 'redis', 'completion', 'install', 'update', 'git-credentials']
  for (const { name } of commands.filter(c => !silent.includes(c.name)))
    assert.match(await usageOf(name), /--json/, name)
})

test('completion knows the actions and options that the usage text tells', () => {
  const usage = `usage: flynn env [-t <proc>]
       flynn env set [--plan] <var>=<val>...

Options:
  -t, --process-type=<proc>  only for this
  --plan                     only show
`
  const described = describeCommand('env', 'x', usage)
  assert.deepEqual(described.actions, ['set'])
  assert.deepEqual(described.options, ['--plan', '--process-type', '-t', '--help'])
  assert.deepEqual(describeCommand('c', 'x', 'usage: flynn c (bash | zsh)\n\nText.\n').actions, [
    'bash',
    'zsh',
  ])
})

test('bash completes commands, actions and options with the printed script', async () => {
  const described = await Promise.all(
    commands
      .filter(c => !c.hidden)
      .map(async c => describeCommand(c.name, c.summary, (await c.load()).usage)),
  )
  const dir = mkdtempSync(join(tmpdir(), 'flynn-completion-'))
  try {
    const script = join(dir, 'flynn.bash')
    writeFileSync(script, bashScript(described))
    const complete = (words: string) => {
      const ask = `source "$1"; COMP_WORDS=(${words}); COMP_CWORD=$((\${#COMP_WORDS[@]} - 1)); _flynn; echo "\${COMPREPLY[*]}"`
      return execFileSync('bash', ['--norc', '-c', ask, 'bash', script], {
        encoding: 'utf8',
        cwd: dir,
      }).trim()
    }
    assert.equal(complete('flynn sca'), 'scale')
    assert.equal(complete('flynn -a hello env s'), 'set')
    assert.equal(complete('flynn env set --pl'), '--plan')
    assert.match(complete('flynn de'), /^deploy delete deployment$/)
  } finally {
    rmSync(dir, { recursive: true })
  }
})
