// Who may start things for the whole cluster: one at a time, by a key in etcd that ends with its holder's lease.

import type { EtcdClient, Lease } from '../../pkg/etcd/client.ts'
import { uuid } from '../../pkg/ids/ids.ts'

export const fixPrefix = '/flynn/fix/'
/** The lock of a holder that died is free again after this. */
export const fixLeaseMs = 10_000
const callTimeoutMs = 4_000

export type FixLock = {
  /** Resolves when somebody else may have it. */
  readonly lost: Promise<void>
  /** Asks etcd whether it is still ours. */
  check(): Promise<boolean>
  release(): Promise<void>
}

async function take(etcd: EtcdClient, key: string, value: string, lease: Lease): Promise<boolean> {
  const options = { timeoutMs: callTimeoutMs }
  if (await etcd.create(key, value, { lease: lease.id, ...options })) return true
  // An answer that got lost: it is our own.
  return (await etcd.get(key, options))?.value.toString() === value
}

/** The lock, or the name of who has it. Rejects when etcd does not answer. */
export async function tryLock(
  etcd: EtcdClient,
  name: 'monitor' | 'repair',
  holder: string,
): Promise<FixLock | { readonly holder: string }> {
  const key = fixPrefix + name
  // Read before anything is written: this is asked every few seconds by every host.
  const held = await etcd.get(key, { timeoutMs: callTimeoutMs })
  if (held) return { holder: holderOf(held.value.toString()) }
  const lease = await etcd.grantLease(fixLeaseMs, { timeoutMs: callTimeoutMs })
  const value = JSON.stringify({ holder, nonce: uuid() })
  try {
    if (await take(etcd, key, value, lease))
      return {
        lost: lease.lost,
        check: () => lease.check(),
        release: () => lease.revoke({ timeoutMs: callTimeoutMs }),
      }
    const now = await etcd.get(key, { timeoutMs: callTimeoutMs })
    await lease.revoke({ timeoutMs: callTimeoutMs })
    return { holder: now ? holderOf(now.value.toString()) : 'somebody' }
  } catch (e) {
    await lease.release()
    throw e
  }
}

function holderOf(value: string): string {
  try {
    return String((JSON.parse(value) as { holder?: unknown }).holder)
  } catch {
    // Written by another version.
    return value
  }
}

export function isLocked<T extends object>(lock: FixLock | T): lock is FixLock {
  return 'release' in lock
}
