// Whether zfs-fuse has been asked for anything, so that nothing is done for a pool that nobody uses. Read by tend.ts.
import { readFile } from 'node:fs/promises'

/** What a process has read so far, and in how many calls (proc_pid_io(5): rchar, syscr). */
export type ReadSoFar = { readonly pid: number; readonly bytes: number; readonly calls: number }

/** Undefined when it has ended, or the kernel does not tell. */
export async function readSoFar(pid: number): Promise<ReadSoFar | undefined> {
  const text = await readFile(`/proc/${pid}/io`, 'utf8').catch(() => '')
  const [bytes, calls] = ['rchar', 'syscr'].map(name =>
    Number(new RegExp(`^${name}: (\\d+)$`, 'm').exec(text)?.[1]),
  )
  return Number.isInteger(bytes) && Number.isInteger(calls)
    ? { pid, bytes: bytes as number, calls: calls as number }
    : undefined
}

/** What zfs-fuse reads at a time of its own accord: a random number for a new block. It reads its files past these counts. */
const ownReadBytes = 8

/** A request of the kernel is a read of its own, of a header (fuse_in_header, FUSE protocol 7) and what the request says. */
const headerBytes = 40

/** What a request that says nothing, like one for the free space, adds to `askedBytes`. */
export const bareRequestBytes = headerBytes - ownReadBytes

/**
 * 0 when zfs-fuse has read no request in between, and for any request at least `bareRequestBytes`; undefined when that cannot be
 * told. What it reads else looks like a request, which is the safe side.
 */
export function askedBytes(before: ReadSoFar | undefined, now: ReadSoFar | undefined): number | undefined {
  if (before === undefined || now === undefined || before.pid !== now.pid) return undefined
  return now.bytes - before.bytes - ownReadBytes * (now.calls - before.calls)
}
