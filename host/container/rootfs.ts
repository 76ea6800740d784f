// The writable root of a job: an ext4 image of the job's temp-disk size, loop-mounted, as upper of an overlay over the
// image layers. The overlay itself is mounted by containerd. Project quotas are missing from many kernels, so the
// image is what keeps a job to its size (contract host.md 4.3, 4.7).
import { mkdir, open, rm, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { RootfsMount } from '../../pkg/containerd/client.ts'
import { mount, unmount } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'

export const tempDiskBytesDefault = 100 * 1024 * 1024
/** Smaller file systems have no room for their own tables. */
export const tempDiskBytesMin = 4 * 1024 * 1024
/** Packages are many small files: twice as many inodes as usual. */
const bytesPerInode = 8192

export type RootfsOptions = {
  /** Directory of the job. */
  readonly dir: string
  /** Bottom first. */
  readonly layers: readonly string[]
  readonly tempDiskBytes: number
  /** Regular files put into the writable layer before anything runs, by path from the root. */
  readonly files: Readonly<Record<string, string>>
}

function diskDir(dir: string): string {
  return join(dir, 'disk')
}

/** Makes and mounts the temp disk; answers the mount that containerd makes the root of. Undone by `removeRootfs`. */
export async function makeRootfs(options: RootfsOptions): Promise<RootfsMount> {
  const image = join(options.dir, 'disk.img')
  const disk = diskDir(options.dir)
  await mkdir(disk, { recursive: true })
  const bytes = Math.max(options.tempDiskBytes || tempDiskBytesDefault, tempDiskBytesMin)
  const file = await open(image, 'w', 0o600)
  try {
    await file.truncate(bytes)
  } finally {
    await file.close()
  }
  // No journal: after a crash of the machine this disk is thrown away.
  await run([
    'mkfs.ext4',
    '-q',
    '-F',
    '-m0',
    '-i',
    String(bytesPerInode),
    '-O',
    '^has_journal',
    '-E',
    'nodiscard,lazy_itable_init=1',
    image,
  ])
  await mount({ type: 'ext4', source: image, target: disk, options: ['loop', 'noatime'] })
  const upper = join(disk, 'upper')
  const work = join(disk, 'work')
  await mkdir(upper)
  await mkdir(work)
  for (const [path, content] of Object.entries(options.files)) {
    await mkdir(dirname(join(upper, path)), { recursive: true })
    await writeFile(join(upper, path), content, { mode: 0o644 })
  }
  return {
    type: 'overlay',
    source: 'overlay',
    options: [`lowerdir=${options.layers.toReversed().join(':')}`, `upperdir=${upper}`, `workdir=${work}`],
  }
}

/** Unmounts the temp disk (its loop device goes with it) and removes the directory of the job. Safe to repeat. */
export async function removeRootfs(dir: string): Promise<void> {
  await unmount(diskDir(dir))
  await rm(dir, { recursive: true, force: true })
}
