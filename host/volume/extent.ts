// Files that a pool lies in, with blocks of their own. Called by pool.ts and growth.ts.
import { chmod, open, stat, statfs } from 'node:fs/promises'
import { run } from '../../pkg/proc/run.ts'
import type { Disk } from './zfs.core.ts'

const allocateTimeoutMs = 60_000

export async function diskOf(dir: string): Promise<Disk> {
  const { blocks, bavail, bsize } = await statfs(dir)
  return { totalBytes: blocks * bsize, freeBytes: bavail * bsize }
}

/** A file without a block, for root only. */
export async function makeSparse(file: string, bytes: number): Promise<void> {
  const handle = await open(file, 'a', 0o600)
  try {
    await handle.truncate(bytes)
  } finally {
    await handle.close()
  }
  await chmod(file, 0o600)
}

/** Gives the file blocks where it has none; what is in it stays. Rejects when the disk has too few, or knows no such call. */
export async function fillHoles(file: string): Promise<void> {
  const { size, blocks } = await stat(file)
  if (blocks * 512 >= size) return
  await run(['fallocate', '--length', String(size), file], { timeoutMs: allocateTimeoutMs })
  await sync(file)
}

export async function sync(file: string): Promise<void> {
  const handle = await open(file, 'r+')
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}
