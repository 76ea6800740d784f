// `flynn-host fix`: repairs a cluster whose parts are gone, also when the controller and discoverd are (contract host.md 9.2).
// The hosts' own job tables tell what ran. Planner and runner are those of the monitor.
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { EtcdClient } from '../../pkg/etcd/client.ts'
import { stderrProgress } from '../../pkg/progress/progress.ts'
import { HostClient, hostUrl } from '../client.ts'
import { etcdClientPort } from '../consensus.ts'
import { describeWaiting, type WaitingDatabase } from '../fix/database.core.ts'
import { letNewestLead, readWaitingDatabase } from '../fix/database.ts'
import { discoverdOf, observeCluster, observeTimeoutMs } from '../fix/observe.ts'
import { type ClusterView, describeStep, type FixPlan, type FixStep, planFix } from '../fix/plan.core.ts'
import { type FixReport, fixErrors, runFix } from '../fix/run.ts'
import type { JoinRequest } from '../types.ts'
import { type Command, type Context, list, on, text, UsageError } from './command.ts'
import { cliErrors } from './hosts.ts'

type Host = Pick<JoinRequest, 'id' | 'address'>

type Found = {
  readonly hosts: readonly Host[]
  /** Of all of them, those that answered first: a host without power costs seconds. */
  readonly addresses: readonly string[]
}

/** The hosts that are named, and all those that any of them knows. */
async function findHosts(peerIps: readonly string[], authKey: string): Promise<Found> {
  const found = new Map<string, Host>()
  const ask = async (address: string) => {
    const client = new HostClient({ url: hostUrl(address), authKey })
    return client.hosts({ retryMs: 0, timeoutMs: observeTimeoutMs })
  }
  const asked = peerIps.length > 0 ? peerIps : ['127.0.0.1']
  const answers = await Promise.allSettled(asked.map(ask))
  for (const answer of answers)
    if (answer.status === 'fulfilled')
      for (const { id, address } of answer.value) found.set(address, { id, address })
  if (found.size === 0) {
    const failed = answers.find(a => a.status === 'rejected')
    throw cliErrors.NO_HOSTS({}, { cause: failed?.reason })
  }
  for (const address of peerIps) if (!found.has(address)) found.set(address, { id: address, address })
  const near = asked.filter((_, i) => answers[i]?.status === 'fulfilled')
  return {
    hosts: [...found.values()].sort((a, b) => (a.id < b.id ? -1 : 1)),
    addresses: [...new Set([...near, ...found.keys()])],
  }
}

function requireHosts(view: ClusterView, minHosts: number): void {
  const answer = view.hosts.filter(h => h.jobs !== undefined).length
  if (answer >= minHosts) return
  const silent = view.hosts.filter(h => h.jobs === undefined).map(h => `${h.id} (${h.address})`)
  throw fixErrors.TOO_FEW_HOSTS({ found: answer, wanted: minHosts, silent: silent.join(', ') || 'more' })
}

/** Without a majority nothing can be known of it, and nothing is to be decided; the rest of the plan can be shown. */
async function databaseThatWaits(
  view: ClusterView,
  etcd: EtcdClient,
  signal: AbortSignal,
): Promise<WaitingDatabase | undefined> {
  if (!view.services || view.services.postgresLeader !== undefined) return undefined
  return readWaitingDatabase(etcd, signal).catch((e: unknown) => {
    if (isFlynnError(e, 'etcd_unavailable')) return undefined
    throw e
  })
}

/** What people read before anything is done. */
export function planText(view: ClusterView, plan: FixPlan, database?: WaitingDatabase): string {
  const lines = view.hosts.map(h => {
    const state =
      h.jobs === undefined ? 'does not answer' : h.leaving ? 'answers, is being drained' : 'answers'
    return `host ${h.id} (${h.address}) ${state}`
  })
  for (const { service, text } of plan.well) lines.push(`${service}: well, ${text}`)
  for (const { service, text } of plan.problems) lines.push(`${service}: ${text}`)
  if (plan.steps.length === 0) lines.push('Nothing is missing.')
  else lines.push('To do:', ...plan.steps.map((s, i) => `  ${i + 1}. ${describeStep(s)}`))
  return `${lines.join('\n')}\n${database ? describeWaiting(database) : ''}`
}

/** The same for machines: no job specifications, which hold secrets. */
function planJson(
  view: ClusterView,
  plan: FixPlan,
  database: WaitingDatabase | undefined,
): Readonly<Record<string, unknown>> {
  return {
    ...(database ? { database } : {}),
    hosts: view.hosts.map(h => ({ id: h.id, address: h.address, answers: h.jobs !== undefined })),
    well: plan.well,
    problems: plan.problems,
    steps: plan.steps.map(stepJson),
  }
}

