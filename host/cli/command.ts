// What a command of `flynn-host` is, and how its arguments are read: docopt's manners (contract host.md 0.5) on
// node's own parser. Bad arguments are a UsageError; main.ts prints the usage and exits 1.
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'
import type { ClusterHost } from '../client.ts'

export class UsageError extends Error {}

export type Output = { write(text: string): unknown }

/** What a command may touch of the process around it. */
export type Context = {
  readonly stdout: Output
  readonly stderr: Output
  readonly env: Readonly<Record<string, string | undefined>>
  /** Key of the hosts' API; undefined when neither environment nor key file has one. */
  readonly authKey: () => string | undefined
  /** The hosts of the cluster; the local one alone, said on stderr, while there is no discoverd. */
  readonly hosts: () => Promise<readonly ClusterHost[]>
}

export type Flags = Readonly<Record<string, string | boolean | (string | boolean)[] | undefined>>

export type Arguments = {
  readonly flags: Flags
  readonly rest: readonly string[]
  /** As typed, behind the name of the command. */
  readonly raw: readonly string[]
}

export type Command = {
  readonly name: string
  /** Line in the list of commands; commands without one are not listed. */
  readonly summary?: string
  /** Everything `flynn-host help NAME` prints. */
  readonly usage: string
  readonly options?: ParseArgsOptionsConfig
  readonly positionals: { readonly min: number; readonly max: number }
  /** Options end at the first positional: what follows belongs to somebody else. */
  readonly optionsFirst?: boolean
  /** The command reads its own arguments. */
  readonly raw?: boolean
  /** Resolves with the exit code; 0 when undefined. */
  readonly run: (args: Arguments, context: Context) => Promise<number | undefined>
  /** Exit code for what `run` rejected with; 1 when absent. */
  readonly exitCodeOf?: (e: unknown) => number
}

const help = { help: { type: 'boolean', short: 'h' } } as const

/** Reads arguments after a command's name. Answers `help` when that was asked for. */
export function parseCommand(command: Command, argv: readonly string[]): Arguments | 'help' {
  if (command.raw) return { flags: {}, rest: argv, raw: argv }
  const options: ParseArgsOptionsConfig = { ...command.options, ...help }
  const split = command.optionsFirst ? firstPositional(options, argv) : argv.length
  let flags: Flags
  let rest: readonly string[]
  try {
    const parsed = parseArgs({ args: argv.slice(0, split), options, allowPositionals: true })
    flags = parsed.values as Flags
    const tail = argv.slice(split)
    rest = [...parsed.positionals, ...(tail[0] === '--' ? tail.slice(1) : tail)]
  } catch (e) {
    throw new UsageError(e instanceof Error ? e.message : String(e))
  }
  if (flags['help']) return 'help'
  const { min, max } = command.positionals
  if (rest.length < min) throw new UsageError('arguments are missing')
  if (rest.length > max) throw new UsageError(`unexpected argument ${rest[max]}`)
  return { flags, rest, raw: argv }
}

function firstPositional(options: ParseArgsOptionsConfig, argv: readonly string[]): number {
  const { tokens } = parseArgs({
    args: [...argv],
    options,
    allowPositionals: true,
    strict: false,
    tokens: true,
  })
  const first = tokens.find(t => t.kind === 'positional' || t.kind === 'option-terminator')
  return first?.index ?? argv.length
}

export function text(flags: Flags, name: string): string | undefined {
  const value = flags[name]
  return typeof value === 'string' ? value : undefined
}

export function on(flags: Flags, name: string): boolean {
  return flags[name] === true
}

/** Comma-separated values of an option. */
export function list(flags: Flags, name: string): readonly string[] {
  return (text(flags, name) ?? '')
    .split(',')
    .map(s => s.trim())
    .filter(s => s !== '')
}
