// What holds for every command alike: the page of compatibility names it, its help has an example, and arguments that
// are none of its own are refused before anything is asked or done.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { commands } from './commands.ts'
import { callsOf } from './completing.core.ts'
import type { CommandContext } from './context.ts'
import { missingHint } from './missing-hint.core.ts'
import { usageFailure } from './unknown.core.ts'
import { UnknownAction, UsageError } from './usage.ts'

const loaded = await Promise.all(commands.map(async entry => ({ entry, command: await entry.load() })))
const calls = loaded.flatMap(({ command }) => callsOf(command.usage))

/** Touching it is a failure: bad arguments are found before. */
const untouchable = new Proxy({} as CommandContext, {
  get: (_target, name) => assert.fail(`${String(name)} was asked for`),
})

test('docs/compatibility.md lists every call of every command and no other', async () => {
  const page = await readFile(new URL('../docs/compatibility.md', import.meta.url), 'utf8')
  const section = /^## Command line$(.*?)^### /ms.exec(page)?.[1] ?? ''
  const rows = section.split('\n').filter(line => line.startsWith('| `'))
  const listed = rows.flatMap(row =>
    [...(row.split('|')[1] ?? '').matchAll(/`flynn ([^`]+)`/g)].map(m => m[1] ?? ''),
  )
  assert.deepEqual(listed.toSorted(), calls.toSorted())
})

test('an option that a command does not have is refused before anything else', async () => {
  const passing = new Set(['pg psql', 'mysql console', 'mongodb mongo', 'redis redis-cli', 'install'])
  for (const { command } of loaded)
    for (const call of callsOf(command.usage)) {
      if (passing.has(call) || call === 'git-credentials') continue
      const argv = [...call.split(' ').slice(1), '--no-such-option']
      await assert.rejects(command.run(argv, untouchable), UsageError, call)
    }
})

test('an action that a command does not have is refused with the word', async () => {
  for (const { entry, command } of loaded) {
    const actions = callsOf(command.usage).filter(call => call.includes(' '))
    if (actions.length === 0) continue
    await assert.rejects(
      command.run(['no-such-action'], untouchable),
      e => e instanceof UnknownAction && e.word === 'no-such-action',
      entry.name,
    )
  }
})

const usage = `usage: flynn env [-t <proc>] [--json]
       flynn env set [--plan] <var>=<val>...

Options:
  -t, --process-type=<proc>  only for this
  --plan                     only show
`

test('bad arguments show the synopsis of their action, and what may have been meant', () => {
  const refusal = { name: 'env', usage, argv: [], complaint: '', word: undefined }
  assert.equal(usageFailure({ ...refusal, argv: ['set'] }), 'usage: flynn env set [--plan] <var>=<val>...\n')
  assert.match(
    usageFailure({ ...refusal, word: 'sett' }),
    /^flynn env has no action "sett"; did you mean set\?\nusage: flynn env \[-t <proc>\] \[--json\]\n {7}flynn env set /,
  )
  assert.match(
    usageFailure({ ...refusal, complaint: "Unknown option '--paln'" }),
    /^Unknown option '--paln'; did you mean --plan\?\n/,
  )
})

test('what was not found is named with the command that lists what there is', () => {
  const hint = (path: string) => missingHint(`GET ${path}: HTTP 404`)
  assert.equal(hint('/apps/x/jobs/a%20b'), ' (there is no job "a b"; flynn ps -a lists those of the app)')
  assert.match(hint('/apps/x/routes/http/1'), /no route "http\/1"; flynn route lists/)
  assert.match(hint('/providers/mysql'), /no provider "mysql"; flynn provider lists/)
  assert.match(hint('/providers/p/resources/1'), /no resource "1"/)
  assert.equal(hint('/apps/x'), '')
  assert.equal(missingHint('nothing was found'), '')
})
