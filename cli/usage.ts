// Arguments of one command: checked against a specification, `--options` may be shortened to a unique beginning, and
// what does not fit shows the command's usage on standard output with exit code 1 (contract cli.md 1).
import { type ParseArgsOptionsConfig, parseArgs } from 'node:util'

export class UsageError extends Error {
  /** Complaint to show before the usage; empty when there is nothing to add. */
  constructor(complaint: string) {
    super(complaint)
    this.name = 'UsageError'
  }
}

/** A word that stands where an action was to stand, and is none. */
export class UnknownAction extends UsageError {
  readonly word: string | undefined
  constructor(word: string | undefined) {
    super('')
    this.word = word
  }
}

type Specification = {
  readonly options?: ParseArgsOptionsConfig
  readonly min?: number
  readonly max?: number
  /** Whether `--plan` is an option: for what changes a running app. */
  readonly plan?: boolean
  /** Whether `--json` is an option; it is, unless this says no. */
  readonly json?: boolean
}

/** The option's full name where a beginning of it was given and fits one option only. */
function unshortened(arg: string, options: ParseArgsOptionsConfig): string {
  const names = Object.keys(options)
  const [, given, value = ''] = /^--([a-z-]+)(=.*)?$/s.exec(arg) ?? []
  if (given === undefined || names.includes(given)) return arg
  const fitting = names.filter(name => name.startsWith(given))
  return fitting.length === 1 ? `--${fitting[0]}${value}` : arg
}

/** Whether the word after this option is its value: `-r x`, `--release x`, and `-dr x` with only flags before r. */
function takesNext(arg: string, options: ParseArgsOptionsConfig): boolean {
  if (arg.startsWith('--')) return options[unshortened(arg, options).slice(2)]?.type === 'string'
  if (!arg.startsWith('-')) return false
  const letters = [...arg.slice(1)]
  const takes = (letter: string) =>
    Object.values(options).some(o => o.short === letter && o.type === 'string')
  const at = letters.findIndex(takes)
  return at >= 0 && at === letters.length - 1
}

/** Full names, and values that look like options joined to theirs (`-n -1`). */
function expand(argv: readonly string[], options: ParseArgsOptionsConfig): string[] {
  const words: string[] = []
  for (let at = 0; at < argv.length; at++) {
    const arg = argv[at] ?? ''
    if (arg === '--') return [...words, ...argv.slice(at)]
    const full = unshortened(arg, options)
    const next = argv[at + 1]
    if (next?.startsWith('-') && next !== '--' && takesNext(arg, options)) {
      words.push(`${full}${full.startsWith('--') ? '=' : ''}${next}`)
      at++
    } else words.push(full)
  }
  return words
}

function complaint(e: unknown): string {
  if (!(e instanceof Error)) return String(e)
  const [, option] = /^Option '(?:-\w, )?(--?[\w-]+) <value>' argument missing/.exec(e.message) ?? []
  return option === undefined ? (e.message.split('. ')[0] ?? '') : `${option} requires argument`
}

/** Options and positionals, or UsageError. */
export function parse<const S extends Specification>(argv: readonly string[], spec: S) {
  const options: ParseArgsOptionsConfig = {
    ...spec.options,
    ...(spec.json === false ? {} : { json: { type: 'boolean' } }),
    ...(spec.plan ? { plan: { type: 'boolean' } } : {}),
  }
  let parsed: { values: Record<string, unknown>; positionals: string[] }
  try {
    parsed = parseArgs({ args: expand(argv, options), options, allowPositionals: true, strict: true })
  } catch (e) {
    throw new UsageError(complaint(e))
  }
  const count = parsed.positionals.length
  if (count < (spec.min ?? 0) || count > (spec.max ?? Number.POSITIVE_INFINITY)) throw new UsageError('')
  return {
    flag: (name: keyof S['options'] & string): boolean => parsed.values[name] === true,
    text: (name: keyof S['options'] & string): string | undefined =>
      parsed.values[name] as string | undefined,
    rest: parsed.positionals,
    json: parsed.values['json'] === true,
    plan: parsed.values['plan'] === true,
  }
}

type Action = { readonly action: string | undefined; readonly rest: readonly string[] }

/** The sub-command's name, which options may precede (`env -t web set A=1`), and all the other words. */
export function splitAction(argv: readonly string[], options: ParseArgsOptionsConfig = {}): Action {
  for (let at = 0; at < argv.length; at++) {
    const arg = argv[at] ?? ''
    if (arg === '--') break
    if (!arg.startsWith('-') || arg === '-')
      return { action: arg, rest: [...argv.slice(0, at), ...argv.slice(at + 1)] }
    if (takesNext(arg, options)) at++
  }
  return { action: undefined, rest: argv }
}

/** For commands whose arguments after the first positional belong to another program. */
export function parseLeading<const S extends Specification>(argv: readonly string[], spec: S) {
  const options: ParseArgsOptionsConfig = spec.options ?? {}
  let at = 0
  while (at < argv.length) {
    const arg = argv[at] ?? ''
    if (arg === '--' || !arg.startsWith('-') || arg === '-') break
    at += takesNext(arg, options) ? 2 : 1
  }
  const leading = parse(argv.slice(0, at), { ...spec, min: 0 })
  const rest = argv.slice(argv[at] === '--' ? at + 1 : at)
  if (rest.length < (spec.min ?? 0)) throw new UsageError('')
  return { ...leading, rest }
}
