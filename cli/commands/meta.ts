// `flynn meta` (contract cli.md 8.3): free notes on an app, some of which mean something to the platform.
import { table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { errors } from '../errors.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const { meta } = await context.app()
  const sorted = Object.entries(meta).sort(([a], [b]) => (a < b ? -1 : 1))
  context.print(args, Object.fromEntries(sorted), table([['KEY', 'VALUE'], ...sorted]))
}

/** The server replaces the whole map, so all of it is sent. */
async function change(
  context: CommandContext,
  args: { readonly json: boolean },
  edit: (meta: Record<string, string>) => void,
): Promise<void> {
  const app = await context.app()
  const meta = { ...app.meta }
  edit(meta)
  const changed = await (await context.client()).updateAppMeta(app.id, meta)
  if (args.json) context.print(args, changed.meta, '')
}

async function set(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1 })
  const pairs = args.rest.map(word => {
    const at = word.indexOf('=')
    if (at < 1) throw errors.META_FORMAT({ text: word })
    return [word.slice(0, at), word.slice(at + 1)] as const
  })
  await change(context, args, meta => Object.assign(meta, Object.fromEntries(pairs)))
}

async function unset(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1 })
  await change(context, args, meta => {
    for (const key of args.rest) delete meta[key]
  })
}

export const meta: Command = {
  usage: `usage: flynn meta [--json]
       flynn meta set [--json] <key>=<value>...
       flynn meta unset [--json] <key>...

Show or change the metadata of an app.

Options:
  --json  print as JSON

Examples:
  $ flynn -a hello meta set owner=alice
  $ flynn -a hello meta
  KEY    VALUE
  owner  alice
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv)
    if (action === 'set') await set(rest, context)
    else if (action === 'unset') await unset(rest, context)
    else if (action === undefined) await list(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
