// Loop devices whose backing file lies in a test cluster's directory. Paths in the kernel's list are those of a mount
// namespace that may be gone, so a backing file is known by its inode and file system.
import { readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { poll } from '../../pkg/clock/clock.ts'
import { run } from '../../pkg/proc/run.ts'

const freeTimeoutMs = 10_000

export type Loop = { readonly device: string; readonly inode: number; readonly fileSystem: string }

/** Parses `losetup --list --json --output NAME,BACK-INO,BACK-MAJ:MIN`; it pads numbers with blanks. */
export function parseLoops(text: string): Loop[] {
  if (text.trim() === '') return []
  const { loopdevices } = JSON.parse(text) as {
    loopdevices: readonly Readonly<Record<string, string | number>>[]
  }
  return loopdevices.map(row => ({
    device: String(row['name']),
    inode: Number(row['back-ino']),
    fileSystem: String(row['back-maj:min']).trim(),
  }))
}

/** Devices that use a file below the directory. */
export async function loopsOf(dir: string): Promise<string[]> {
  const { stdout } = await run(['losetup', '--list', '--json', '--output', 'NAME,BACK-INO,BACK-MAJ:MIN'])
  const loops = parseLoops(stdout)
  if (loops.length === 0) return []
  const files = new Set<string>()
  await walk(dir, key => files.add(key))
  const own = loops.filter(l => files.has(`${l.fileSystem} ${l.inode}`))
  // A host's disk may be one itself, and have files on it that others use. 7 is the number of loop devices.
  const onThem = loops.filter(l => own.some(disk => l.fileSystem === `7:${/\d+$/.exec(disk.device)?.[0]}`))
  return [...onThem, ...own].map(l => l.device)
}

async function walk(dir: string, visit: (key: string) => void): Promise<void> {
  const entries = await readdir(dir, { withFileTypes: true }).catch((e: NodeJS.ErrnoException) => {
    if (e.code === 'ENOENT') return []
    throw e
  })
  for (const entry of entries) {
    const path = join(dir, entry.name)
    if (entry.isDirectory()) await walk(path, visit)
    else if (entry.isFile()) {
      const { dev, ino } = await stat(path)
      visit(`${Math.floor(dev / 256) & 0xfff}:${dev & 0xff} ${ino}`)
    }
  }
}

/** Most devices free themselves when the host's mounts go; the rest is detached by hand. */
export async function freeLoops(dir: string): Promise<void> {
  await poll(
    async () => {
      const devices = await loopsOf(dir)
      for (const device of devices) await run(['losetup', '--detach', device], { accept: [1] })
      return devices.length === 0
    },
    { timeoutMs: freeTimeoutMs, intervalMs: 20, what: `loop devices of ${dir} to be free` },
  )
}
