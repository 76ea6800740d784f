// Whether the consensus may be started anew from one member, what is lost by it, and what is left to do. Pure: members as one
// of them tells them in, a plan and its texts out. Called by recover.ts.

export type MemberView = {
  readonly name: string
  readonly address: string
  readonly learner: boolean
  /** How far its data go; absent when it does not answer. */
  readonly revision?: number
  /** It follows a leader, or is one. */
  readonly hasLeader?: boolean
}

export type RecoverPlan = {
  readonly members: readonly MemberView[]
  /** Whose data are kept. */
  readonly survivor: MemberView
  /** Peers no more. */
  readonly removed: readonly MemberView[]
  /** Why not, and what to do instead. */
  readonly refused?: { readonly text: string; readonly remedy: string }
}

const answers = (m: MemberView) => m.revision !== undefined

function refusal(
  members: readonly MemberView[],
  survivor: MemberView,
  force: boolean,
): RecoverPlan['refused'] {
  const voters = members.filter(m => !m.learner)
  const alive = voters.filter(answers).length
  if (alive > voters.length / 2)
    return {
      text: `${alive} of ${voters.length} peers answer, which is a majority: nothing has to be recovered`,
      remedy: voters.every(answers)
        ? 'see them with: flynn-host list'
        : 'take out a peer that is gone for good with: flynn-host demote --force ADDR',
    }
  if (survivor.learner)
    return {
      text: `${survivor.name} has not got all data yet`,
      remedy: 'choose another host that was a peer',
    }
  if (!answers(survivor))
    return { text: `${survivor.name} does not answer`, remedy: 'choose a host whose discoverd runs' }
  const newest = voters.filter(answers).sort((a, b) => (b.revision ?? 0) - (a.revision ?? 0))[0]
  if (!force && newest && (newest.revision ?? 0) > (survivor.revision ?? 0))
    return {
      text: `${newest.name} has newer data (revision ${newest.revision}, not ${survivor.revision})`,
      remedy: `recover from that one: flynn-host recover ${newest.address}; or, if it must not be, add --force`,
    }
  return undefined
}

/** `address` is that of the member whose data shall be kept. */
export function planRecover(
  members: readonly MemberView[],
  address: string,
  options: { readonly force: boolean },
): RecoverPlan {
  const survivor = members.find(m => m.address === address) ?? { name: address, address, learner: true }
  const refused = refusal(members, survivor, options.force)
  return {
    ...{ members, survivor, removed: members.filter(m => m !== survivor) },
    ...(refused === undefined ? {} : { refused }),
  }
}

function memberLine(member: MemberView, survivor: MemberView): string {
  const kept = member === survivor ? '   <- these data are kept' : ''
  const state = answers(member) ? `has data to revision ${member.revision}` : 'does not answer'
  return `  ${member.name} (${member.address}) ${state}${member.learner ? ', not all of them yet' : ''}${kept}`
}

const nameList = (members: readonly MemberView[]) => members.map(m => m.name).join(', ')

/** What people read before anything is done. */
export function planText(plan: RecoverPlan): string {
  const { members, survivor, removed } = plan
  const lines = [
    `Consensus peers, as ${survivor.name} knows them:`,
    ...members.map(m => memberLine(m, survivor)),
  ]
  if (plan.refused) return `${lines.join('\n')}\n`
  lines.push(
    'To do:',
    `  1. start the consensus anew with ${survivor.name} as its only peer`,
    ...(removed.length > 0 ? [`     ${nameList(removed)}: no peers any more`] : []),
    '  2. wait until it takes writes; services, leaders and the database then come back by themselves',
    `What the lost peers had acknowledged and ${survivor.name} had not got is lost, at most the last moments. App data`,
    'are not in the consensus.',
    `Do this only if the other peers are gone for good. If one of them does come back, ${survivor.name} must be on.`,
  )
  return `${lines.join('\n')}\n`
}

/** What is left to do, command by command. */
export function nextSteps(plan: RecoverPlan): string {
  const { survivor, removed } = plan
  const lines = [
    `The consensus works again, with ${survivor.name} (${survivor.address}) as its only peer. Next, for three peers again:`,
    '',
  ]
  for (const m of removed)
    lines.push(
      `  If ${m.name} comes back: switch it on while ${survivor.name} is on. It drops its old data and is a proxy. Then:`,
      `    flynn-host promote ${m.address}`,
    )
  lines.push(
    '  On a new host, after installing the same version of Flynn (the key is in /etc/flynn/auth-key here):',
    `    FLYNN_HOST_AUTH_KEY=... flynn-host init --peer-ips=${survivor.address}`,
    '    systemctl start flynn-host',
    '  and then here, with its address:',
    '    flynn-host promote ADDR',
    '',
    '  What does not come back by itself: flynn-host fix --plan',
  )
  return `${lines.join('\n')}\n`
}
