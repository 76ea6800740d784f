// Reading cgroup files of both versions, and where they lie. Pure.
import type { Mount } from '../../pkg/mount/mount.ts'

/** Version 1 has a tree per controller, version 2 one for all. */
export type Hierarchy =
  | { readonly version: 1; readonly controllers: Readonly<Record<string, string>> }
  | { readonly version: 2; readonly path: string }

const v1Controllers = ['cpu', 'cpuacct', 'cpuset', 'memory', 'pids', 'blkio', 'devices', 'freezer'] as const

/**
 * The hierarchy that limits are set in. A machine with version 2 mounted at the root of cgroups uses it; one with only
 * a `unified` directory beside version 1 controllers (hybrid) has its controllers in version 1.
 */
export function findHierarchy(mounts: readonly Mount[], cgroupMount: string): Hierarchy | undefined {
  const top = mounts.findLast(m => m.target === cgroupMount)
  if (top?.type === 'cgroup2') return { version: 2, path: cgroupMount }
  const controllers: Record<string, string> = {}
  for (const m of mounts) {
    if (m.type !== 'cgroup') continue
    for (const name of v1Controllers) if (m.superOptions.includes(name)) controllers[name] = m.target
  }
  return Object.keys(controllers).length === 0 ? undefined : { version: 1, controllers }
}

/** Value of `key` in a file of `key value` lines: memory.events, memory.oom_control, cpu.stat. */
export function flatKey(text: string, key: string): number | undefined {
  for (const line of text.split('\n')) {
    const [name, value] = line.trim().split(/\s+/)
    if (name === key && value !== undefined) return Number(value)
  }
  return undefined
}

/** cpu.weight (1-10000) for cpu.shares (2-262144): the kernel ranges mapped on each other, as runc does. */
export function cpuWeight(shares: number): number {
  const clamped = Math.min(262144, Math.max(2, shares))
  return 1 + Math.floor(((clamped - 2) * 9999) / 262142)
}
