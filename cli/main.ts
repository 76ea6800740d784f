// `flynn`: global flags, help, dispatch, exit codes (contract cli.md 1, 2).
import { version } from '../pkg/version/version.ts'
import type { CommandEntry } from './command.ts'
import { commands, findCommand } from './commands.ts'
import { CommandContext, type GlobalFlags } from './context.ts'
import { listenForQuit } from './quit.ts'
import { nearest, orList } from './suggest.core.ts'
import { UnknownAction, UsageError } from './usage.ts'

const synopsis = 'usage: flynn [-a <app>] [-c <cluster>] <command> [<args>...]\n'

function helpText(): string {
  const shown = commands.filter(c => !c.hidden)
  const width = Math.max(...shown.map(c => c.name.length))
  return `${synopsis}
Options:
  -a <app>      name of the app, or of the git remote that leads to it
  -c <cluster>  name of the cluster
  -h, --help    this text
  --version     version of this program

Commands:
${shown.map(c => `  ${c.name.padEnd(width)}  ${c.summary}\n`).join('')}
See 'flynn help <command>' for one of them. Most take --json; those that change a running app take --plan.
`
}

type Invocation = {
  readonly flags: GlobalFlags
  readonly name: string | undefined
  readonly argv: readonly string[]
}

/** Global flags come before the command; after it the same letters belong to the command. */
function split(argv: readonly string[]): Invocation {
  let app: string | undefined
  let cluster: string | undefined
  let at = 0
  while (at < argv.length) {
    const arg = argv[at] ?? ''
    const match = /^-([ac])(.*)$/s.exec(arg)
    if (!match) break
    const value = match[2] === '' ? argv[++at] : match[2]
    if (value === undefined) throw new UsageError(`-${match[1]} requires argument`)
    if (match[1] === 'a') app = value
    else cluster = value
    at++
  }
  return { flags: { app, cluster }, name: argv[at], argv: argv.slice(at + 1) }
}

function unknown(name: string): number {
  const known = commands.filter(c => !c.hidden).map(c => c.name)
  const meant = nearest(name, known)
  const hint = meant.length === 0 ? '' : `Did you mean ${orList(meant)}?\n`
  process.stderr.write(`${name} is not a flynn command. See 'flynn help'\n${hint}`)
  return 1
}

/** As Go prints JSON, which is what readers of this output know. */
async function helpJson(): Promise<string> {
  const texts = await Promise.all(commands.map(async c => [c.name, (await c.load()).usage] as const))
  return JSON.stringify(Object.fromEntries(texts.sort(([a], [b]) => (a < b ? -1 : 1))), null, '\t')
    .replaceAll('<', '\\u003c')
    .replaceAll('>', '\\u003e')
    .replaceAll('&', '\\u0026')
}

async function help(argv: readonly string[]): Promise<number> {
  const [name] = argv
  if (name === undefined) process.stdout.write(`${helpText()}\n`)
  else if (name === '--json') process.stdout.write(`${await helpJson()}\n`)
  else {
    const entry = findCommand(name)
    if (!entry) return unknown(name)
    process.stdout.write((await entry.load()).usage)
  }
  return 0
}

/** Commands that hand what follows to another program: only a first `--help` is meant for us. */
const passing: ReadonlySet<string> = new Set(['run', 'psql', 'console', 'mongo', 'redis-cli'])

function asksHelp({ name = '', argv }: Invocation): boolean {
  const end = argv.findIndex((word, i) => word === '--' || (passing.has(word) && i === 0))
  const own = passing.has(name) ? argv.slice(0, 1) : end < 0 ? argv : argv.slice(0, end)
  return own.some(word => word === '-h' || word === '--help')
}

async function dispatch(
  entry: CommandEntry,
  invocation: Invocation,
  context: CommandContext,
): Promise<number> {
  const command = await entry.load()
  if (asksHelp(invocation)) {
    process.stdout.write(command.usage)
    return 0
  }
  try {
    return (await command.run(invocation.argv, context)) ?? 0
  } catch (e) {
    if (e instanceof UsageError) {
      const { usageFailure } = await import('./unknown.core.ts')
      const word = e instanceof UnknownAction ? e.word : undefined
      const { name } = entry
      const { argv } = invocation
      process.stdout.write(usageFailure({ name, usage: command.usage, argv, complaint: e.message, word }))
      return 1
    }
    const { describeFailure } = await import('./failure.ts')
    process.stderr.write(`${await describeFailure(e, context)}\n`)
    return 1
  }
}

async function main(argv: readonly string[]): Promise<number> {
  const first = argv[0]
  if (first === undefined) {
    process.stdout.write(synopsis)
    return 1
  }
  if (first === '-h' || first === '--help') return await help([])
  if (first === '--version') {
    process.stdout.write(`${version}\n`)
    return 0
  }
  const invocation = split(argv)
  const { name } = invocation
  if (name === undefined || name.startsWith('-')) {
    if (name === '-h' || name === '--help') return await help([])
    throw new UsageError('')
  }
  if (name === 'help') return await help(invocation.argv)
  const entry = findCommand(name)
  return entry ? await dispatch(entry, invocation, new CommandContext(invocation.flags)) : unknown(name)
}

// A reader that went away (flynn log | head) is no error of ours.
process.stdout.on('error', e => process.exit((e as NodeJS.ErrnoException).code === 'EPIPE' ? 0 : 1))
listenForQuit()

main(process.argv.slice(2)).then(
  code => {
    process.exitCode = code
  },
  e => {
    if (!(e instanceof UsageError)) throw e
    process.stdout.write(`${e.message ? `${e.message}\n` : ''}${synopsis}`)
    process.exitCode = 1
  },
)
