// What Patroni says of its cluster, judged: whether it is well enough to take a node out of it. Pure. Called by
// patroni.ts. Wire form: Patroni's REST API, `GET /cluster`.

export type Member = {
  readonly name: string
  readonly role: string
  readonly state: string
  readonly host?: string
  readonly lag?: number | string
}

/** Bytes that a replica may be behind; more is not caught up. */
export const lagBytesMax = 16 * 1024 * 1024

const leaderRoles = new Set(['leader', 'master', 'primary'])
const runningStates = new Set(['running', 'streaming', 'in archive recovery'])

export function leaderOf(members: readonly Member[]): Member | undefined {
  return members.find(m => leaderRoles.has(m.role) && m.state === 'running')
}

/** Why the cluster is not well; undefined when it is. */
export function ailment(members: readonly Member[], wanted: number): string | undefined {
  if (leaderOf(members) === undefined) return 'it has no primary'
  const running = members.filter(m => runningStates.has(m.state))
  if (running.length < wanted) return `${running.length} of ${wanted} nodes run`
  const behind = running.find(m => !leaderRoles.has(m.role) && !(Number(m.lag ?? 0) <= lagBytesMax))
  if (behind !== undefined) return `node ${behind.host ?? behind.name} has not caught up`
  const sync = running.some(m => m.role === 'sync_standby' || m.role === 'quorum_standby')
  if (wanted > 1 && !sync) return 'it has no synchronous replica'
  return undefined
}

/** Who should be primary next, of those at these addresses: the synchronous replica if it is among them. */
export function successor(members: readonly Member[], addresses: ReadonlySet<string>): Member | undefined {
  const able = members.filter(m => runningStates.has(m.state) && m.host && addresses.has(m.host))
  return able.find(m => m.role === 'sync_standby' || m.role === 'quorum_standby') ?? able[0]
}
