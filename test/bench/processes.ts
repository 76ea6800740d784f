// The processes of a test host, as the kernel of this machine sees them.
import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { sleep } from '../../pkg/clock/clock.ts'
import { type CgroupLayout, machineLayout, pidsIn } from '../cluster/cgroups.ts'
import { hostCgroup } from '../cluster/names.ts'
import { parseCgroupCpu, parseCpuTicks, parseMemory, type Sample } from './processes.core.ts'

/** USER_HZ, the same on every Linux that Node runs on. */
const ticksPerSecond = 100

type Moment = { readonly atMs: number; readonly ticks: ReadonlyMap<number, number> }

async function look(pids: readonly number[]): Promise<Moment> {
  const ticks = new Map<number, number>()
  for (const pid of pids) {
    const stat = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => undefined)
    if (stat !== undefined) ticks.set(pid, parseCpuTicks(stat))
  }
  return { atMs: performance.now(), ticks }
}

const processesOf = (cluster: string, host: string) => pidsIn(machineLayout(), hostCgroup(cluster, host))

async function cpuNs(group: string): Promise<number> {
  const layout = machineLayout()
  const file =
    layout.version === 2
      ? join(layout.root, group, 'cpu.stat')
      : join(hierarchyOf(layout, 'cpuacct'), group, 'cpuacct.usage')
  return parseCgroupCpu(await readFile(file, 'utf8'))
}

function hierarchyOf(layout: CgroupLayout & { readonly version: 1 }, controller: string): string {
  const found = layout.hierarchies.find(h => h.options.split(',').includes(controller))
  if (!found) throw new Error(`this machine has no cgroup hierarchy of ${controller}`)
  return found.path
}

/** Percent of one core that a host takes for a while: all that runs in it, however short its life. */
export async function hostCpuPercent(cluster: string, host: string, forMs: number): Promise<number> {
  const group = hostCgroup(cluster, host)
  const [before, from] = [await cpuNs(group), performance.now()]
  await sleep(forMs)
  return ((await cpuNs(group)) - before) / ((performance.now() - from) * 1e4)
}

/** Every process that lives through the whole time. */
export async function sampleHost(cluster: string, host: string, forMs: number): Promise<readonly Sample[]> {
  const pids = await processesOf(cluster, host)
  const before = await look(pids)
  await sleep(forMs)
  const after = await look(pids)
  const samples: Sample[] = []
  for (const pid of pids) {
    const [from, to] = [before.ticks.get(pid), after.ticks.get(pid)]
    const found = await describe(pid)
    if (from === undefined || to === undefined || found === undefined) continue
    samples.push({ pid, ...found, cpuPercent: percent(to - from, after.atMs - before.atMs) })
  }
  return samples
}

/** Undefined for a process that has ended. */
async function describe(pid: number): Promise<Pick<Sample, 'argv' | 'cgroup' | 'memory'> | undefined> {
  const read = (name: string) => readFile(`/proc/${pid}/${name}`, 'utf8').catch(() => '')
  const [cmdline, cgroup, rollup] = [await read('cmdline'), await read('cgroup'), await read('smaps_rollup')]
  const memory = parseMemory(rollup)
  return memory && { argv: cmdline.split('\0').filter(arg => arg !== ''), cgroup, memory }
}

function percent(ticks: number, ms: number): number {
  return (ticks / ticksPerSecond / (ms / 1000)) * 100
}
