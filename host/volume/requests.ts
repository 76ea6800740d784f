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

/**
 * True when no request of the kernel was read in between: a request is a read of its own, of 40 bytes and more
 * (fuse_in_header, FUSE protocol 7). What it reads else is seen as a request, which is the safe side.
 */
export function wasQuiet(before: ReadSoFar | undefined, now: ReadSoFar | undefined): boolean {
  if (before === undefined || now === undefined || before.pid !== now.pid) return false
  return now.bytes - before.bytes === ownReadBytes * (now.calls - before.calls)
}
