// The cgroups of a host's jobs, versions 1 and 2: partitions with their shares, usage, out-of-memory counts. runc
// makes and limits the cgroup of each job; this module makes what is above and reads what is in them.
import { access, mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { Logger } from '../../pkg/log/log.ts'
import { listMounts } from '../../pkg/mount/mount.ts'
import { cpuWeight, findHierarchy, flatKey, type Hierarchy } from './cgroup.core.ts'

export type Partitions = Readonly<Record<string, { readonly cpuShares: number }>>

export type Usage = {
  readonly memoryBytes: number
  readonly cpuNs: number
  readonly processes: number
}

const v2Controllers = ['cpu', 'cpuset', 'memory', 'pids', 'io']

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  )
}

async function readNumber(path: string): Promise<number> {
  return Number((await readFile(path, 'utf8')).trim())
}

export class Cgroups {
  readonly #hierarchy: Hierarchy
  readonly #root: string
  readonly #log: Logger

  private constructor(hierarchy: Hierarchy, root: string, log: Logger) {
    this.#hierarchy = hierarchy
    this.#root = root
    this.#log = log
  }

  /** Finds how this machine does cgroups. Throws when none are mounted. */
  static async open(cgroupMount: string, root: string, log: Logger): Promise<Cgroups> {
    const hierarchy = findHierarchy(await listMounts(), cgroupMount)
    if (hierarchy === undefined) throw new Error(`no cgroup controllers are mounted under ${cgroupMount}`)
    return new Cgroups(hierarchy, root, log)
  }

  get version(): 1 | 2 {
    return this.#hierarchy.version
  }

  #path(controller: string, ...parts: readonly string[]): string {
    const h = this.#hierarchy
    return join(h.version === 2 ? h.path : (h.controllers[controller] ?? '/nonexistent'), ...parts)
  }

  /** Makes the partitions and gives them their shares of the processor. Safe to repeat. */
  async preparePartitions(partitions: Partitions): Promise<void> {
    if (this.version === 2) await this.#delegate('/')
    await mkdir(this.#path('cpu', this.#root), { recursive: true })
    if (this.version === 2) await this.#delegate(this.#root)
    for (const [name, { cpuShares }] of Object.entries(partitions)) {
      const dir = this.#path('cpu', this.#root, name)
      await mkdir(dir, { recursive: true })
      if (this.version === 2) {
        await this.#delegate(join(this.#root, name))
        await this.#set(join(dir, 'cpu.weight'), String(cpuWeight(cpuShares)))
      } else await this.#set(join(dir, 'cpu.shares'), String(cpuShares))
    }
  }

  /** Each controller by itself: a machine may lack one, and the others are still wanted. */
  async #delegate(cgroup: string): Promise<void> {
    for (const controller of v2Controllers)
      await this.#set(this.#path('', cgroup, 'cgroup.subtree_control'), `+${controller}`)
  }

  async #set(path: string, value: string): Promise<void> {
    try {
      await writeFile(path, value)
    } catch (e) {
      this.#log.warn({ path, value, err: e }, 'cgroup setting refused')
    }
  }

  /** True when a memory limit can include swap. */
  async limitsSwap(): Promise<boolean> {
    if (this.version === 1) return exists(this.#path('memory', 'memory.memsw.limit_in_bytes'))
    return exists(this.#path('memory', this.#root, 'memory.swap.max'))
  }

  /** Path of a job's cgroup below the mount, found by looking into every partition. */
  async find(id: string): Promise<string | undefined> {
    const partitions = await readdir(this.#path('memory', this.#root)).catch(() => [])
    for (const partition of partitions) {
      const path = join(this.#root, partition, id)
      if (await exists(this.#path('memory', path))) return path
    }
    return undefined
  }

  /** Processes of this cgroup that the kernel has killed for lack of memory; undefined when the cgroup is gone. */
  async oomKills(cgroup: string): Promise<number | undefined> {
    const file = this.version === 2 ? 'memory.events' : 'memory.oom_control'
    try {
      return flatKey(await readFile(this.#path('memory', cgroup, file), 'utf8'), 'oom_kill')
    } catch {
      // The cgroup vanished between two looks: there is nothing to count.
      return undefined
    }
  }

  async usage(cgroup: string): Promise<Usage> {
    const processes = await readNumber(this.#path('pids', cgroup, 'pids.current'))
    if (this.version === 2) {
      const stat = await readFile(this.#path('cpu', cgroup, 'cpu.stat'), 'utf8')
      const memoryBytes = await readNumber(this.#path('memory', cgroup, 'memory.current'))
      return { memoryBytes, cpuNs: (flatKey(stat, 'usage_usec') ?? 0) * 1000, processes }
    }
    return {
      memoryBytes: await readNumber(this.#path('memory', cgroup, 'memory.usage_in_bytes')),
      cpuNs: await readNumber(this.#path('cpuacct', cgroup, 'cpuacct.usage')),
      processes,
    }
  }

  /** Removes what runc may have left of an ended job's cgroup, in every controller. */
  async removeLeftovers(cgroup: string): Promise<void> {
    const h = this.#hierarchy
    const tops = h.version === 2 ? [h.path] : [...new Set(Object.values(h.controllers))]
    for (const top of tops) {
      try {
        await rmdir(join(top, cgroup))
      } catch (e) {
        const code = (e as NodeJS.ErrnoException).code
        if (code !== 'ENOENT') this.#log.warn({ cgroup: join(top, cgroup), err: e }, 'cgroup left behind')
      }
    }
  }
}
