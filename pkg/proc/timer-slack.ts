// How late the kernel may let a child's timers be, so that several of them are one wake-up. Used by supervise.ts.
import { readFileSync, writeFileSync } from 'node:fs'

/** Of this process's main thread, which starts the children. */
const file = '/proc/self/timerslack_ns'

/**
 * Runs `start`, in which a child is started, with the slack that the child and all its threads are to have (prctl(2),
 * PR_SET_TIMERSLACK: inherited, and kept by exec), and gives this process its own back. Where the kernel does not let it be
 * set the child has the usual 50 µs.
 */
export function withTimerSlack<T>(ns: number | undefined, start: () => T): T {
  if (ns === undefined) return start()
  const own = set(String(ns))
  try {
    return start()
  } finally {
    if (own !== undefined) set(own)
  }
}

/** Answers what it was before; undefined when it cannot be set. */
function set(ns: string): string | undefined {
  try {
    const before = readFileSync(file, 'utf8').trim()
    writeFileSync(file, ns)
    return before
  } catch {
    return undefined
  }
}
