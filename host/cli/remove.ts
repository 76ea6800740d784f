// `flynn-host remove`: takes a host out of the cluster for good (contract host.md 1.12). Refuses while it has anything that
// would be lost. Works for a host that is off, too, with --force. Each step may be repeated, so a removal that was cut short
// is finished by asking again, with --force when the host is off by then.
import { createInterface } from 'node:readline'
import type { Volume } from '../../controller/types.ts'
import { PeerAdmin } from '../../discoverd/client.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { describeError, errorTable } from '../../pkg/errors/errors.ts'
import { type ClusterHost, HostClient, hostUrl } from '../client.ts'
import { type ActiveJob, isActive } from '../types.ts'
import { type Command, type Context, on } from './command.ts'
import { demotePeer } from './demote.ts'
import { cliErrors } from './hosts.ts'
import { connectController, followPeers } from './peers.ts'
import { drainReportOf, hostTimeoutMs } from './scheduler.ts'

/** A daemon that was told to leave has ended by then. */
export const goneTimeoutMs = 60_000
const answerTimeoutMs = 2_000

const errors = errorTable({
  NOT_EMPTY: {
    status: 409,
    message: 'host {id} still has {left}',
    remedy:
      'move that to the other hosts with: flynn-host drain {id}; or give it up with: flynn-host remove --force {id}',
  },
  LAST_HOST: {
    status: 409,
    message: 'host {id} is the last one that answers: there is nobody to leave the cluster to',
    remedy: 'to take Flynn off a machine use: install-flynn --remove',
  },
  OFF: {
    status: 503,
    message: 'host {id} does not answer, so nobody can say what it has',
    remedy: 'start it, or remove it with what it has: flynn-host remove --force {id}',
  },
  NOT_CONFIRMED: {
    status: 400,
    message: 'host {id} was not removed',
    remedy: 'type its name, or give --yes',
  },
})

type Target = {
  readonly id: string
  readonly address: string
  /** Undefined for a host that is off. */
  readonly host: ClusterHost | undefined
  /** Another host, which forgets it. */
  readonly other: HostClient
}

async function answers(client: HostClient): Promise<boolean> {
  return client.status({ retryMs: 0, timeoutMs: hostTimeoutMs }).then(
    () => true,
    () => false,
  )
}

async function findTarget(context: Context, id: string, authKey: string): Promise<Target> {
  const hosts = await context.hosts()
  const alive: ClusterHost[] = []
  for (const host of hosts) if (await answers(host.client)) alive.push(host)
  const other = alive.find(h => h.id !== id)
  const host = alive.find(h => h.id === id)
  if (other === undefined) throw host ? errors.LAST_HOST({ id }) : cliErrors.NO_HOSTS()
  // The ones that are off are known to the others.
  const member = (await other.client.members()).find(m => m.id === id)
  const listed = hosts.find(h => h.id === id)
  const address = member?.address ?? listed?.addr.slice(0, listed.addr.lastIndexOf(':'))
  if (address === undefined) throw cliErrors.UNKNOWN_HOST({ id })
  const client = new HostClient({ url: other.client.url, authKey })
  return { id, address, host: host ?? (await behind(id, address, authKey)), other: client }
}

/** A host that discoverd does not list may answer all the same. */
async function behind(id: string, address: string, authKey: string): Promise<ClusterHost | undefined> {
  const client = new HostClient({ url: hostUrl(address), authKey })
  if (!(await answers(client))) return undefined
  return { id, addr: new URL(client.url).host, tags: {}, shutdown: false, draining: false, client }
}

function jobName(job: ActiveJob): string {
  const meta = job.job.metadata ?? {}
  const app = meta['flynn-controller.app_name'] ?? job.job.config.args?.[0] ?? ''
  return `job ${app}${meta['flynn-controller.type'] ? `/${meta['flynn-controller.type']}` : ''} ${job.job.id}`
}

/** What would be lost: jobs that do not belong on each host, and volumes. */
async function leftOn(context: Context, { id, host }: Target, volumes: readonly Volume[]): Promise<string[]> {
  const data = volumes.map(v => `volume ${v.id} (${v.path ?? ''})`)
  if (host === undefined) return data
  const report = await drainReportOf(context, id)
  const stays = new Set(report.jobs.filter(j => j.action === 'stay').map(j => `${id}-${j.uuid}`))
  const jobs = Object.values(await host.client.jobs({ active: true })).filter(isActive)
  const moving = report.volumes.filter(v => !volumes.some(known => known.id === v.id))
  return [
    ...jobs.filter(j => !stays.has(j.job.id)).map(jobName),
    ...data,
    ...moving.map(v => `volume ${v.id} (${v.path})`),
  ]
}

/** Volumes that the controller has on the host, without those that omni jobs keep there. */
async function volumesOn(context: Context, { id, host }: Target): Promise<readonly Volume[]> {
  const client = await connectController(context)
  const all = (await client.volumes()).filter(v => v.host_id === id && v.state !== 'destroyed')
  if (host !== undefined) {
    const movable = new Set((await drainReportOf(context, id)).volumes.map(v => v.id))
    return all.filter(v => movable.has(v.id))
  }
  return all
}

