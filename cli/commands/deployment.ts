// `flynn deployment` (contract cli.md 8.3).
import { table } from '../../pkg/table/table.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { errors } from '../errors.ts'
import type { Plan } from '../plan.core.ts'
import { goesOn } from '../planning.ts'
import { ago } from '../times.ts'
import { parse, splitAction, UnknownAction, UsageError } from '../usage.ts'

const batchSizeKey = 'flynn-deploy-batch-size'

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const deployments = await (await context.client()).deployments(await context.appName())
  const rows = deployments.map(d => [d.id, d.status ?? '', ago(d.created_at), ago(d.finished_at)])
  context.print(args, deployments, table([['ID', 'STATUS', 'CREATED', 'FINISHED'], ...rows]))
}

function wholeNumber(name: string, text: string | undefined): number | undefined {
  if (text === undefined) return undefined
  if (!/^[1-9]\d*$/.test(text)) throw new UsageError(`${name} wants a whole number from 1 up`)
  return Number(text)
}

function setting(what: string, before: number | undefined, after: number): Plan {
  if (before === after) return { changes: [], steps: [] }
  const values = { after: String(after), ...(before === undefined ? {} : { before: String(before) }) }
  return { changes: [{ action: before === undefined ? 'add' : 'change', what, ...values }], steps: [] }
}

async function timeout(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1, plan: true })
  const seconds = wholeNumber('timeout', args.rest[0])
  const app = await context.app()
  if (seconds === undefined) {
    context.print(args, app.deploy_timeout, `${app.deploy_timeout}\n`)
    return
  }
  if (!(await goesOn(context, args, setting('deploy timeout', app.deploy_timeout, seconds)))) return
  const changed = await (await context.client()).updateApp(app.id, { deploy_timeout: seconds })
  if (args.json) context.print(args, changed.deploy_timeout, '')
}

async function batchSize(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1, plan: true })
  const size = wholeNumber('batch-size', args.rest[0])
  const app = await context.app()
  const value = app.meta[batchSizeKey]
  const before = value === undefined ? undefined : Number(value)
  if (size === undefined) {
    context.print(args, before ?? null, `${value ?? 'not set'}\n`)
    return
  }
  if (!(await goesOn(context, args, setting('deploy batch size', before, size)))) return
  // The server replaces the whole map, so the other keys are sent along (contract cli.md 14.19).
  await (await context.client()).updateAppMeta(app.id, { ...app.meta, [batchSizeKey]: String(size) })
  if (args.json) context.print(args, size, '')
}

/** Gives the deployment that is under way up and waits until the old release is back. */
async function cancel(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 1, plan: true })
  const client = await context.client()
  const app = await context.app()
  const id = args.rest[0] ?? (await client.deployments(app.id)).find(d => d.finished_at === undefined)?.id
  if (id === undefined) throw errors.NO_DEPLOYMENT()
  const steps = async () => ({
    changes: [],
    steps: [`deployment ${id} ends; release ${(await client.deployment(id)).old_release} runs on`],
  })
  if (!(await goesOn(context, args, steps))) return
  const events = client.streamDeployment({ id, app: app.id })
  await client.cancelDeployment(id)
  for await (const { data } of events) if (data.status === 'failed' || data.status === 'complete') break
  const ended = await client.deployment(id)
  if (ended.status === 'complete') throw errors.DEPLOYMENT_COMPLETE({ id })
  context.done(args, ended, `Cancelled deployment ${id}.`)
}

export const deployment: Command = {
  usage: `usage: flynn deployment [--json]
       flynn deployment cancel [--plan] [--json] [<id>]
       flynn deployment timeout [--plan] [--json] [<seconds>]
       flynn deployment batch-size [--plan] [--json] [<size>]

List the deployments of an app, give up the one under way, or show or set how they are made.

Options:
  --plan  show what would change; on a terminal, ask before it is done
  --json  print as JSON

Examples:
  $ flynn -a hello deployment timeout 300
  $ flynn -a hello deployment cancel
`,
  async run(argv, context) {
    const { action, rest } = splitAction(argv)
    if (action === undefined) await list(rest, context)
    else if (action === 'cancel') await cancel(rest, context)
    else if (action === 'timeout') await timeout(rest, context)
    else if (action === 'batch-size') await batchSize(rest, context)
    else throw new UnknownAction(action)
    return 0
  },
}
