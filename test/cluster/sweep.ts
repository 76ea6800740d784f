// Finds and removes all that belongs to a test cluster, by its names alone: works after a crash, without the state
// file, and on a cluster that is half there. cluster.ts calls it at every up and down.
import { existsSync, readFileSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { run } from '../../pkg/proc/run.ts'
import { groupPaths, killGroup, machineLayout, pidsIn, removeGroup, removeGroupIfEmpty } from './cgroups.ts'
import { restoreKernel } from './kernel.ts'
import { freeLoops, loopsOf } from './loops.ts'
import { cgroupRoot, clusterCgroup, clusterDir } from './names.ts'
import { isAnothers, linksOf, removeNetwork, subnetsOf, tablesOf } from './network.ts'
import { clusterNames, readState, removeState, stillRuns } from './state.ts'
import type { Leftovers } from './types.ts'

/** Everything of the cluster that still exists. `subnet` widens the search to names that only carry its number. */
export async function leftovers(cluster: string, subnet?: number): Promise<Leftovers> {
  const layout = machineLayout()
  const group = clusterCgroup(cluster)
  const dir = clusterDir(cluster)
  const subnets = await knownSubnets(cluster, subnet)
  const processes: string[] = []
  for (const pid of await pidsIn(layout, group)) {
    const command = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '')
    processes.push(`${pid} ${command.trim()}`)
  }
  return {
    processes,
    cgroups: await groupPaths(layout, group),
    mounts: mountsBelow(dir),
    loops: await loopsOf(dir),
    links: (await Promise.all(subnets.map(linksOf))).flat(),
    tables: (await Promise.all(subnets.map(tablesOf))).flat(),
    directories: existsSync(dir) ? [dir] : [],
  }
}

async function knownSubnets(cluster: string, subnet?: number): Promise<number[]> {
  const state = await readState(cluster)
  const known = [...(await subnetsOf(cluster)), state?.subnet, subnet].filter(n => n !== undefined)
  const numbers = [...new Set(known)]
  const foreign = await Promise.all(numbers.map(n => isAnothers(cluster, n)))
  return numbers.filter((_, i) => !foreign[i])
}

function mountsBelow(dir: string): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .map(line => line.split(' ')[4] ?? '')
    .filter(path => path.startsWith(`${dir}/`))
}

/** Removes the cluster whatever state it is in. Does nothing where there is none. */
export async function sweep(cluster: string): Promise<void> {
  const layout = machineLayout()
  const group = clusterCgroup(cluster)
  // Read before the bridge goes: its alias is what leads to the tables.
  const subnets = await knownSubnets(cluster)
  for (const subnet of subnets) await removeNetwork(subnet)
  await killGroup(layout, group)
  for (const path of mountsBelow(clusterDir(cluster)).reverse()) await run(['umount', '-l', path])
  await freeLoops(clusterDir(cluster))
  await removeGroup(layout, group)
  await removeState(cluster)
  // The common parent goes with the last cluster.
  await removeGroupIfEmpty(layout, cgroupRoot)
  await restoreKernel()
}

/** Removes clusters whose maker ended without `down`: a test that was killed. */
export async function sweepOrphans(): Promise<void> {
  for (const name of await clusterNames()) {
    const owner = (await readState(name))?.owner
    if (owner !== undefined && !stillRuns(owner)) await sweep(name)
  }
}
