// The cgroup subtrees of test hosts, on version 1 (also hybrid) and on pure version 2 machines. A host sees its subtree
// as the root. Whatever runs in `flynn-hosts/<cluster>` belongs to that cluster, which is how leftovers are found.
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rmdir, writeFile } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { poll, sleep } from '../../pkg/clock/clock.ts'

export type CgroupLayout =
  | { readonly version: 1; readonly hierarchies: readonly Hierarchy[] }
  | { readonly version: 2; readonly root: string }
export type Hierarchy = { readonly path: string; readonly options: string }

/** Version 2 forbids processes in a group that hands controllers on, so a host's own processes live in this child. */
const leafName = 'init'
const makeTimeoutMs = 2_000
const removeTimeoutMs = 30_000
const freezeTryMs = 500
const thawedMs = 50

/** Reads the layout out of /proc/self/mountinfo. On hybrid machines the controllers are in version 1. */
export function layoutOf(mountinfo: string): CgroupLayout {
  const hierarchies: Hierarchy[] = []
  let unified: string | undefined
  for (const line of mountinfo.split('\n')) {
    const [before, after] = line.split(' - ')
    const path = before?.split(' ')[4]
    const [type, , superOptions] = after?.split(' ') ?? []
    if (!path || !superOptions) continue
    if (type === 'cgroup2') unified ??= path
    if (type !== 'cgroup' || hierarchies.some(h => h.path === path)) continue
    const options = superOptions.split(',').filter(o => !['rw', 'ro', 'xattr'].includes(o))
    const named = options.find(o => o.startsWith('name='))
    hierarchies.push({ path, options: named ? `none,${named}` : options.join(',') })
  }
  if (hierarchies.length > 0) return { version: 1, hierarchies }
  if (unified !== undefined) return { version: 2, root: unified }
  throw new Error('no cgroup file system is mounted on this machine')
}

export function machineLayout(): CgroupLayout {
  return layoutOf(readFileSync('/proc/self/mountinfo', 'utf8'))
}

/** How boot.sh is told what to mount. */
export function bootArguments(layout: CgroupLayout): string[] {
  if (layout.version === 2) return ['1', 'v2']
  return [
    String(layout.hierarchies.length),
    ...layout.hierarchies.map(h => `${basename(h.path)}=${h.options}`),
  ]
}

const roots = (layout: CgroupLayout) =>
  layout.version === 2 ? [layout.root] : layout.hierarchies.map(h => h.path)

/** The cgroup.procs files that a process writes itself into to become one of the group's. */
export function procsFiles(layout: CgroupLayout, group: string): string[] {
  const leaf = layout.version === 2 ? `${group}/${leafName}` : group
  return roots(layout).map(root => join(root, leaf, 'cgroup.procs'))
}

/** The file that the first process must be in while it makes its cgroup namespace: that group becomes its root. */
export function namespaceFiles(layout: CgroupLayout, group: string): string[] {
  return roots(layout).map(root => join(root, group, 'cgroup.procs'))
}

export async function makeGroup(layout: CgroupLayout, group: string): Promise<void> {
  // Tried again because the end of another cluster may take away the common parent while we are at it.
  await poll(
    async () => {
      await tryMakeGroup(layout, group)
      return true
    },
    { timeoutMs: makeTimeoutMs, intervalMs: 10, what: `cgroup ${group} to be made` },
  )
}

async function tryMakeGroup(layout: CgroupLayout, group: string): Promise<void> {
  for (const root of roots(layout)) {
    let path = root
    for (const part of group.split('/')) {
      const parent = path
      path = join(path, part)
      if (layout.version === 2) await handOnControllers(parent)
      await makeDirectory(path)
      if (layout.version === 1) await inheritCpuset(parent, path)
    }
    if (layout.version === 2) await makeDirectory(join(path, leafName))
  }
}

async function makeDirectory(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (e) {
    if (!hasCode(e, 'EEXIST')) throw e
  }
}

/** Version 2: lets children of the group use every controller it has. */
async function handOnControllers(path: string): Promise<void> {
  const controllers = (await readFile(join(path, 'cgroup.controllers'), 'utf8')).trim().split(' ')
  const wanted = controllers.filter(c => c !== '').map(c => `+${c}`)
  // One at a time: a controller that cannot be handed on (real-time cpu groups) must not hold back the others.
  for (const one of wanted) {
    try {
      await writeFile(join(path, 'cgroup.subtree_control'), one)
    } catch (cause) {
      if (['+memory', '+pids', '+cpu'].includes(one))
        throw new Error(`controller ${one} of ${path} cannot be handed on`, { cause })
    }
  }
}

/** Version 1: a new cpuset has no cpu at all and takes no process until it is given some. */
async function inheritCpuset(parent: string, path: string): Promise<void> {
  for (const file of ['cpuset.cpus', 'cpuset.mems']) {
    if (!existsSync(join(path, file))) continue
    await writeFile(join(path, file), await readFile(join(parent, file), 'utf8'))
  }
}

/**
 * Version 2, once the first process has made its namespace: moves it and its waiting parent into the leaf, then opens
 * the host's root group for children. Nothing to do on version 1.
 */
export async function settle(layout: CgroupLayout, group: string): Promise<void> {
  if (layout.version === 1) return
  const path = join(layout.root, group)
  for (const pid of await readPids(path)) await writeFile(join(path, leafName, 'cgroup.procs'), String(pid))
  await handOnControllers(path)
}

async function readPids(path: string): Promise<number[]> {
  try {
    const text = await readFile(join(path, 'cgroup.procs'), 'utf8')
    return text.split('\n').filter(Boolean).map(Number)
  } catch (e) {
    if (isGone(e)) return []
    throw e
  }
}

