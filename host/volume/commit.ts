// zfs-fuse 0.7 forgets that a file has unsynced writes when its last descriptor is closed: an fsync through a new one, as
// databases do at a checkpoint, returns at once and does nothing (container/README.md, test/track-record.md). So every write
// is synced as it is made, through the descriptor that made it; what has no descriptor, a rename for example, reaches the
// disk with the next transaction group, which is ended here. Started by store.ts.
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { findMount } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { zfs } from './zfs.ts'

/** What a power cut may take of renames; OpenZFS ends a group as often, zfs-fuse each 30 s. Each time is a run of `zfs`. */
export const commitIntervalMs = 5_000
const remountTimeoutMs = 10_000

/**
 * A volume whose writes return when they are on the disk. A write of 4 KB with its fdatasync takes as long as without; writes
 * of 8 KB that nobody syncs come to 12 MB a second instead of 80, of 1 MB to 150 instead of 180.
 */
export async function writeThrough(path: string): Promise<void> {
  if ((await findMount(path))?.superOptions.includes('sync')) return
  await run(['mount', '-i', '-o', 'remount,sync', path], { timeoutMs: remountTimeoutMs })
}

/** Until the signal aborts; a failure is logged and the next turn tries again. */
export async function keepCommitting(dataset: string, log: Logger, signal: AbortSignal): Promise<void> {
  for (let turn = 0; !signal.aborted; turn++) {
    await sleep(commitIntervalMs, signal).catch(() => undefined)
    if (signal.aborted) return
    // A change of a property waits for the transaction group that it is in, and whatever was written before is in it too.
    await zfs(['set', `flynn:commit=${turn % 2}`, dataset]).catch((err: unknown) => {
      if (!signal.aborted) log.warn({ dataset, err }, 'no transaction group could be ended')
    })
  }
}
