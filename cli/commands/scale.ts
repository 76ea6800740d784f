// `flynn scale`: counts of now, or a change that is followed to its end (contract cli.md 8.2).
import type { ControllerClient } from '../../controller/client.ts'
import type { ControllerEvent, Job, Processes, Release, ScaleRequest } from '../../controller/types.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import type { Command } from '../command.ts'
import type { CommandContext } from '../context.ts'
import { openEvents } from '../deploying.ts'
import { errors } from '../errors.ts'
import { followJobs, jobLine } from '../following.ts'
import { stderrLive } from '../live.ts'
import { orUndefined } from '../missing.ts'
import { diffMaps, diffScale } from '../plan.core.ts'
import { goesOn } from '../planning.ts'
import { sayOnQuit } from '../quit.ts'
import { goDuration } from '../times.ts'
import { parse } from '../usage.ts'

export const scaleTimeoutSeconds = 120
/** After so many jobs that ended by themselves, waiting longer brings nothing. */
export const failedJobsMax = 3

type Specs = {
  readonly processes: Readonly<Record<string, number>>
  readonly tags: Readonly<Record<string, Readonly<Record<string, string>>>>
}

/** `TYPE=COUNT[,KEY=VALUE...]` words; a bare key means true. */
export function parseSpecs(words: readonly string[]): Specs {
  const processes: Record<string, number> = {}
  const tags: Record<string, Record<string, string>> = {}
  for (const word of words) {
    const [, type, spec] = /^([^=]+)=(.*)$/s.exec(word) ?? []
    if (type === undefined || spec === undefined) throw errors.SCALE_FORMAT({ text: word })
    const [count = '', ...pairs] = spec.split(',')
    if (!/^\d+$/.test(count)) throw errors.SCALE_COUNT({ text: word })
    processes[type] = Number(count)
    if (pairs.length === 0) continue
    tags[type] = Object.fromEntries(
      pairs.map(pair => {
        const at = pair.indexOf('=')
        return at < 0 ? [pair, 'true'] : [pair.slice(0, at), pair.slice(at + 1)]
      }),
    )
  }
  return { processes, tags }
}

const line = (processes: Processes) =>
  Object.entries(processes)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([type, count]) => `${type}=${count}`)
    .join(' ')

type Args = { readonly json: boolean; readonly plan: boolean }

async function show(args: Args, release: Release, context: CommandContext): Promise<void> {
  const formation = await orUndefined((await context.client()).formation(await context.appName(), release.id))
  const given = formation?.processes ?? {}
  const zero = Object.fromEntries(Object.keys(release.processes ?? {}).map(type => [type, 0]))
  const text = Object.keys(given).length === 0 ? '' : `${line({ ...zero, ...given })}\n`
  context.print(
    args,
    { release: release.id, processes: { ...zero, ...given }, tags: formation?.tags ?? {} },
    text,
  )
}

async function showAll(args: Args, context: CommandContext): Promise<void> {
  const client = await context.client()
  const app = await context.appName()
  const [formations, current, releases] = await Promise.all([
    client.formations(app),
    context.release(),
    client.appReleases(app),
  ])
  const blocks = releases.flatMap(({ id }) => {
    const counts = formations.find(f => f.release === id)?.processes ?? {}
    const processes = Object.fromEntries(Object.entries(counts).filter(([, n]) => n > 0))
    return Object.keys(processes).length === 0
      ? []
      : [{ release: id, current: id === current?.id, processes }]
  })
  const text = blocks.map(b => `${b.release}${b.current ? ' (current)' : ''}\n${line(b.processes)}\n`)
  context.print(args, blocks, text.join('\n'))
}

type Change = {
  readonly app: string
  readonly release: Release
  readonly specs: Specs
  readonly wait: boolean
  readonly args: Args
}

