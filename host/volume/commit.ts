// zfs-fuse 0.7 forgets that a file has unsynced writes when its last descriptor is closed: an fsync through a new one, as
// databases do at a checkpoint, returns at once and does nothing (README.md, test/track-record.md). Such writes reach the disk
// with the next transaction group, up to 30 s later, so here one is ended more often. Started by store.ts.
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { zfs } from './zfs.ts'

/** What a power cut may take of the writes that zfs-fuse forgot. Each time is a run of `zfs`. */
export const commitIntervalMs = 2_000

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
