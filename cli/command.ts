// What a command of the CLI is. The table of commands.ts names every one and loads its module only when it is called,
// so that starting costs what the command needs and nothing else.
import type { CommandContext } from './context.ts'

export type Command = {
  /** The text that `flynn help NAME` shows: synopsis, options, and an example. */
  readonly usage: string
  /** Resolves with the exit code; 0 when it resolves with nothing. Rejects with UsageError on bad arguments. */
  run(argv: readonly string[], context: CommandContext): Promise<number | undefined>
}

export type CommandEntry = {
  readonly name: string
  readonly summary: string
  /** Works, but is not in the list of commands. */
  readonly hidden?: boolean
  load(): Promise<Command>
}
