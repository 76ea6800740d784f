// `flynn completion SHELL`: a script for the shell, made from the usage texts, so that it can never know less or more
// than the commands do. Names of apps and clusters are asked of this program when they are completed.
import type { Command } from '../command.ts'
import { commands } from '../commands.ts'
import { bashScript, describeCommand, fishScript, zshScript } from '../completing.core.ts'
import type { CommandContext } from '../context.ts'
import { errors } from '../errors.ts'
import { parse } from '../usage.ts'

/** A shell that waits for completions is worse than one without. */
export const namesTimeoutMs = 2_000

const scripts = { bash: bashScript, zsh: zshScript, fish: fishScript } as const

async function names(what: 'apps' | 'clusters', context: CommandContext): Promise<readonly string[]> {
  if (what === 'clusters') return (await context.config()).clusters.map(c => c.Name)
  const signal = AbortSignal.timeout(namesTimeoutMs)
  return (await (await context.client()).apps({ signal, retryMs: 0 })).map(a => a.name)
}

export const completion: Command = {
  usage: `usage: flynn completion (bash | zsh | fish)

Print a script that lets a shell complete flynn's commands, options, apps and clusters.

Examples:
  $ flynn completion bash > /etc/bash_completion.d/flynn
  $ flynn completion zsh > "\${fpath[1]}/_flynn"
  $ flynn completion fish > ~/.config/fish/completions/flynn.fish
`,
  async run(argv, context) {
    const [shell = ''] = parse(argv, { min: 1, max: 1, json: false }).rest
    if (shell === 'apps' || shell === 'clusters') {
      // Called by the scripts below: without an answer nothing is completed.
      const list = await names(shell, context).catch(() => [])
      context.out(list.map(name => `${name}\n`).join(''))
      return 0
    }
    const script = Object.hasOwn(scripts, shell) ? scripts[shell as keyof typeof scripts] : undefined
    if (script === undefined) throw errors.SHELL_UNKNOWN({ shell })
    const shown = commands.filter(c => !c.hidden)
    const described = await Promise.all(
      shown.map(async c => describeCommand(c.name, c.summary, (await c.load()).usage)),
    )
    context.out(script(described))
    return 0
  },
}
