// A primary that neither this host nor etcd hears is dead, seconds before its host's registration in discoverd ends: its port
// takes no connection, and nobody renews the leader key. Either alone is no death: a cut between two hosts leaves the renewals,
// and a Patroni without processor time still has a kernel that accepts. Asked by the hosts of standbys. Called by daemon.ts.
import { databaseScope, leaderTtlSeconds, patroniPort } from '../appliance/postgresql/client.ts'
import { sleep } from '../pkg/clock/clock.ts'
import type { EtcdClient } from '../pkg/etcd/client.ts'
import { reach } from '../pkg/net/reach.ts'
import { isUnrenewed } from './failover.core.ts'
import {
  type FailoverOptions,
  freeLeader,
  isDatabase,
  leaderProbeTimeoutMs,
  scopePrefix,
} from './failover.ts'

/** Between two questions while the primary answers. */
export const askIntervalMs = 1_000
/** Over each question to etcd; it has no leader for a second when the primary's host had that, too. */
export const askTimeoutMs = 1_000

/** Works until the signal aborts. */
export async function replaceSilentPrimary(options: FailoverOptions): Promise<void> {
  const primary: Primary = { address: undefined }
  await Promise.all([follow(options, primary), ask(options, primary)])
}

type Primary = { address: string | undefined }

async function follow({ discoverd, signal }: FailoverOptions, primary: Primary): Promise<void> {
  for await (const event of discoverd.watch(databaseScope, { signal }))
    if (event.kind === 'leader') primary.address = event.instance?.addr.replace(/:\d+$/, '')
}

async function ask(options: FailoverOptions, primary: Primary): Promise<void> {
  const { table, log, signal } = options
  while (!signal.aborted) {
    await sleep(askIntervalMs, signal).catch(() => undefined)
    const { address } = primary
    const nodes = table.active().filter(isDatabase)
    if (!address || nodes.length === 0 || nodes.some(n => n.internal_ip === address)) continue
    if ((await reach(address, patroniPort, leaderProbeTimeoutMs)) === 'open') continue
    try {
      await doubt(options, primary, address)
    } catch (err) {
      // Then the end of its host's registration, or that of the key, ends the wait.
      if (!signal.aborted) log.warn({ err }, 'the leader key of a silent primary was left alone')
    }
  }
}

/** Ends when the primary answers, another one leads, or its key is freed. */
async function doubt(options: FailoverOptions, primary: Primary, address: string): Promise<void> {
  const { etcd, signal } = options
  while (!signal.aborted && primary.address === address) {
    const [found, secondsLeft] = await Promise.all([
      reach(address, patroniPort, leaderProbeTimeoutMs),
      keySecondsLeft(etcd, signal).catch(() => undefined),
      // A refusal comes at once.
      sleep(leaderProbeTimeoutMs, signal),
    ])
    if (found === 'open') return
    if (secondsLeft !== undefined && isUnrenewed(secondsLeft, leaderTtlSeconds))
      return freeLeader(options, a => a === address, false)
  }
}

/** Of the leader key; undefined when nobody leads. */
async function keySecondsLeft(etcd: EtcdClient, signal: AbortSignal): Promise<number | undefined> {
  const limits = { signal, timeoutMs: askTimeoutMs }
  const key = await etcd.get(`${scopePrefix}leader`, limits)
  return key && (await etcd.leaseSecondsLeft(key.lease, limits))
}