async function confirm(context: Context, id: string): Promise<void> {
  context.stderr.write(`Type the name of the host to remove it with all of this: `)
  const lines = createInterface({ input: process.stdin })
  const silence = process.stdin.isTTY ? undefined : setTimeout(() => lines.close(), answerTimeoutMs)
  try {
    for await (const line of lines)
      if (line.trim() === id) return
      else break
    throw errors.NOT_CONFIRMED({ id })
  } finally {
    clearTimeout(silence)
    lines.close()
    process.stdin.destroy()
  }
}

/** One that is lost does not keep its job waiting for ever. */
async function giveUpVolumes(context: Context, id: string): Promise<number> {
  const client = await connectController(context)
  const lost = (await client.volumes()).filter(v => v.host_id === id && v.state !== 'destroyed')
  for (const { job: _job, ...volume } of lost) await client.putVolume({ ...volume, state: 'destroyed' })
  return lost.length
}

async function peersNow(authKey: string, other: HostClient): Promise<readonly string[]> {
  return new PeerAdmin({ addr: new URL(other.url).hostname, authKey }).peers()
}

async function carryOut(context: Context, target: Target, authKey: string): Promise<void> {
  const { id, address, host, other } = target
  const say = (text: string) => void context.stderr.write(`${text}\n`)
  if (host !== undefined) await host.client.drain()
  const isPeer = (await peersNow(authKey, other)).includes(`${address}:1111`)
  if (isPeer) {
    await demotePeer(context, address, { force: host === undefined })
    say(`${id} is no consensus peer any more`)
  }
  if (host !== undefined) {
    // It says that it leaves before the others forget it: the scheduler then counts on it no more, and starts nothing there.
    await host.client
      .leave()
      .catch((e: unknown) => say(`${id} ended before it answered: ${describeError(e)}`))
    await poll(async () => !(await answers(host.client)), {
      timeoutMs: goneTimeoutMs,
      what: `the daemon of ${id} to end`,
    })
    say(`${id} has stopped its jobs and its daemon`)
  }
  await other.forgetHost(id, { timeoutMs: goneTimeoutMs })
  say(`The others have forgotten ${id}, its subnet is free`)
  const lost = await giveUpVolumes(context, id)
  if (lost > 0) say(`${lost} volumes are marked as destroyed`)
  const admin = new PeerAdmin({ addr: new URL(other.url).hostname, authKey })
  await followPeers(context, admin, { wait: false })
}

function planOf({ id, host }: Target, left: readonly string[]): readonly string[] {
  return [
    ...left.map(what => `lose ${what}`),
    `make ${id} no consensus peer, if it is one`,
    host === undefined
      ? `${id} is off: it will be turned away when it boots`
      : `stop the jobs of ${id} and its daemon`,
    `forget ${id} and give its subnet back`,
  ]
}

export const removeCommand: Command = {
  name: 'remove',
  summary: 'Take a host out of the cluster',
  usage: `usage: flynn-host remove [--plan] [--force] [--yes] [--json] HOST

Take a host out of the cluster: it is no consensus peer any more, its subnet is free, its last jobs and its daemon
end, and it is turned away when it boots again. Refused while it has jobs or volumes that could move: drain it
first. To bring the machine back run 'flynn-host init' on it anew.

Options:
  --plan   show what would be done, and change nothing
  --force  remove it with what it has, also when it is off
  --yes    do not ask before something is lost
  --json   print one JSON object for machines

Examples:
  flynn-host remove host2
  flynn-host remove --force --yes host3
`,
  options: {
    plan: { type: 'boolean' },
    force: { type: 'boolean' },
    yes: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  positionals: { min: 1, max: 1 },
  async run({ flags, rest }, context) {
    const authKey = context.authKey()
    if (authKey === undefined) throw cliErrors.NO_KEY()
    const id = rest[0] ?? ''
    const show = (value: Readonly<Record<string, unknown>>, text: string): void =>
      void context.stdout.write(on(flags, 'json') ? `${JSON.stringify({ host: id, ...value })}\n` : text)
    const target = await findTarget(context, id, authKey)
    if (target.host === undefined && !on(flags, 'force') && !on(flags, 'plan')) throw errors.OFF({ id })
    const left = await leftOn(context, target, await volumesOn(context, target))
    if (on(flags, 'plan')) {
      const steps = planOf(target, left)
      const lines = steps.map(s => `  ${s}\n`).join('')
      show({ event: 'plan', steps, lost: left }, `To remove ${id}:\n${lines}Nothing was changed.\n`)
      return 0
    }
    if (left.length > 0 && !on(flags, 'force')) throw errors.NOT_EMPTY({ id, left: left.join(', ') })
    if (left.length > 0) {
      context.stderr.write(`This will be lost with ${id}:\n${left.map(l => `  ${l}\n`).join('')}`)
      if (!on(flags, 'yes')) await confirm(context, id)
    }
    await carryOut(context, target, authKey)
    show({ event: 'removed', lost: left }, `Removed host ${id}\n`)
    return 0
  },
}