const stepJson = (step: FixStep) => (step.kind === 'wait' ? step : { ...step, like: step.like.id })

function jsonReport(context: Context): FixReport {
  const line = (value: Readonly<Record<string, unknown>>) => {
    context.stdout.write(`${JSON.stringify({ ...value, ts: new Date().toISOString() })}\n`)
  }
  return {
    started: step => line({ state: 'start', ...stepJson(step) }),
    done: (step, result) => line({ state: 'done', ...stepJson(step), result }),
    failed: (step, e) => line({ state: 'error', ...stepJson(step), error: String(e) }),
    info: message => line({ state: 'info', message }),
  }
}

function textReport(): FixReport {
  const progress = stderrProgress()
  return {
    started: step => progress.start(describeStep(step)),
    done: (step, result) => progress.done(describeStep(step), result),
    failed: (step, e) => progress.error(describeStep(step), e instanceof Error ? e.message : String(e)),
    info: message => progress.info('fix', message),
  }
}

function minHosts(value: string | undefined): number {
  const wanted = Number(value ?? 1)
  if (!Number.isInteger(wanted) || wanted < 1)
    throw new UsageError(`--min-hosts must be a positive whole number, not "${value}"`)
  return wanted
}

export const fixCommand: Command = {
  name: 'fix',
  summary: 'Repair the cluster',
  usage: `usage: flynn-host fix [-n|--min-hosts=<n>] [--peer-ips=<iplist>] [--plan] [--json] [--accept-loss]

Start what is missing of discoverd, postgres, scheduler, controller and router, in this order, from what the
hosts remember of them. It works without controller and discoverd. What runs is left alone, and the database
is only ever started on the data that it had. A bootstrapped cluster does the same by itself after 30 seconds.

Options:
  -n, --min-hosts=<n>  do nothing unless so many hosts answer [default: 1]
  --peer-ips=<iplist>  addresses of hosts, comma separated [default: the hosts that this one knows]
  --plan               show what would be done, and do nothing
  --json               one JSON object a line on standard output
  --accept-loss        when the only database nodes that have every acknowledged commit are lost for good: let the
                       newest of the others lead. What it has not got is lost then, also should the others come back

Examples:
  flynn-host fix --plan
  flynn-host fix --min-hosts=3 --peer-ips=192.0.2.10,192.0.2.11,192.0.2.12
`,
  options: {
    'min-hosts': { type: 'string', short: 'n' },
    'peer-ips': { type: 'string' },
    plan: { type: 'boolean' },
    json: { type: 'boolean' },
    'accept-loss': { type: 'boolean' },
  },
  positionals: { min: 0, max: 0 },
  async run({ flags }, context) {
    const wanted = minHosts(text(flags, 'min-hosts'))
    const authKey = context.authKey()
    if (authKey === undefined) throw cliErrors.NO_KEY()
    const { hosts, addresses } = await findHosts(list(flags, 'peer-ips'), authKey)
    const discoverd = discoverdOf(addresses)
    const etcd = new EtcdClient({ endpoints: addresses.map(a => `${a}:${etcdClientPort}`) })
    const stop = new AbortController()
    const interrupt = () => stop.abort(fixErrors.INTERRUPTED())
    process.once('SIGINT', interrupt)
    process.once('SIGTERM', interrupt)
    const observe = (signal: AbortSignal) => observeCluster({ hosts, authKey, discoverd, signal })
    try {
      const view = await observe(stop.signal)
      const plan = planFix(view)
      const database = await databaseThatWaits(view, etcd, stop.signal)
      if (on(flags, 'json'))
        context.stdout.write(`${JSON.stringify({ state: 'plan', ...planJson(view, plan, database) })}\n`)
      else context.stdout.write(planText(view, plan, database))
      requireHosts(view, wanted)
      if (on(flags, 'plan')) return 0
      if (on(flags, 'accept-loss')) await letNewestLead(etcd, stop.signal)
      const report = on(flags, 'json') ? jsonReport(context) : textReport()
      const holder = `flynn-host fix (process ${process.pid})`
      const result = await runFix({ observe, etcd, authKey, holder, report, signal: stop.signal })
      if (on(flags, 'json'))
        context.stdout.write(`${JSON.stringify({ state: 'complete', started: result.jobs })}\n`)
      else if (plan.steps.length > 0) {
        const jobs = result.jobs.length === 0 ? 'nothing' : result.jobs.join(', ')
        context.stdout.write(`The cluster is repaired. Started: ${jobs}\n`)
      }
      return 0
    } finally {
      process.off('SIGINT', interrupt)
      process.off('SIGTERM', interrupt)
      etcd.close()
      await discoverd.close()
    }
  },
}
