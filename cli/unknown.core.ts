// Bad arguments in words: which action or option was meant, and only the synopsis lines of the action that was called.
// Pure; main.ts loads it when a command refuses its arguments.
import { describeCommand } from './completing.core.ts'
import { nearest, orList } from './suggest.core.ts'

const linesOf = (usage: string) => (usage.split('\n\n')[0] ?? '').replace(/^usage: /, '').split('\n')

/** The synopsis: that of one action when it is named, else the whole. Ends with a newline. */
export function synopsisFor(usage: string, action: string | undefined): string {
  const lines = linesOf(usage).map(line => line.trim())
  const own = lines.filter(line => action !== undefined && line.split(/\s+/)[2] === action)
  return (own.length > 0 ? own : lines)
    .map((line, i) => `${i === 0 ? 'usage: ' : '       '}${line}\n`)
    .join('')
}

const meaning = (words: readonly string[]) => (words.length === 0 ? '' : `; did you mean ${orList(words)}?`)

export type Refusal = {
  readonly name: string
  readonly usage: string
  readonly argv: readonly string[]
  readonly complaint: string
  /** A word in the place of an action that is none. */
  readonly word: string | undefined
}

/** What standard output says: the complaint, if there is one, and how to call the command. */
export function usageFailure({ name, usage, argv, complaint, word }: Refusal): string {
  const { actions, options } = describeCommand(name, '', usage)
  const action = word === undefined ? argv.find(arg => actions.includes(arg)) : undefined
  const [, option] = /^Unknown option '(--?[^']+)'/.exec(complaint) ?? []
  const said =
    word !== undefined
      ? `flynn ${name} has no action "${word}"${meaning(nearest(word, actions))}`
      : option !== undefined
        ? `${complaint}${meaning(nearest(option, options))}`
        : complaint
  return `${said === '' ? '' : `${said}\n`}${synopsisFor(usage, action)}`
}
