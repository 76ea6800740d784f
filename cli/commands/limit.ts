// `flynn limit` (contract cli.md 8.3): what each process type may use; a change is a new release, deployed.
import type { ProcessType } from '../../controller/types.ts'
import { table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { changeRelease, copyRelease } from '../deploying.ts'
import { errors } from '../errors.ts'
import { defaultLimits, effectiveLimits, formatLimit, parseLimits } from '../limits.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

const options = { 'process-type': { type: 'string', short: 't' } } as const
/** Not in a release, but started with limits from it. */
const builder = 'slugbuilder'

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0, options })
  const processes = (await context.release())?.processes ?? {}
  const type = args.text('process-type')
  if (type !== undefined && !processes[type]) throw errors.LIMIT_TYPE_UNKNOWN({ type })
  const types = type === undefined ? Object.keys(processes).sort() : [type]
  const limits = types.map(name => [name, effectiveLimits(processes[name]?.resources)] as const)
  const rows = limits.map(([name, values]) => [
    `${name}:`,
    ...Object.entries(values)
      .sort(([a], [b]) => (a < b ? -1 : 1))
      .map(([key, value]) => `${key}=${formatLimit(key, value)}`),
  ])
  context.print(args, Object.fromEntries(limits), table(rows))
}

/** With the defaults written down the first time, so that a later change of them changes no app. */
function limited(process: ProcessType | undefined, words: readonly string[]): ProcessType {
  const defaults = Object.fromEntries(
    Object.entries(defaultLimits).map(([name, limit]) => [name, { request: limit, limit }]),
  )
  return { ...process, resources: { ...defaults, ...process?.resources, ...parseLimits(words) } }
}

async function set(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 2, plan: true })
  const [type = '', ...words] = args.rest
  const app = await context.app()
  const before = await context.mustRelease()
  const process = before.processes?.[type]
  if (!process && type !== builder)
    context.notice(`warning: release ${before.id} has no process type "${type}"; it is created`)
  const input = copyRelease(before, app)
  const after = { ...input, processes: { ...input.processes, [type]: limited(process, words) } }
  const release = await changeRelease(context, args, { app, before, after })
  if (release) context.print(args, release, `Created release ${release.id}\n`)
}

export const limit: Command = {
  usage: `usage: flynn limit [-t <proc>] [--json]
       flynn limit set [--plan] [--json] <proc> <var>=<val>...

Show or set what the processes of an app may use. A change is deployed before the command ends.

Options:
  -t, --process-type=<proc>  only of this process type
  --plan                     show what would change; on a terminal, ask before it is done
  --json                     print as JSON

Limits:
  memory     bytes of memory, such as 512MB or 1GB
  cpu        thousandths of a processor
  temp_disk  bytes of temporary files
  max_fd     open files
  max_procs  processes and threads

Examples:
  $ flynn -a hello limit
  web:  cpu=1000  max_fd=10000  memory=1GB  temp_disk=100MB

  $ flynn -a hello limit set web memory=512MB max_fd=12000 cpu=500
  Created release 5058ae79-64f7-4c39-9a24-0bdd6e7d1bcb
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv, options)
    if (action === 'set') await set(rest, context)
    else if (action === undefined) await list(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
