// Mounts of this machine: what is mounted where (/proc/self/mountinfo), mounting, and unmounting that copes with
// "busy". Called by the engines of a host.
import { readFile } from 'node:fs/promises'
import { sleep } from '../clock/clock.ts'
import { RunError, run } from '../proc/run.ts'

export const mountTimeoutMs = 30_000
/** A busy mount is tried again for this long, then detached lazily. */
export const unmountBusyMs = 2_000

export type Mount = {
  readonly target: string
  /** Path inside the mounted file system; `/` unless it is a bind mount of a part. */
  readonly root: string
  readonly type: string
  readonly source: string
  readonly options: readonly string[]
  readonly superOptions: readonly string[]
}

/** Spaces, tabs, newlines and backslashes are octal in mountinfo (proc(5)). */
function decodeOctal(text: string): string {
  return text.replaceAll(/\\([0-7]{3})/g, (_, octal: string) =>
    String.fromCharCode(Number.parseInt(octal, 8)),
  )
}

/** Lines of /proc/<pid>/mountinfo, in mount order: later ones lie over earlier ones at the same target. */
export function parseMountinfo(text: string): readonly Mount[] {
  const mounts: Mount[] = []
  for (const line of text.split('\n')) {
    const [left, right] = line.split(' - ')
    if (left === undefined || right === undefined) continue
    const [, , , root = '', target = '', options = ''] = left.split(' ')
    const [type = '', source = '', superOptions = ''] = right.split(' ')
    mounts.push({
      target: decodeOctal(target),
      root: decodeOctal(root),
      type,
      source: decodeOctal(source),
      options: options.split(','),
      superOptions: superOptions.split(','),
    })
  }
  return mounts
}

export async function listMounts(): Promise<readonly Mount[]> {
  return parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'))
}

/** The topmost mount at exactly this path. */
export async function findMount(target: string): Promise<Mount | undefined> {
  return (await listMounts()).findLast(m => m.target === target)
}

export type MountOptions = {
  readonly type: string
  readonly source: string
  readonly target: string
  readonly options: readonly string[]
}

export async function mount(m: MountOptions): Promise<void> {
  await run(['mount', '-t', m.type, '-o', m.options.join(','), m.source, m.target], {
    timeoutMs: mountTimeoutMs,
  })
}

/**
 * Unmounts what is at this path; fine when nothing is. While it is busy it is tried again for `unmountBusyMs`, then
 * detached: nobody new gets in, and it ends with its last user.
 */
export async function unmount(target: string): Promise<void> {
  const end = Date.now() + unmountBusyMs
  for (;;) {
    try {
      await run(['umount', target], { timeoutMs: mountTimeoutMs })
      return
    } catch (e) {
      if (!(e instanceof RunError)) throw e
      if (/not mounted|no mount point|not found/i.test(e.stderr)) return
      if (!/busy/i.test(e.stderr)) throw e
    }
    if (Date.now() >= end) {
      await run(['umount', '--lazy', target], { timeoutMs: mountTimeoutMs })
      return
    }
    await sleep(50)
  }
}
