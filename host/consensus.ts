// The host's own way to the cluster's etcd: endpoints as the members tell them, remembered over restarts, because a proxy
// has no member of its own to begin with. Used by the overlay for subnet leases.
import { sleep } from '../pkg/clock/clock.ts'
import { EtcdClient } from '../pkg/etcd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { HostDatabase } from './database.ts'

export const etcdClientPort = 2379
export const membersRefreshMs = 10_000
/** How often a cluster that does not answer yet is asked. */
export const membersRetryMs = 500
const settingKey = 'etcd_endpoints'

export type ConsensusOptions = {
  readonly database: HostDatabase
  readonly externalIp: string
  /** Addresses of hosts that were named on the command line. */
  readonly peerIps: readonly string[]
  readonly log: Logger
}

export type Consensus = {
  readonly etcd: EtcdClient
  /** Keeps the endpoints current until the signal aborts. */
  run(signal: AbortSignal): Promise<void>
}

export function openConsensus({ database, externalIp, peerIps, log }: ConsensusOptions): Consensus {
  const nearest = `${externalIp}:${etcdClientPort}`
  const remembered = database.getSetting<readonly string[]>(settingKey) ?? []
  const first = [nearest, ...remembered, ...peerIps.map(ip => `${ip}:${etcdClientPort}`)]
  const etcd = new EtcdClient({ endpoints: [...new Set(first)], log })

  async function refresh(): Promise<void> {
    const members = await etcd.members({ timeoutMs: 2_000 })
    const told = members.flatMap(m =>
      m.clientUrls[0] && !m.isLearner ? [new URL(m.clientUrls[0]).host] : [],
    )
    if (told.length === 0) return
    // Ours first when there is one; when not, it is not asked in vain.
    const endpoints = told.includes(nearest) ? [nearest, ...told.filter(e => e !== nearest)] : told
    if (endpoints.join() === etcd.endpoints.join()) return
    etcd.setEndpoints(endpoints)
    database.setSetting(settingKey, endpoints)
    log.info({ endpoints }, 'etcd members changed')
  }
  return {
    etcd,
    async run(signal) {
      while (!signal.aborted) {
        let pauseMs = membersRefreshMs
        try {
          await refresh()
        } catch (err) {
          log.debug({ err }, 'etcd does not answer yet')
          pauseMs = membersRetryMs
        }
        await sleep(pauseMs, signal).catch(() => undefined)
      }
    },
  }
}