/** Asks for the counts and prints job events until the request is complete. */
async function change(client: ControllerClient, what: Change, context: CommandContext): Promise<void> {
  const { app, release, specs, args } = what
  const formation = await orUndefined(client.formation(app, release.id))
  const changes = diffScale(formation?.processes, specs.processes)
  const tagChanges = Object.entries(specs.tags).flatMap(([type, tags]) =>
    diffMaps(`scale ${type} tag`, formation?.tags?.[type], tags),
  )
  if (!(await goesOn(context, args, { changes: [...changes, ...tagChanges], steps: [] }))) return
  const said = changes.map(c => `${c.what.replace('scale ', '')}: ${c.before}=>${c.after}`)
  const announce = () => {
    if (!args.json) context.out(`scaling ${said.join(', ')}\n\n`)
  }
  const request = {
    new_processes: { ...specs.processes },
    new_tags: structuredClone(specs.tags) as Record<string, Record<string, string>>,
  }
  if (what.wait) {
    await follow(client, { ...what, announce }, request, context)
    return
  }
  const made = await client.createScale(app, release.id, request)
  announce()
  if (args.json) context.print(args, made, '')
}

async function follow(
  client: ControllerClient,
  { app, release, args, announce }: Change & { readonly announce: () => void },
  request: Parameters<ControllerClient['createScale']>[2],
  context: CommandContext,
): Promise<void> {
  const timeout = AbortSignal.timeout(scaleTimeoutSeconds * 1000)
  const began = performance.now()
  const types = ['job', 'scale_request', 'scale_request_cancelation'] as const
  const events = await openEvents(client, { app, types, signal: timeout })
  const restore = sayOnQuit('The scaling goes on: flynn scale and flynn ps show how far it is.')
  const live = stderrLive()
  // Job lines are data here, on standard output; only what failed and why goes beside them.
  const jobs = followJobs({ client, app, release: release.id, live, lines: false })
  try {
    const made = await client.createScale(app, release.id, request)
    announce()
    for await (const event of events) {
      if (event.object_type === 'job') {
        const job = event as ControllerEvent<Job>
        jobs.event(job)
        if (job.data.release === release.id && !args.json) context.out(`${jobLine(job)}\n`)
        if (jobs.failures() >= failedJobsMax) throw errors.SCALE_FAILING()
        continue
      }
      const scale = (event as ControllerEvent<ScaleRequest>).data
      if (scale?.id !== made.id) continue
      if (scale.state === 'cancelled') throw errors.SCALE_CANCELLED()
      if (scale.state !== 'complete') continue
      context.print(args, scale, `\nscale completed in ${goDuration(performance.now() - began)}\n`)
      return
    }
  } catch (e) {
    await jobs.settleFailed()
    if (isFlynnError(e)) throw e
    throw timeout.aborted ? errors.SCALE_TIMEOUT({ seconds: scaleTimeoutSeconds }) : e
  } finally {
    events.close()
    restore()
    live.close()
  }
}

export const scale: Command = {
  usage: `usage: flynn scale [-n] [-r <release>] [--plan] [--json] [<type>=<spec>...]
       flynn scale --all [--json]

Show the process counts of a release, or change them and wait until they are reached.

Options:
  -n, --no-wait            do not wait
  -r, --release=<release>  another release than the current one
  -a, --all                show every release that has processes
  --plan                   show what would change; on a terminal, ask before it is done
  --json                   print as JSON

A spec is COUNT[,TAG=VALUE...]: jobs run only on hosts that have the tags.

Examples:
  $ flynn -a hello scale
  web=1 worker=0

  $ flynn -a hello scale web=2 worker=1,disk=ssd
`,
  async run(argv, context) {
    const args = parse(argv, {
      plan: true,
      options: {
        'no-wait': { type: 'boolean', short: 'n' },
        release: { type: 'string', short: 'r' },
        all: { type: 'boolean', short: 'a' },
      },
    })
    const releaseId = args.text('release')
    if (args.flag('all')) {
      if (releaseId !== undefined || args.rest.length > 0) throw errors.SCALE_ALL()
      await showAll(args, context)
      return 0
    }
    const specs = parseSpecs(args.rest)
    const client = await context.client()
    const release = releaseId === undefined ? await context.mustRelease() : await client.release(releaseId)
    if (args.rest.length === 0) {
      await show(args, release, context)
      return 0
    }
    const unknown = Object.keys(specs.processes).filter(type => !release.processes?.[type])
    if (unknown.length > 0) {
      const known = Object.keys(release.processes ?? {}).sort()
      throw errors.SCALE_UNKNOWN({
        types: unknown.map(t => `"${t}"`).join(', '),
        known: known.length === 0 ? 'none' : known.join(', '),
      })
    }
    const app = (await context.app()).id
    await change(client, { app, release, specs, wait: !args.flag('no-wait'), args }, context)
    return 0
  },
}
