// How our long-running programs start node: small heaps, because none of them has much to do at a time. Called by the
// image table and the installer.

/**
 * Measured with test/bench/footprint.ts, against plain node. The semi-space of 1 MB instead of 16 keeps the young generation
 * small. Not `--optimize-for-size`: it takes 1 MB less, but a router with ten thousand routes spent half of its time
 * collecting garbage, 0.1 s at a time.
 */
const flags = '--max-semi-space-size=1'
/** Collects what loading leaves behind: 0.8 MB less of each process, for 3 ms of its start. */
const residentFlags = '--initial-heap-size=4'
/**
 * One arena, because each thread with one of its own (node has ten) keeps what it has freed; and that one gives back what is
 * free at its end, of which glibc keeps ever more once something large has been freed.
 */
const environment = 'export MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072'

export type LauncherOptions = {
  /** Path of node, or a variable that `before` sets. */
  readonly node: string
  readonly args?: readonly string[]
  /** Runs for long, and so may take longer to start. */
  readonly resident?: boolean
  /** Lines of shell that run first. */
  readonly before?: readonly string[]
}

/** A shell script that becomes node with `args` and its own arguments. */
export function nodeLauncher({ node, args = [], resident = false, before = [] }: LauncherOptions): string {
  const last = `exec ${[node, flags, ...(resident ? [residentFlags] : []), ...args].join(' ')} "$@"`
  return ['#!/bin/sh', ...before, environment, last, ''].join('\n')
}
