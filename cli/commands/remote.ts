// `flynn remote add` (contract cli.md 8.5): the git remote that leads to an app.
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { inRepository, remoteUrl, setRemote } from '../git.ts'
import { confirm } from '../prompt.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

async function add(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1, options: { yes: { type: 'boolean', short: 'y' } } })
  const [remote = 'flynn'] = args.rest
  const app = await context.app()
  if (!(await inRepository())) {
    context.notice('Must be executed within a git repository.')
    return
  }
  const question = `There is already a git remote called ${remote}, are you sure you want to replace it?`
  if ((await remoteUrl(remote)) !== undefined && !args.flag('yes') && !(await confirm(question))) return
  const { GitURL } = await context.cluster()
  const url = `${GitURL}/${app.name}.git`
  await setRemote(remote, url)
  context.done(args, { remote, url }, `Created remote ${remote} with url ${url}.`)
}

export const remote: Command = {
  usage: `usage: flynn remote add [-y] [--json] [<remote>]

Add a git remote that leads to an app [default: flynn].

Options:
  -y, --yes  replace a remote of that name without asking
  --json     print as JSON

Example:
  $ flynn -a hello remote add
  Created remote flynn with url https://git.example.com/hello.git.
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv)
    if (action !== 'add') throw new UnknownAction(action)
    await add(rest, context)
    return 0
  },
}
