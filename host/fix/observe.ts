// What the planner looks at: jobs and volumes as each host tells them, services as discoverd does. Hosts are asked at the same
// time, each with a deadline, and one that does not answer is a fact like the others.
import { DiscoverdClient } from '../../discoverd/client.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { HostClient, hostUrl } from '../client.ts'
import type { HostStatus, JoinRequest } from '../types.ts'
import type { ClusterView, HostView, ServicesView } from './plan.core.ts'

/** A host or discoverd that takes longer is taken to be away. */
export const observeTimeoutMs = 3_000

export type ObserveOptions = {
  readonly hosts: readonly Pick<JoinRequest, 'id' | 'address'>[]
  readonly authKey: string
  readonly discoverd: DiscoverdClient
  /** Only what runs: enough to see that nothing is missing, and a fraction of the whole. */
  readonly activeOnly?: boolean
  readonly signal?: AbortSignal | undefined
}

async function observeHost(
  { id, address }: Pick<JoinRequest, 'id' | 'address'>,
  { authKey, activeOnly, signal }: ObserveOptions,
): Promise<HostView> {
  const client = new HostClient({ url: hostUrl(address), authKey })
  const options = { retryMs: 0, timeoutMs: observeTimeoutMs, signal }
  try {
    if (activeOnly) {
      const jobs = Object.values(await client.jobs({ ...options, active: true }))
      return { ...{ id, address, jobs }, volumes: [], leaving: false }
    }
    const [status, jobs, volumes, patterns] = await Promise.all([
      client.status(options),
      client.jobs(options),
      client.volumes(options),
      client.patterns(options).catch((e: unknown) => {
        // A host of an older version.
        if (isFlynnError(e, 'not_found')) return []
        throw e
      }),
    ])
    return {
      ...{ id, address, leaving: isLeaving(status), patterns },
      jobs: Object.values(jobs),
      volumes: volumes.map(v => v.id),
    }
  } catch {
    signal?.throwIfAborted()
    return { id, address, jobs: undefined, volumes: [], leaving: false }
  }
}

/** A host that is being drained says since when. */
function isLeaving(status: HostStatus): boolean {
  return status.draining_since !== undefined
}

async function observeServices({ discoverd, signal }: ObserveOptions): Promise<ServicesView | undefined> {
  const options = { timeoutMs: observeTimeoutMs, signal }
  try {
    // Fails without a majority: then nothing that discoverd says is sure to be true.
    await discoverd.raftLeader(options)
    const [postgres, scheduler, controllers, routers] = await Promise.all([
      discoverd.leader('postgres', options),
      discoverd.leader('controller-scheduler', options),
      discoverd.instances('controller', options),
      discoverd.instances('router-api', options),
    ])
    return {
      postgresLeader: postgres?.addr,
      schedulerLeader: scheduler?.addr,
      controllers: controllers.map(i => i.addr),
      routers: routers.map(i => i.addr),
    }
  } catch {
    signal?.throwIfAborted()
    return undefined
  }
}

/** Rejects only when the signal aborts. */
export async function observeCluster(options: ObserveOptions): Promise<ClusterView> {
  const [hosts, services] = await Promise.all([
    Promise.all(options.hosts.map(host => observeHost(host, options))),
    observeServices(options),
  ])
  return { hosts, services }
}

/** A client that asks the discoverd of every host until one answers. */
export function discoverdOf(addresses: readonly string[]): DiscoverdClient {
  return new DiscoverdClient({ servers: addresses.map(address => `http://${address}:1111`) })
}
