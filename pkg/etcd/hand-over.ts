// Gives the leadership of etcd to another member, so that writes pause for milliseconds instead of an election. Called by
// discoverd before its member stops, and by the host while it is drained.
import { describeError } from '../errors/errors.ts'
import type { Logger } from '../log/log.ts'
import { EtcdClient } from './client.ts'

export const handOverTimeoutMs = 1_000

/**
 * Hands leadership to a member that follows, any of them, if the member at `own` (`ip:port`) has it. Tries once and never
 * rejects: an election does the same, later.
 */
export async function handOver(own: string, log: Logger): Promise<void> {
  const client = new EtcdClient({ endpoints: [own] })
  try {
    const { memberId, leaderId } = await client.status(own)
    if (leaderId !== memberId) return
    const members = await client.members({ timeoutMs: handOverTimeoutMs })
    const others = members.filter(m => m.id !== memberId && !m.isLearner && m.clientUrls.length > 0)
    // Begins anywhere: two hosts that are drained at the same time do not give it to each other for ever.
    const start = Math.floor(Math.random() * others.length)
    for (const heir of [...others.slice(start), ...others.slice(0, start)]) {
      const heirStatus = await client
        .status(new URL(heir.clientUrls[0] as string).host)
        .catch(() => undefined)
      if (heirStatus?.leaderId !== memberId) continue
      await client.moveLeader(own, heir.id)
      log.info({ to: heir.name }, 'etcd leadership handed over')
      return
    }
  } catch (e) {
    log.info({ reason: describeError(e) }, 'etcd leadership not handed over')
  } finally {
    client.close()
  }
}
