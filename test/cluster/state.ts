// The state file of a test cluster: what a later process (another CLI call, the sweep after a crash) must know.
// Whether a host runs is never written down; it is asked of the kernel.
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { clusterDir, stateRoot } from './names.ts'
import type { Bind } from './types.ts'

export type ClusterState = {
  readonly name: string
  readonly subnet: number
  readonly hosts: number
  readonly binds: readonly Bind[]
  readonly internet: boolean
  readonly diskBytes?: number
  /** Who made it and removes it; absent for a cluster that outlives its maker. */
  readonly owner?: ProcessIdentity
  /** The run of the whole test suite it was made in, see test/leftovers.ts. */
  readonly testRun?: string
}

/** A pid alone may be used again. */
export type ProcessIdentity = { readonly pid: number; readonly startTicks: string }

export function identityOf(pid: number): ProcessIdentity | undefined {
  try {
    const fields = readFileSync(`/proc/${pid}/stat`, 'utf8')
      .replace(/^.*\) /s, '')
      .split(' ')
    if (fields[0] === 'Z' || fields[0] === 'X') return undefined
    const startTicks = fields[19]
    return startTicks === undefined ? undefined : { pid, startTicks }
  } catch {
    // No such process.
    return undefined
  }
}

export const stillRuns = (who: ProcessIdentity) => identityOf(who.pid)?.startTicks === who.startTicks

const stateFile = (cluster: string) => join(clusterDir(cluster), 'state.json')

export async function writeState(state: ClusterState): Promise<void> {
  await mkdir(clusterDir(state.name), { recursive: true, mode: 0o700 })
  const file = stateFile(state.name)
  await writeFile(`${file}.new`, JSON.stringify(state, null, 2))
  await rename(`${file}.new`, file)
}

/** Undefined when there is no such cluster. */
export async function readState(cluster: string): Promise<ClusterState | undefined> {
  if (!existsSync(stateFile(cluster))) return undefined
  return JSON.parse(await readFile(stateFile(cluster), 'utf8')) as ClusterState
}

/** Names of all clusters with a directory, whole or half removed. */
export async function clusterNames(): Promise<string[]> {
  if (!existsSync(stateRoot)) return []
  const entries = await readdir(stateRoot, { withFileTypes: true })
  return entries.filter(e => e.isDirectory()).map(e => e.name)
}

export async function removeState(cluster: string): Promise<void> {
  await rm(clusterDir(cluster), { recursive: true, force: true, maxRetries: 5 })
}
