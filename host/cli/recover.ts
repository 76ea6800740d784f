// `flynn-host recover`: most consensus peers are gone for good, and the cluster goes on with the data of one that is left.
// Shows first who still answers and what each has; what has to be done on the other hosts is printed at the end.
import { createInterface } from 'node:readline/promises'
import { PeerAdmin } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { errorTable } from '../../pkg/errors/errors.ts'
import { EtcdClient, type EtcdMember } from '../../pkg/etcd/client.ts'
import { stderrProgress } from '../../pkg/progress/progress.ts'
import { findExternalIp } from '../config.ts'
import { etcdClientPort } from '../consensus.ts'
import { hostPaths } from '../paths.ts'
import { type Command, type Context, on } from './command.ts'
import { cliErrors } from './hosts.ts'
import { type MemberView, nextSteps, planRecover, planText, type RecoverPlan } from './recover.core.ts'

const askTimeoutMs = 5_000
/** A member that is busy gets so many chances to say how far its data go. */
const statusAttempts = 5
const statusPauseMs = 500

const errors = errorTable({
  NO_DATA: {
    status: 503,
    message: 'no consensus member answers at {address}',
    remedy:
      'run this for a host that is a peer; if its discoverd does not run, bring it back first: flynn-host fix --peer-ips {address}',
  },
  REFUSED: { status: 409, message: '{text}', remedy: '{remedy}' },
  NOT_CONFIRMED: {
    status: 400,
    message: 'not confirmed, nothing was changed',
    remedy: 'read the plan, then run it with --yes',
  },
})

async function viewMember(client: EtcdClient, member: EtcdMember): Promise<MemberView> {
  const address = new URL(member.peerUrls[0] ?? 'http://unknown').hostname
  const base = { name: member.name || address, address, learner: member.isLearner }
  const url = member.clientUrls[0]
  for (let n = 0; url !== undefined && n < statusAttempts; n++) {
    try {
      const { revision, leaderId } = await client.status(new URL(url).host)
      return { ...base, revision, hasLeader: leaderId !== undefined }
    } catch {
      // Off, or only slow.
      if (n + 1 < statusAttempts) await sleep(statusPauseMs)
    }
  }
  return base
}

/** The members as the one at `address` knows them, which it does without a majority. */
async function viewMembers(address: string): Promise<readonly MemberView[]> {
  const client = new EtcdClient({ endpoints: [`${address}:${etcdClientPort}`] })
  try {
    const members = await client.members({ timeoutMs: askTimeoutMs })
    return await Promise.all(members.map(m => viewMember(client, m)))
  } catch (cause) {
    throw errors.NO_DATA({ address }, { cause })
  } finally {
    client.close()
  }
}

async function confirm(context: Context, yes: boolean): Promise<void> {
  if (yes) return
  if (process.stdin.isTTY !== true) throw errors.NOT_CONFIRMED()
  const ask = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await ask.question('Type "recover" to go on: ')
    if (answer.trim() !== 'recover') throw errors.NOT_CONFIRMED()
  } finally {
    ask.close()
  }
  context.stderr.write('\n')
}

async function recover(address: string, authKey: string, plan: RecoverPlan): Promise<void> {
  const progress = stderrProgress()
  const label = `starting the consensus anew with the data of ${plan.survivor.name}`
  progress.start(label)
  try {
    await new PeerAdmin({ addr: address, authKey }).recover()
    progress.done(label)
  } catch (e) {
    progress.error(label, e instanceof Error ? e.message : String(e))
    throw e
  }
}

export const recoverCommand: Command = {
  name: 'recover',
  summary: 'Go on after most consensus peers are lost',
  usage: `usage: flynn-host recover [--plan] [--yes] [--force] [--json] [ADDR]

Start the consensus anew with the data of the host with this address (this host when not given), after most peers
are gone for good. Shows which peers answer and how new their data are, asks, and says what to do on the other
hosts. Refused while a majority of the peers answers, and when another peer has newer data.

Options:
  --plan   show what would be done, and do nothing
  --yes    do not ask
  --force  also with data that are older than those of another peer that answers
  --json   the plan as JSON

Examples:
  flynn-host recover --plan
  flynn-host recover 192.0.2.10
`,
  options: {
    plan: { type: 'boolean' },
    yes: { type: 'boolean' },
    force: { type: 'boolean' },
    json: { type: 'boolean' },
  },
  positionals: { min: 0, max: 1 },
  async run({ flags, rest }, context) {
    const authKey = context.authKey()
    if (authKey === undefined) throw cliErrors.NO_KEY()
    const address = rest[0] ?? (await findExternalIp(hostPaths().bridge))
    const plan = planRecover(await viewMembers(address), address, { force: on(flags, 'force') })
    const json = on(flags, 'json')
    context.stdout.write(json ? `${JSON.stringify(plan)}\n` : planText(plan))
    if (plan.refused) throw errors.REFUSED(plan.refused)
    if (on(flags, 'plan')) return 0
    await confirm(context, on(flags, 'yes'))
    await recover(address, authKey, plan)
    if (!json) context.stdout.write(nextSteps(plan))
    return 0
  },
}
