// `flynn cluster log-sink` (contracts cli.md 8.8, system-apps.md 2.6).
import { type SyslogConfig, sinkFormats } from '../controller/types.ts'
import { table } from '../pkg/table/table.ts'
import type { CommandContext } from './context.ts'
import { errors } from './errors.ts'
import { parse, splitAction, UnknownAction, UsageError } from './usage.ts'

const options = {
  'use-ids': { type: 'boolean' },
  insecure: { type: 'boolean' },
  format: { type: 'string' },
} as const

async function list(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { max: 0 })
  const sinks = await (await context.client()).sinks()
  const rows = sinks.map(s => [s.id, s.kind, JSON.stringify(s.config ?? {})])
  context.print(args, sinks, table([['ID', 'KIND', 'CONFIG'], ...rows]))
}

function schemeOf(url: string): string {
  return /^([a-z][a-z0-9+.-]*):/i.exec(url)?.[1] ?? ''
}

function formatOf(text: string): (typeof sinkFormats)[number] {
  const format = sinkFormats.find(f => f === text)
  if (format === undefined) throw errors.SINK_FORMAT({ format: text })
  return format
}

async function add(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 2, max: 3, options })
  const [kind, url = '', prefix] = args.rest
  if (kind !== 'syslog') throw new UsageError(`"${kind}" is no kind of log sink; syslog is the only one`)
  const scheme = schemeOf(url)
  if (scheme !== 'syslog' && scheme !== 'syslog+tls') throw errors.SINK_PROTOCOL({ scheme })
  const config: SyslogConfig = {
    url,
    ...(prefix === undefined ? {} : { template: prefix }),
    ...(args.flag('use-ids') ? { use_ids: true } : {}),
    ...(args.flag('insecure') ? { insecure: true } : {}),
    format: formatOf(args.text('format') ?? 'rfc6587'),
  }
  const sink = await (await context.client()).createSink({ kind, config })
  context.done(args, sink, `Created sink ${sink.id}.`)
}

async function remove(argv: readonly string[], context: CommandContext): Promise<void> {
  const args = parse(argv, { min: 1, max: 1 })
  const sink = await (await context.client()).deleteSink(args.rest[0] ?? '')
  context.done(args, sink, `Deleted sink ${sink.id}.`)
}

export async function logSink(argv: readonly string[], context: CommandContext): Promise<void> {
  const { action, rest } = splitAction(argv, options)
  if (action === undefined || action === 'list') await list(rest, context)
  else if (action === 'add') await add(rest, context)
  else if (action === 'remove') await remove(rest, context)
  else throw new UnknownAction(action)
}
