// Whether the leader key of the database may be taken away, so that its standby takes over before the key's time is over.
// Pure; failover.ts reads the facts and acts. The answer never rests on the death alone: see host/README.md "Failover".

/** What Patroni keeps in etcd below `/flynn/<scope>/`, as read in one revision. */
export type StoredKey = { readonly value: string; readonly modRevision: number }
export type DatabaseKeys = {
  readonly leader: StoredKey | undefined
  readonly sync: StoredKey | undefined
  /** By the node's name. */
  readonly members: ReadonlyMap<string, StoredKey>
}

export type Verdict =
  | { readonly kind: 'leave'; readonly reason: string }
  | {
      readonly kind: 'free'
      readonly leader: string
      readonly address: string
      /** Both keys must be as they were read when the leader key goes. */
      readonly syncRevision: number
      readonly memberRevision: number
    }

/** A value that Patroni writes as JSON; empty for any other. */
export function parseKey(key: StoredKey | undefined): Readonly<Record<string, unknown>> {
  try {
    const value: unknown = JSON.parse(key?.value ?? '{}')
    return typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  } catch {
    // Not written by a Patroni that we know: as good as nothing.
    return {}
  }
}

export function addressOf(member: StoredKey): string | undefined {
  const { conn_url: url } = parseKey(member)
  return typeof url === 'string' && URL.canParse(url) ? new URL(url).hostname : undefined
}

/** Names of the nodes that have every acknowledged commit, apart from the leader. */
export function standbys(sync: StoredKey | undefined, leader: string): readonly string[] {
  const { leader: named, sync_standby: list } = parseKey(sync)
  if (named !== leader || typeof list !== 'string') return []
  return list
    .split(',')
    .map(s => s.trim())
    .filter(s => s !== '' && s !== leader)
}

/**
 * Frees the key only of a leader at a dead address, and only when Patroni has written down a synchronous standby, which is
 * then the only other node that may be promoted.
 */
export function judgeLeader(keys: DatabaseKeys, isDead: (address: string) => boolean): Verdict {
  const leave = (reason: string): Verdict => ({ kind: 'leave', reason })
  if (!keys.leader) return leave('there is no leader')
  const name = keys.leader.value
  const member = keys.members.get(name)
  const address = member && addressOf(member)
  if (!member || address === undefined) return leave('the leader has no address')
  if (!isDead(address)) return leave('the leader is somewhere else')
  const able = standbys(keys.sync, name).filter(s => keys.members.has(s))
  if (!keys.sync || able.length === 0) return leave('no standby is in step with it')
  return {
    kind: 'free',
    leader: name,
    address,
    syncRevision: keys.sync.modRevision,
    memberRevision: member.modRevision,
  }
}

/** Patroni renews each second; so much later it has stood still, or is not there. */
export const unrenewedSeconds = 2

/**
 * Whether nobody has renewed a lease for `unrenewedSeconds` or longer, by the whole seconds that it has left. A new leader of
 * etcd begins every lease anew and a second longer, so that this then takes the longer.
 */
export function isUnrenewed(secondsLeft: number, ttlSeconds: number): boolean {
  // Rounded down: nearly a second more may be left.
  return secondsLeft < ttlSeconds - unrenewedSeconds
}
