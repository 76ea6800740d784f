// While a host is drained its etcd member does not lead: whoever takes the machine away afterwards ends no leader, and no
// write waits for an election. Called by daemon.ts.
import { sleep } from '../pkg/clock/clock.ts'
import type { EtcdClient } from '../pkg/etcd/client.ts'
import { handOver } from '../pkg/etcd/hand-over.ts'
import type { Logger } from '../pkg/log/log.ts'

/** How often a draining host looks whether its member leads. */
export const yieldLookMs = 2_000

export type YieldOptions = {
  readonly etcd: EtcdClient
  /** `ip:port` of this host's member, if it has one. */
  readonly own: string
  readonly draining: () => boolean
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Works until the signal aborts. */
export async function yieldLeader({ etcd, own, draining, log, signal }: YieldOptions): Promise<void> {
  while (!signal.aborted) {
    if (draining() && etcd.endpoints.includes(own)) await handOver(own, log)
    await sleep(yieldLookMs, signal).catch(() => undefined)
  }
}
