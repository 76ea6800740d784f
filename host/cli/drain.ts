// `flynn-host drain`: a host gives its jobs and data to the others (contract host.md 1.12). The host keeps the wish, the
// scheduler carries it out; this command asks for it and shows how far it is, so that its own end changes nothing.
import { sleep } from '../../pkg/clock/clock.ts'
import { describeError, errorTable } from '../../pkg/errors/errors.ts'
import { table } from '../../pkg/table/table.ts'
import type { ClusterHost } from '../client.ts'
import { isActive } from '../types.ts'
import { type Command, type Context, on, text, UsageError } from './command.ts'
import { type DrainLine, drainLines, drainNews, type ForeignJob, parseDuration } from './drain-view.core.ts'
import { cliErrors } from './hosts.ts'
import { drainReportOf } from './scheduler.ts'

export const drainTimeoutDefault = '30m'
const pollMs = 500
/** Exit status after Ctrl-C, as shells have it. */
const interruptedStatus = 130

const errors = errorTable({
  TIMEOUT: {
    status: 504,
    message: '{host} is not drained after {seconds} s: {left}',
    remedy:
      'the drain goes on; see how far it is with: flynn-host drain {host}, end it with: flynn-host drain --cancel {host}',
  },
})

/** Jobs that were started by hand: nobody moves those. */
async function foreignJobs(host: ClusterHost): Promise<readonly ForeignJob[]> {
  const jobs = Object.values(await host.client.jobs({ active: true }))
  return jobs
    .filter(j => isActive(j) && !j.job.metadata?.['flynn-controller.app'])
    .map(j => ({ id: j.job.id, program: j.job.config.args?.[0] ?? '' }))
}

type Look = {
  readonly lines: readonly DrainLine[]
  readonly done: boolean
  /** Why nothing can be said. */
  readonly trouble?: string
}

async function look(context: Context, host: ClusterHost): Promise<Look> {
  try {
    const [report, foreign] = await Promise.all([drainReportOf(context, host.id), foreignJobs(host)])
    const done = report.known && report.draining && report.done && foreign.length === 0
    return { lines: drainLines(report, foreign), done }
  } catch (e) {
    return { lines: [], done: false, trouble: describeError(e) }
  }
}

function show(context: Context, json: boolean, value: Readonly<Record<string, unknown>>, line: string): void {
  context.stdout.write(json ? `${JSON.stringify(value)}\n` : `${line}\n`)
}

async function plan(context: Context, host: ClusterHost, json: boolean): Promise<number> {
  const [report, foreign] = await Promise.all([drainReportOf(context, host.id), foreignJobs(host)])
  const lines = drainLines(report, foreign)
  if (json) {
    context.stdout.write(`${JSON.stringify({ host: host.id, plan: lines })}\n`)
    return 0
  }
  const rows = lines.map(l => [l.what, l.action, l.text])
  context.stdout.write(table([['WHAT', 'ACTION', 'HOW'], ...rows]))
  context.stdout.write(`Nothing was changed. Begin with: flynn-host drain ${host.id}\n`)
  return 0
}

async function cancel(context: Context, host: ClusterHost, json: boolean): Promise<number> {
  await host.client.cancelDrain()
  const said = `${host.id} takes jobs again; a volume that was half moved stays where its job is`
  show(context, json, { host: host.id, event: 'cancelled' }, said)
  return 0
}

function stays(lines: readonly DrainLine[]): string {
  const names = lines.filter(l => l.action === 'stay').map(l => l.what.split(' ')[0])
  return names.length === 0 ? '' : ` Until it is removed it keeps ${names.join(', ')}.`
}

type Watch = { readonly timeoutMs: number; readonly json: boolean; readonly signal: AbortSignal }

