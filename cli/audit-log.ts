// `flynn cluster audit-log`: who changed what, from where, and with which result. Newest last, as logs are read.
import type { ControllerClient } from '../controller/client.ts'
import type { AuditEntry, AuditFilter } from '../controller/types.ts'
import { table } from '../pkg/table/table.ts'
import type { CommandContext } from './context.ts'
import { orUndefined } from './missing.ts'
import { parse, UsageError } from './usage.ts'

export const auditOptions = {
  number: { type: 'string', short: 'n' },
  app: { type: 'string' },
  actor: { type: 'string' },
  since: { type: 'string' },
  until: { type: 'string' },
  failed: { type: 'boolean' },
  reports: { type: 'boolean' },
} as const

const resultOf = (entry: AuditEntry) => `${entry.status}${entry.error === undefined ? '' : ` ${entry.error}`}`

/** Calls name an app by name or by id, and the log keeps it as it was named: both are looked for. */
async function ofApp(
  client: ControllerClient,
  given: string,
  filter: AuditFilter,
): Promise<readonly AuditEntry[]> {
  const app = await orUndefined(client.app(given))
  const names = app === undefined ? [given] : [app.id, app.name]
  const lists = await Promise.all(names.map(name => client.auditLog({ ...filter, app: name })))
  const entries = lists.flat().sort((a, b) => b.id - a.id)
  return filter.count === undefined ? entries : entries.slice(0, filter.count)
}

export async function auditLog(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0, options: auditOptions })
  const number = args.text('number')
  if (number !== undefined && !/^\d+$/.test(number)) throw new UsageError('--number wants a whole number')
  const texts = (['actor', 'since', 'until'] as const).flatMap(name => {
    const value = args.text(name)
    return value === undefined ? [] : [[name, value] as const]
  })
  const filter: AuditFilter = {
    ...Object.fromEntries(texts),
    ...(number === undefined ? {} : { count: Number(number) }),
    ...(args.flag('failed') ? { result: 'failed' as const } : {}),
    ...(args.flag('reports') ? { reports: true } : {}),
  }
  const client = await context.client()
  const app = args.text('app')
  const entries = app === undefined ? await client.auditLog(filter) : await ofApp(client, app, filter)
  const rows = entries
    .toReversed()
    .map(e => [e.created_at, e.user ?? e.actor, e.address, e.method, e.path, resultOf(e)])
  context.print(args, entries, table([['TIME', 'WHO', 'FROM', 'METHOD', 'PATH', 'RESULT'], ...rows]))
}
