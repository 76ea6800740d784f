// Which database node may lead is what Patroni has written down in etcd: the last primary, and whoever was in step with it.
// When those are lost for good the others wait for ever, and only a person may say that they need not. Pure: what is in
// etcd in, what people are told out; database.ts reads and acts.
import { addressOf, type DatabaseKeys, parseKey, standbys } from '../failover.core.ts'

export type WaitingNode = {
  readonly name: string
  readonly address: string
  /** Patroni's word: `running` takes readers. */
  readonly state: string
  /** How far its log reaches; only to be compared. */
  readonly position: number
}

/** A database that nobody leads, although nodes are there. */
export type WaitingDatabase = {
  /** The nodes that may lead; `there` when they have said a word within the last seconds. */
  readonly named: readonly { readonly name: string; readonly there: boolean; readonly state: string }[]
  /** Those that may not, newest first: the first is who leads when people let it. */
  readonly others: readonly WaitingNode[]
  readonly syncRevision: number
}

/** Undefined when somebody leads, when anybody may, and when no other is there. */
export function waitingDatabase(keys: DatabaseKeys): WaitingDatabase | undefined {
  const { leader: last } = parseKey(keys.sync)
  if (keys.leader || !keys.sync || typeof last !== 'string' || last === '') return undefined
  const named = [last, ...standbys(keys.sync, last)]
  const stateOf = (name: string) => {
    const { state } = parseKey(keys.members.get(name))
    return typeof state === 'string' ? state : 'away'
  }
  const others = [...keys.members].flatMap(([name, key]) => {
    const address = addressOf(key)
    if (named.includes(name) || address === undefined) return []
    const { xlog_location: position } = parseKey(key)
    return [{ name, address, state: stateOf(name), position: typeof position === 'number' ? position : 0 }]
  })
  if (others.length === 0) return undefined
  return {
    named: named.map(name => ({ name, there: keys.members.has(name), state: stateOf(name) })),
    others: others.sort((a, b) => b.position - a.position),
    syncRevision: keys.sync.modRevision,
  }
}

/** What people read. */
export function describeWaiting(database: WaitingDatabase): string {
  const named = database.named.map(n => `${n.name} (${n.state})`).join(' or ')
  const others = database.others.map(n => `${n.name} at ${n.address} (${n.state})`).join(', ')
  return [
    `postgres: nobody leads. Only ${named} has every acknowledged commit and may; there are ${others}.`,
    '  Switch on the hosts that are off and wait. If those data are lost for good, let the newest of the others lead with:',
    '  flynn-host fix --accept-loss',
    '',
  ].join('\n')
}
