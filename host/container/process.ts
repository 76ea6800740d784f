// Is a process that is not our child still there, and still the same program?
import { readFileSync } from 'node:fs'

/** True while this pid is a living process of this name; false for zombies and for a pid that went to another. */
export function isRunning(pid: number, comm: string): boolean {
  let stat: string
  try {
    stat = readFileSync(`/proc/${pid}/stat`, 'utf8')
  } catch {
    // Gone: the kernel has no such process.
    return false
  }
  const end = stat.lastIndexOf(')')
  const state = stat.slice(end + 2, end + 3)
  return stat.slice(stat.indexOf('(') + 1, end) === comm && state !== 'Z' && state !== 'X'
}
