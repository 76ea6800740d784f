// Databases of apps: the tools of a database appliance's own release, run as a job of the user's app, which has the
// access data (contracts cli.md 8.6, system-apps.md 10). One description per kind, the same three actions for all.
// Passwords go by environment, never on a command line, which others can read.
import { createReadStream, createWriteStream } from 'node:fs'
import { stat } from 'node:fs/promises'
import { PassThrough, type Readable } from 'node:stream'
import { finished } from 'node:stream/promises'
import type { NewJob } from '../controller/types.ts'
import { runAttached } from './attached.ts'
import type { Command } from './command.ts'
import type { CommandContext } from './context.ts'
import { errors } from './errors.ts'
import { meter } from './meter.ts'
import { orUndefined } from './missing.ts'
import { parse, splitAction, UnknownAction, UsageError } from './usage.ts'

/** Variables of the app's release: how its database is reached. */
export type Access = Readonly<Record<string, string>>

/** The part of a job that is the tool's. */
export type Tool = { readonly args: readonly string[]; readonly env?: Access; readonly data?: boolean }

export type Appliance = {
  /** Name of the provider: `flynn resource add <kind>`. */
  readonly kind: string
  readonly what: 'database' | 'server'
  /** Variable that names the appliance's app. */
  readonly selector: string
  readonly needed: readonly string[]
  /** Name of the action with a terminal: psql, console, mongo, redis-cli. */
  readonly console: string
  consoleTool(access: Access, words: readonly string[]): Tool
  dumpTool(access: Access, format: string | undefined): Tool
  restoreTool(access: Access, jobs: number): Tool
  /** Options of its own: `--format` of dump, `--jobs` of restore. */
  readonly formats: boolean
  readonly parallel: boolean
  readonly usage: string
}

export const pager: Access = {
  PAGER: 'less',
  LESS: '--ignore-case --LONG-PROMPT --SILENT --tabs=4 --quit-if-one-screen --no-init --quit-at-eof',
}

type Target = { readonly app: string; readonly release: string; readonly access: Access }

async function findTarget(appliance: Appliance, context: CommandContext): Promise<Target> {
  const { kind, what, selector, needed } = appliance
  const client = await context.client()
  const app = await context.app()
  const env = (await context.mustRelease()).env ?? {}
  const name = env[selector]
  if (!name) throw errors.NO_DATABASE({ kind, what })
  const access: Record<string, string> = { [selector]: name }
  for (const key of needed) {
    const value = env[key]
    if (!value) throw errors.DATABASE_ENV({ name: key, kind })
    access[key] = value
  }
  const release = await orUndefined(client.appRelease(name))
  if (!release) throw errors.DATABASE_RELEASE()
  return { app: app.id, release: release.id, access }
}

function jobOf(target: Target, tool: Tool): NewJob {
  return {
    release: target.release,
    args: [...tool.args],
    disable_log: true,
    env: { ...target.access, ...tool.env },
    ...(tool.data ? { data: true } : {}),
  }
}

async function openConsole(
  appliance: Appliance,
  argv: readonly string[],
  context: CommandContext,
): Promise<number> {
  const words = argv[0] === '--' ? argv.slice(1) : argv
  const target = await findTarget(appliance, context)
  const tool = appliance.consoleTool(target.access, words)
  const job = jobOf(target, { ...tool, env: { ...pager, ...tool.env } })
  return await runAttached(await context.client(), { app: target.app, job })
}

/** An input that has ended: dumps read nothing. */
function nothing(): Readable {
  const stream = new PassThrough()
  stream.end()
  return stream
}

async function dump(appliance: Appliance, argv: readonly string[], context: CommandContext): Promise<number> {
  const args = parse(argv, {
    max: 0,
    json: false,
    options: {
      quiet: { type: 'boolean', short: 'q' },
      file: { type: 'string', short: 'f' },
      ...(appliance.formats ? { format: { type: 'string' } as const } : {}),
    },
  })
  const target = await findTarget(appliance, context)
  const path = args.text('file')
  const format = appliance.formats ? (args.text as (name: string) => string | undefined)('format') : undefined
  const job = jobOf(target, appliance.dumpTool(target.access, format))
  const file = path === undefined ? process.stdout : createWriteStream(path)
  const output = meter({ quiet: args.flag('quiet') })
  output.stream.pipe(file, { end: path !== undefined })
  try {
    const input = nothing()
    const code = await runAttached(await context.client(), {
      app: target.app,
      job,
      input,
      output: output.stream,
    })
    output.stream.end()
    if (path !== undefined) await finished(file)
    return code
  } finally {
    output.close()
  }
}

async function restore(
  appliance: Appliance,
  argv: readonly string[],
  context: CommandContext,
): Promise<number> {
  const args = parse(argv, {
    max: 0,
    json: false,
    options: {
      quiet: { type: 'boolean', short: 'q' },
      file: { type: 'string', short: 'f' },
      ...(appliance.parallel ? { jobs: { type: 'string', short: 'j' } as const } : {}),
    },
  })
  const text =
    (appliance.parallel ? (args.text as (name: string) => string | undefined)('jobs') : undefined) ?? '1'
  if (!/^[1-9]\d*$/.test(text)) throw new UsageError('--jobs wants a number from 1 up')
  const path = args.text('file')
  const total = path === undefined ? undefined : await sizeOf(path)
  const target = await findTarget(appliance, context)
  const source = path === undefined ? process.stdin : createReadStream(path)
  const input = meter({ quiet: args.flag('quiet'), total })
  source.on('error', (e: Error) => input.stream.destroy(e))
  source.pipe(input.stream)
  const job = jobOf(target, appliance.restoreTool(target.access, Number(text)))
  try {
    const client = await context.client()
    return await runAttached(client, { app: target.app, job, input: input.stream, output: process.stdout })
  } finally {
    input.close()
    if (path !== undefined) source.unpipe().destroy()
  }
}

async function sizeOf(path: string): Promise<number> {
  return await stat(path).then(
    s => s.size,
    (e: Error) => {
      throw errors.FILE_UNREADABLE({ path, reason: e.message }, { cause: e })
    },
  )
}

/** The command of one kind of database. */
export function applianceCommand(appliance: Appliance): Command {
  const options = {
    file: { type: 'string', short: 'f' },
    jobs: { type: 'string', short: 'j' },
    format: { type: 'string' },
  } as const
  return {
    usage: appliance.usage,
    async run(argv, context) {
      // What follows the console's name belongs to it.
      if (argv[0] === appliance.console) return await openConsole(appliance, argv.slice(1), context)
      const { action, rest } = splitAction(argv, options)
      if (action === 'dump') return await dump(appliance, rest, context)
      if (action === 'restore') return await restore(appliance, rest, context)
      throw new UnknownAction(action)
    },
  }
}
