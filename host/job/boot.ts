// Which boot of the machine this is. The kernel's boot id, and the start of process 1, which also tells a restarted
// container or namespace apart, where the kernel's boot id stays the same.
import { readFileSync } from 'node:fs'

export function bootIdentity(): string {
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
  const stat = readFileSync('/proc/1/stat', 'utf8')
  // Field 22, counted behind the program name, which may hold spaces.
  const startedAt = stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19]
  return `${boot}/${startedAt}`
}
