// `flynn resource` and `flynn provider` (contract cli.md 8.5).
import type { Resource } from '../../controller/types.ts'
import { table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { errors } from '../errors.ts'
import { failureText } from '../failure.ts'
import { type Change, deploymentStep, type Plan } from '../plan.core.ts'
import { goesOn } from '../planning.ts'
import { parse, splitAction, UnknownAction } from '../usage.ts'
import { changeEnv } from './env.ts'

const atOnce = { json: false, plan: false } as const

/** What a resource does to what runs, which is the same as a change of variables does. */
async function planOf(context: CommandContext, change: Change): Promise<Plan> {
  const app = await context.app()
  const release = await context.release()
  const formations = release === undefined ? [] : await (await context.client()).formations(app.id)
  const running = formations.find(f => f.release === release?.id)?.processes
  return { changes: [change], steps: [deploymentStep({ strategy: app.strategy, running })] }
}

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const client = await context.client()
  const resources = await client.appResources(await context.appName())
  const names = new Map((await client.providers()).map(p => [p.id, p.name]))
  const rows = resources.map(r => [r.id, r.provider, names.get(r.provider) ?? ''])
  const value = resources.map(r => ({ ...r, provider_name: names.get(r.provider) ?? '' }))
  context.print(args, value, table([['ID', 'Provider ID', 'Provider Name'], ...rows]))
}

async function add(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1, plan: true })
  const app = await context.app()
  const client = await context.client()
  const name = (await client.provider(args.rest[0] ?? '')).name
  if (!(await goesOn(context, args, () => planOf(context, { action: 'add', what: `resource ${name}` }))))
    return
  const resource = await client.provisionResource(args.rest[0] ?? '', { apps: [app.id], config: null })
  const change = changeEnv(context, atOnce, undefined, env => Object.assign(env, resource.env))
  const release = await change.catch(async e => {
    // An app that has a resource and does not know its address is half changed.
    await client.deleteResource(name, resource.id)
    throw errors.RESOURCE_TAKEN_BACK({ reason: failureText(e) }, { cause: e })
  })
  const text = `Created resource ${resource.id} and release ${release?.id}.`
  context.done(args, { resource, release }, text)
}

async function find(provider: string, id: string | undefined, context: CommandContext): Promise<Resource> {
  const client = await context.client()
  const providerId = (await client.provider(provider)).id
  const own = (await client.appResources(await context.appName())).filter(r => r.provider === providerId)
  const fitting = id === undefined ? own : own.filter(r => r.id === id)
  const [only] = fitting
  if (!only) throw errors.RESOURCE_NONE({ provider })
  if (fitting.length > 1) throw errors.RESOURCE_AMBIGUOUS({ count: fitting.length, provider })
  return only
}

async function remove(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 2, plan: true })
  const [provider = '', id] = args.rest
  const resource = await find(provider, id, context)
  const what = `resource ${provider} ${resource.id} and its data`
  if (!(await goesOn(context, args, () => planOf(context, { action: 'remove', what })))) return
  await (await context.client()).deleteResource(provider, resource.id)
  const release = await changeEnv(context, atOnce, undefined, env => {
    for (const [name, value] of Object.entries(resource.env ?? {})) if (env[name] === value) delete env[name]
  })
  const text = `Deleted resource ${resource.id}, created release ${release?.id}.`
  context.done(args, { resource, release }, text)
}

export const resource: Command = {
  usage: `usage: flynn resource [--json]
       flynn resource add [--plan] [--json] <provider>
       flynn resource remove [--plan] [--json] <provider> [<resource>]

Manage the databases and other resources of an app; their addresses are put into its environment.

Options:
  --plan  show what would change; on a terminal, ask before it is done
  --json  print as JSON

Example:
  $ flynn -a hello resource add postgres
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv)
    if (action === undefined) await list(rest, context)
    else if (action === 'add') await add(rest, context)
    else if (action === 'remove') await remove(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}

async function listProviders(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const providers = await (await context.client()).providers()
  const rows = [['ID', 'NAME', 'URL'], ...providers.map(p => [p.id, p.name, p.url])]
  context.print(args, providers, providers.length === 0 ? '' : table(rows))
}

async function addProvider(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 2, max: 2 })
  const [name = '', url = ''] = args.rest
  const made = await (await context.client()).createProvider({ name, url })
  context.done(args, made, `Created provider ${made.name}.`)
}

export const provider: Command = {
  usage: `usage: flynn provider [--json]
       flynn provider add [--json] <name> <url>

Manage what resources can be had from.

Options:
  --json  print as JSON

Example:
  $ flynn provider add postgres http://postgres-api.discoverd/databases
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv)
    if (action === 'add') await addProvider(rest, context)
    else if (action === undefined) await listProviders(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
