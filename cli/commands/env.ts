// `flynn env` (contract cli.md 8.3): every change is a new release, deployed before the command ends.
import type { Release, ReleaseInput } from '../../controller/types.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { changeRelease, copyRelease } from '../deploying.ts'
import { errors } from '../errors.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'

const options = { 'process-type': { type: 'string', short: 't' } } as const

type Edit = (env: Record<string, string>) => void

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0, options })
  const release = await context.release()
  const type = args.text('process-type')
  const env = { ...release?.env, ...(type === undefined ? {} : release?.processes?.[type]?.env) }
  const lines = Object.entries(env).sort(([a], [b]) => (a < b ? -1 : 1))
  context.print(args, Object.fromEntries(lines), lines.map(([k, v]) => `${k}=${v}\n`).join(''))
}

/** The release after `edit` has changed its variables, or those of one process type. */
function withEnv(
  before: Release | undefined,
  input: ReleaseInput,
  type: string | undefined,
  edit: Edit,
): ReleaseInput {
  if (type === undefined) {
    const env = { ...input.env }
    edit(env)
    return { ...input, env }
  }
  const process = input.processes?.[type]
  if (!process) throw errors.PROCESS_MISSING({ type, release: before?.id ?? '(none)' })
  const env = { ...process.env }
  edit(env)
  return { ...input, processes: { ...input.processes, [type]: { ...process, env } } }
}

/** Deploys a release with changed variables, or only shows the plan; undefined then. */
export async function changeEnv(
  context: CommandContext,
  args: { readonly json: boolean; readonly plan: boolean },
  type: string | undefined,
  edit: Edit,
): Promise<Release | undefined> {
  const app = await context.app()
  const before = await context.release()
  const after = withEnv(before, copyRelease(before, app), type, edit)
  return await changeRelease(context, args, { app, before, after })
}

async function set(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, options, plan: true })
  const pairs = args.rest.map(word => {
    const at = word.indexOf('=')
    if (at < 1) throw errors.VAR_FORMAT({ text: word })
    return [word.slice(0, at), word.slice(at + 1)] as const
  })
  const release = await changeEnv(context, args, args.text('process-type'), env =>
    Object.assign(env, Object.fromEntries(pairs)),
  )
  if (release) context.done(args, release, `Created release ${release.id}.`)
}

async function unset(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, options, plan: true })
  const release = await changeEnv(context, args, args.text('process-type'), env => {
    for (const name of args.rest) delete env[name]
  })
  if (release) context.done(args, release, `Created release ${release.id}.`)
}

async function get(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1, options })
  const [name = ''] = args.rest
  const release = await context.release()
  if (release === undefined) throw errors.NO_RELEASE_FOUND()
  const type = args.text('process-type')
  if (type !== undefined && !release.processes?.[type])
    throw errors.PROCESS_TYPE_MISSING({ type, release: release.id })
  const value =
    (type === undefined ? undefined : release.processes?.[type]?.env?.[name]) ?? release.env?.[name]
  if (value === undefined) throw errors.VAR_MISSING({ name, release: release.id })
  context.print(args, value, `${value}\n`)
}

export const env: Command = {
  usage: `usage: flynn env [-t <proc>] [--json]
       flynn env set [-t <proc>] [--plan] [--json] <var>=<val>...
       flynn env unset [-t <proc>] [--plan] [--json] <var>...
       flynn env get [-t <proc>] [--json] <var>

Show or change the environment of an app. A change is deployed before the command ends.

Options:
  -t, --process-type=<proc>  only for this process type
  --plan                     show what would change; on a terminal, ask before it is done
  --json                     print as JSON

Examples:
  $ flynn -a hello env set LOG_LEVEL=debug
  Created release 5058ae79-64f7-4c39-9a24-0bdd6e7d1bcb.

  $ flynn -a hello env get LOG_LEVEL
  debug
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv, options)
    if (action === 'set') await set(rest, context)
    else if (action === 'unset') await unset(rest, context)
    else if (action === 'get') await get(rest, context)
    else if (action === undefined) await list(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
