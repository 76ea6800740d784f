// The table of `flynn-host` commands, and what a command line comes to (contract host.md 0.5).
import { describeError } from '../../pkg/errors/errors.ts'
import { version } from '../../pkg/version/version.ts'
import { acmeCommand } from './acme.ts'
import { bootstrapCommand } from './bootstrap.ts'
import { cliAddCommand } from './cli-add-command.ts'
import { type Command, type Context, parseCommand, UsageError } from './command.ts'
import { daemonCommand } from './daemon.ts'
import { demoteCommand } from './demote.ts'
import { discoverCommand } from './discover.ts'
import { discoveryServerCommand } from './discovery-server.ts'
import { drainCommand } from './drain.ts'
import { fixCommand } from './fix.ts'
import { initCommand } from './init.ts'
import { inspectCommand } from './inspect.ts'
import { listCommand } from './list.ts'
import { logCommand } from './log.ts'
import { promoteCommand } from './promote.ts'
import { psCommand } from './ps.ts'
import { recoverCommand } from './recover.ts'
import { removeCommand } from './remove.ts'
import { runCommand } from './run.ts'
import { signalCommand } from './signal.ts'
import { stopCommand } from './stop.ts'
import { tagsCommand } from './tags.ts'
import { versionCommand } from './version.ts'
import { volumeCommand } from './volume.ts'

export const commands: readonly Command[] = [
  initCommand,
  daemonCommand,
  bootstrapCommand,
  inspectCommand,
  logCommand,
  psCommand,
  stopCommand,
  signalCommand,
  runCommand,
  listCommand,
  versionCommand,
  tagsCommand,
  discoverCommand,
  promoteCommand,
  demoteCommand,
  drainCommand,
  removeCommand,
  fixCommand,
  recoverCommand,
  discoveryServerCommand,
  cliAddCommand,
  volumeCommand,
  acmeCommand,
]

export function globalUsage(): string {
  const listed = commands.filter(c => c.summary !== undefined)
  const width = Math.max(...listed.map(c => c.name.length))
  const lines = listed.map(c => `  ${c.name.padEnd(width)}  ${c.summary}`)
  return `usage: flynn-host [-h|--help] [--version] <command> [<args>...]

Options:
  -h, --help  show this help
  --version   show the version

Commands:
  ${'help'.padEnd(width)}  Show the usage of a command
${lines.join('\n')}

See 'flynn-host help <command>' for more about a command.
`
}

async function usageOf(command: Command): Promise<string> {
  if (command === bootstrapCommand) return (await import('../../bootstrap/client.ts')).bootstrapUsage
  if (command === discoveryServerCommand)
    return (await import('../../discovery/client.ts')).discoveryServerUsage
  return command.usage
}

/** `HH:MM:SS.micros command: message` on one line. */
export function errorLine(command: string, e: unknown, at: Date): string {
  const text = describeError(e).replaceAll(/\s*\n\s*/g, ' ')
  return `${at.toISOString().slice(11, 23)}000 ${command}: ${text}\n`
}

/** Carries out a command line; answers the exit code. */
export async function runCommandLine(argv: readonly string[], context: Context): Promise<number> {
  const [name, ...args] = argv
  if (name === undefined) {
    context.stdout.write(globalUsage())
    return 1
  }
  if (name === '-h' || name === '--help' || (name === 'help' && args.length === 0)) {
    context.stdout.write(globalUsage())
    return 0
  }
  if (name === '--version') {
    context.stdout.write(`${version}\n`)
    return 0
  }
  const wanted = name === 'help' ? (args[0] ?? '') : name
  const command = commands.find(c => c.name === wanted)
  if (!command) {
    context.stdout.write(`ERROR: "${wanted}" is not a valid command\n\n${globalUsage()}`)
    return 1
  }
  if (name === 'help') {
    context.stdout.write(await usageOf(command))
    return 0
  }
  try {
    const parsed = parseCommand(command, args)
    if (parsed === 'help') {
      context.stdout.write(await usageOf(command))
      return 0
    }
    return (await command.run(parsed, context)) ?? 0
  } catch (e) {
    if (e instanceof UsageError) context.stdout.write(`${e.message}\n\n${await usageOf(command)}`)
    else context.stderr.write(errorLine(command.name, e, new Date()))
    return command.exitCodeOf?.(e) ?? 1
  }
}