const hasCode = (e: unknown, ...codes: readonly string[]) =>
  e instanceof Error && 'code' in e && codes.includes(String(e.code))
const isGone = (e: unknown) => hasCode(e, 'ENOENT', 'ENODEV')

/** The group and all groups below it, children before parents. */
export async function groupPaths(layout: CgroupLayout, group: string): Promise<string[]> {
  const paths: string[] = []
  for (const root of roots(layout)) await walk(join(root, group), paths)
  return paths
}

async function walk(path: string, into: string[]): Promise<void> {
  let entries: readonly { name: string; isDirectory(): boolean }[]
  try {
    entries = await readdir(path, { withFileTypes: true })
  } catch (e) {
    if (isGone(e)) return
    throw e
  }
  for (const entry of entries) if (entry.isDirectory()) await walk(join(path, entry.name), into)
  into.push(path)
}

/** Every process in the group or below it, as seen on this machine. */
export async function pidsIn(layout: CgroupLayout, group: string): Promise<number[]> {
  const pids = new Set<number>()
  for (const path of await groupPaths(layout, group))
    for (const pid of await readPids(path)) if (pid > 0) pids.add(pid)
  return [...pids]
}

/** True when the process is alive and in the group: a number used again by a stranger is not taken for ours. */
export function belongs(pid: number, group: string): boolean {
  try {
    const state = /\) (\S)/.exec(readFileSync(`/proc/${pid}/stat`, 'utf8'))?.[1]
    const inside = readFileSync(`/proc/${pid}/cgroup`, 'utf8').split('\n')
    return (
      state !== 'Z' &&
      state !== 'X' &&
      inside.some(l => l.endsWith(`:/${group}`) || l.includes(`:/${group}/`))
    )
  } catch {
    // Gone between two reads, or never there.
    return false
  }
}

/**
 * Stops or continues every process of the group; answers once the kernel says that it is so. A process that waits for a
 * file system in user space (zfs-fuse) cannot be stopped before it has its answer, and never gets one when the file
 * system's own process was stopped first: then all go on for a moment, and are stopped again.
 */
export async function setFrozen(layout: CgroupLayout, group: string, frozen: boolean): Promise<void> {
  const freezer = freezerOf(layout, group)
  await freezer.set(frozen)
  let since = performance.now()
  await poll(
    async () => {
      if (await freezer.is(frozen)) return true
      if (!frozen || performance.now() - since < freezeTryMs) return false
      await freezer.set(false)
      await sleep(thawedMs)
      await freezer.set(true)
      since = performance.now()
      return false
    },
    { timeoutMs: removeTimeoutMs, what: `${group} to be ${frozen ? 'frozen' : 'thawed'}` },
  )
}

type Freezer = {
  readonly set: (frozen: boolean) => Promise<void>
  readonly is: (frozen: boolean) => Promise<boolean>
}

function freezerOf(layout: CgroupLayout, group: string): Freezer {
  if (layout.version === 2) {
    const path = join(layout.root, group)
    return {
      set: frozen => writeFile(join(path, 'cgroup.freeze'), frozen ? '1' : '0'),
      is: async frozen =>
        (await readFile(join(path, 'cgroup.events'), 'utf8')).includes(`frozen ${frozen ? 1 : 0}`),
    }
  }
  const hierarchy = layout.hierarchies.find(h => h.options.split(',').includes('freezer'))
  if (!hierarchy) throw new Error('this machine has no freezer cgroup')
  const file = join(hierarchy.path, group, 'freezer.state')
  const state = (frozen: boolean) => (frozen ? 'FROZEN' : 'THAWED')
  return {
    set: frozen => writeFile(file, state(frozen)),
    is: async frozen => (await readFile(file, 'utf8')).trim() === state(frozen),
  }
}

/** Kills whatever runs in the group until nothing does. A frozen process dies only when it is thawed. */
export async function killGroup(layout: CgroupLayout, group: string): Promise<void> {
  await poll(
    async () => {
      const pids = await pidsIn(layout, group)
      for (const pid of pids) killIfThere(pid)
      if (pids.length > 0) await thawAll(layout, group)
      return pids.length === 0
    },
    { timeoutMs: removeTimeoutMs, intervalMs: 10, what: `the processes of ${group} to end` },
  )
}

async function thawAll(layout: CgroupLayout, group: string): Promise<void> {
  for (const path of await groupPaths(layout, group)) {
    const [file, value] =
      layout.version === 2 ? (['cgroup.freeze', '0'] as const) : (['freezer.state', 'THAWED'] as const)
    if (existsSync(join(path, file))) await writeFile(join(path, file), value)
  }
}

function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL')
  } catch (e) {
    if (!hasCode(e, 'ESRCH')) throw e
  }
}

/** Removes the group and everything below it; the kernel lets go of emptied groups a little later. */
export async function removeGroup(layout: CgroupLayout, group: string): Promise<void> {
  await poll(
    async () => {
      const paths = await groupPaths(layout, group)
      for (const path of paths) await removeDirectory(path)
      return true
    },
    { timeoutMs: removeTimeoutMs, intervalMs: 20, what: `cgroup ${group} to be removed` },
  )
}

async function removeDirectory(path: string): Promise<void> {
  try {
    await rmdir(path)
  } catch (e) {
    if (!isGone(e)) throw e
  }
}

/** Removes the group where nothing is in it, and leaves it alone where something is. */
export async function removeGroupIfEmpty(layout: CgroupLayout, group: string): Promise<void> {
  for (const root of roots(layout)) {
    try {
      await removeDirectory(join(root, group))
    } catch (e) {
      if (!hasCode(e, 'EBUSY', 'ENOTEMPTY')) throw e
    }
  }
}
