// What a pool in use needs every so often: another file before it is full (growth.ts) and, on zfs-fuse, that what was written
// reaches the disk. zfs-fuse 0.7 forgets that a file has unsynced writes when its last descriptor is closed: an fsync through a
// new one, as databases do at a checkpoint, returns at once and does nothing (README.md, test/track-record.md). Such writes reach
// the disk with the next transaction group, up to 30 s later, so here one is ended more often. Each is 300 KB for the disk and
// a run of `zfs`, so a pool that nobody asks for anything is left alone. Started by store.ts.
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { Growth } from './growth.ts'
import { askedBytes, bareRequestBytes, type ReadSoFar, readSoFar } from './requests.ts'
import { zfs } from './zfs.ts'

/** What a power cut may take of the writes that zfs-fuse forgot. Half of 4 GiB are not written in less. */
export const tendIntervalMs = 2_000
/** A request that was still under way when one transaction group ended is in the next. */
const commitsAfterLast = 2

export type Tending = {
  readonly growth: Growth
  /** Where the kernel has no ZFS. */
  readonly fuse?: { readonly pid: () => number | undefined; readonly dataset: string } | undefined
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Until the signal aborts; a failure is logged and the next turn tries again. */
export async function keepTending({ growth, fuse, log, signal }: Tending): Promise<void> {
  const read = async () => {
    const pid = fuse?.pid()
    return pid === undefined ? undefined : readSoFar(pid)
  }
  let before: ReadSoFar | undefined
  let due = 0
  let commits = 0
  for (;;) {
    await sleep(tendIntervalMs, signal).catch(() => undefined)
    if (signal.aborted) return
    // Read before the commit: what comes while that runs may be too late for it.
    const now = await read()
    if (askedBytes(before, now) !== 0) due = commitsAfterLast
    if (due === 0 && !growth.isFull) continue
    if (due > 0 && (!fuse || (await commit(fuse.dataset, commits++, log, signal)))) due--
    before = now
    await growth.look()
    // It asks for the free space of a volume at most.
    const looked = await read()
    if ([0, bareRequestBytes].includes(askedBytes(before, looked) ?? -1)) before = looked
  }
}

/**
 * A change of a property waits for the transaction group that it is in, and whatever was written before is in it too. False when
 * that could not be done.
 */
async function commit(dataset: string, nth: number, log: Logger, signal: AbortSignal): Promise<boolean> {
  try {
    await zfs(['set', `flynn:commit=${nth % 2}`, dataset])
    return true
  } catch (err) {
    if (!signal.aborted) log.warn({ dataset, err }, 'no transaction group could be ended')
    return false
  }
}
