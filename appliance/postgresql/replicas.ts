// Copies a replica anew whose data are damaged: asks Patroni of the primary how the nodes are, and tells Patroni of the
// node that cannot start to fetch its data again. `replicas.core.ts` decides; runs beside the provider API.
import type { DiscoverdClient } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { derivePassword, patroniUser } from './client.ts'
import {
  alertIntervalMs,
  calmIntervalMs,
  type Failures,
  lookAtReplicas,
  type Member,
} from './replicas.core.ts'
import { patroniPort } from './types.ts'

const askTimeoutMs = 3_000

type ClusterMember = Member & { readonly host: string }

export type ReplicaKeeper = {
  readonly discoverd: DiscoverdClient
  readonly service: string
  readonly superuserPassword: string
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Looks every so often until the signal aborts; a failed look is logged and the next one tries again. */
export async function keepReplicas(options: ReplicaKeeper): Promise<void> {
  const { log, service, signal } = options
  let failures: Failures = new Map()
  while (!signal.aborted) {
    try {
      const members = await clusterMembers(options)
      const step = lookAtReplicas(failures, members)
      failures = step.failures
      const node = members.find(m => m.name === step.copyAnew)
      if (node) {
        await copyAnew(node, options)
        log.warn({ service, node: node.name, state: node.state }, 'replica that cannot start is copied anew')
      }
    } catch (err) {
      log.warn({ err, service }, 'cannot look after the replicas')
    }
    await sleep(failures.size > 0 ? alertIntervalMs : calmIntervalMs, signal).catch(() => undefined)
  }
}

const patroniAt = (host: string) => new HttpClient({ url: `http://${host}:${patroniPort}`, retryMs: 0 })

/** As Patroni beside the primary tells them; none while nobody leads. */
async function clusterMembers({ discoverd, service }: ReplicaKeeper): Promise<readonly ClusterMember[]> {
  const leader = await discoverd.leader(service)
  if (!leader) return []
  const host = leader.addr.slice(0, leader.addr.lastIndexOf(':'))
  const call = { timeoutMs: askTimeoutMs }
  return (await patroniAt(host).get<{ members: readonly ClusterMember[] }>('/cluster', call)).members
}

/**
 * By force, because a node that cannot start is always busy with the next try. Patroni refuses by itself without a leader
 * and on the leader.
 */
async function copyAnew(node: ClusterMember, { superuserPassword, signal }: ReplicaKeeper): Promise<void> {
  const password = derivePassword(superuserPassword, 'patroni')
  const authorization = `Basic ${Buffer.from(`${patroniUser}:${password}`).toString('base64')}`
  const call = { headers: { authorization }, json: { force: true }, timeoutMs: askTimeoutMs, signal }
  await (await patroniAt(node.host).raw('POST', '/reinitialize', call)).body.dump()
}
