// kill -9 of the etcd member that leads: how long until a write of service metadata, begun after the kill at another host's
// discoverd, is acknowledged.
import { DiscoverdClient } from '../../../discoverd/client.ts'
import { poll, sleep } from '../../../pkg/clock/clock.ts'
import type { TestHost } from '../../cluster/types.ts'
import type { FlynnCluster } from '../../fixtures/flynn-cluster.ts'
import { type Scenario, type TrialResult, trialPatienceMs } from './types.ts'

const service = 'bench-failover'
const writePauseMs = 5
/** Quiet time before each trial, so that the last one's restart is over. */
const settleMs = 3_000

type Ack = { readonly beganMs: number; readonly ackedMs: number }

async function leaderOf(cluster: FlynnCluster): Promise<TestHost> {
  const { host } = await cluster.discoverd(cluster.hosts[0] as TestHost).raftLeader()
  const address = host.replace(/^.*\/\//, '').split(':')[0]
  const found = cluster.hosts.find(h => h.address === address)
  if (!found) throw new Error(`no test host has the address of the consensus leader, ${host}`)
  return found
}

/** Writes metadata one after another until stopped; notes what was acknowledged. */
async function write(client: DiscoverdClient, acks: Ack[], signal: AbortSignal): Promise<void> {
  let index = (await client.getMeta(service))?.index ?? 0
  while (!signal.aborted) {
    const beganMs = Date.now()
    try {
      index = (await client.setMeta(service, { data: { at: beganMs }, index }, { signal })).index
      acks.push({ beganMs, ackedMs: Date.now() })
    } catch {
      // Refused, or its outcome unknown: what is stored says how to go on.
      if (signal.aborted) return
      index = (await client.getMeta(service, { signal }).catch(() => undefined))?.index ?? index
    }
    await sleep(writePauseMs, signal).catch(() => undefined)
  }
}

async function healthy(cluster: FlynnCluster): Promise<boolean> {
  const script = 'etcdctl endpoint health --cluster --command-timeout=2s'
  return (await (cluster.hosts[0] as TestHost).exec(['sh', '-c', script])).code === 0
}

async function trial(cluster: FlynnCluster): Promise<TrialResult> {
  await poll(() => healthy(cluster), { timeoutMs: trialPatienceMs, intervalMs: 200, what: 'three members' })
  await sleep(settleMs)
  const leader = await leaderOf(cluster)
  const survivor = cluster.hosts.find(h => h !== leader) as TestHost
  const client = new DiscoverdClient({ servers: `http://${survivor.address}:1111` })
  await client.maybeAddService(service)
  const acks: Ack[] = []
  const stop = new AbortController()
  const writing = write(client, acks, stop.signal)
  await poll(() => acks.length > 10, { timeoutMs: trialPatienceMs, what: 'writes' })
  // The shell says when: starting it takes longer than what is measured on a busy machine.
  const script = 'pid=$(pgrep -x etcd); date +%s%N; kill -9 $pid'
  const killedMs = Number((await leader.run(['sh', '-c', script])).trim()) / 1e6
  const first = await poll(() => acks.find(a => a.beganMs > killedMs || a.ackedMs > killedMs + 50), {
    timeoutMs: trialPatienceMs,
    intervalMs: 5,
    what: 'a write after the kill',
  })
  stop.abort()
  await writing
  await client.close()
  return { timesMs: { writable: first.ackedMs - killedMs }, counts: {} }
}

export const consensus: Scenario = {
  title: 'kill -9 of the consensus leader',
  aims: [
    { name: 'writable', statistic: 'median', underMs: 1_000 },
    { name: 'writable', statistic: 'max', underMs: 2_500 },
  ],
  zero: [],
  trial,
}