/** Shows what changes until nothing is left, or the time is over. */
async function follow(context: Context, host: ClusterHost, watch: Watch): Promise<void> {
  const { json, signal, timeoutMs } = watch
  const begun = Date.now()
  const stamp = () => `${((Date.now() - begun) / 1000).toFixed(1)}s`.padStart(7)
  let before = new Map<string, DrainLine>()
  let trouble: string | undefined
  for (;;) {
    const now = await look(context, host)
    if (now.trouble !== undefined && now.trouble !== trouble)
      show(
        context,
        json,
        { host: host.id, event: 'trouble', text: now.trouble },
        `${stamp()}  ${now.trouble}`,
      )
    trouble = now.trouble
    if (trouble === undefined) {
      for (const line of drainNews(before, now.lines))
        show(
          context,
          json,
          { host: host.id, event: 'progress', ...line },
          `${stamp()}  ${line.what}: ${line.text}`,
        )
      before = new Map(now.lines.map(line => [line.key, line]))
    }
    if (now.done) {
      const said = `${host.id} is drained.${stays(now.lines)}\nTake it out with: flynn-host remove ${host.id}, or give it jobs again with: flynn-host drain --cancel ${host.id}`
      show(context, json, { host: host.id, event: 'drained', stays: now.lines.map(l => l.what) }, said)
      return
    }
    if (Date.now() - begun > timeoutMs) {
      const left = now.lines.filter(l => l.action !== 'stay').map(l => `${l.what}: ${l.text}`)
      throw errors.TIMEOUT({
        host: host.id,
        seconds: timeoutMs / 1000,
        left: trouble ?? left.join('; '),
      })
    }
    await sleep(pollMs, signal)
  }
}

async function drain(context: Context, host: ClusterHost, watch: Omit<Watch, 'signal'>): Promise<number> {
  await host.client.drain()
  const stop = new AbortController()
  const interrupt = () => stop.abort()
  process.once('SIGINT', interrupt)
  try {
    await follow(context, host, { ...watch, signal: stop.signal })
    return 0
  } catch (e) {
    if (!stop.signal.aborted) throw e
    context.stderr.write(
      `\nThe drain of ${host.id} goes on. End it with: flynn-host drain --cancel ${host.id}\n`,
    )
    return interruptedStatus
  } finally {
    process.removeListener('SIGINT', interrupt)
  }
}

export const drainCommand: Command = {
  name: 'drain',
  summary: 'Move the jobs and data of a host to the others',
  usage: `usage: flynn-host drain [--plan] [--cancel] [--json] [--timeout D] HOST

Move the jobs and volumes of a host to the other hosts and give it no new ones. Replacements are started first;
what serves from one data volume is stopped only while the last of its data is sent. Ctrl-C ends the watching, not
the drain. Exits with 1 when something is left after the timeout, and says why.

Options:
  --plan       show what would be done, and change nothing
  --cancel     the host takes jobs again
  --json       one JSON object a line
  --timeout D  how long to watch, e.g. 90s, 10m, 1h [default: ${drainTimeoutDefault}]

Examples:
  flynn-host drain --plan host2
  flynn-host drain host2
  flynn-host drain --cancel host2
`,
  options: {
    plan: { type: 'boolean' },
    cancel: { type: 'boolean' },
    json: { type: 'boolean' },
    timeout: { type: 'string' },
  },
  positionals: { min: 1, max: 1 },
  async run({ flags, rest }, context) {
    const timeoutMs = parseDuration(text(flags, 'timeout') ?? drainTimeoutDefault)
    if (timeoutMs === undefined) throw new UsageError('--timeout wants a time such as 90s, 10m or 1h')
    if (on(flags, 'plan') && on(flags, 'cancel'))
      throw new UsageError('--plan and --cancel exclude each other')
    const id = rest[0] ?? ''
    const host = (await context.hosts()).find(h => h.id === id)
    if (!host) throw cliErrors.UNKNOWN_HOST({ id })
    const json = on(flags, 'json')
    if (on(flags, 'plan')) return plan(context, host, json)
    if (on(flags, 'cancel')) return cancel(context, host, json)
    return drain(context, host, { timeoutMs, json })
  },
}
