// What a run of the test suite left on the machine: its own descendants that are still alive, and mounts, loop devices,
// named namespaces, cgroups, network links and nftables tables that were not there before. suite.ts calls it.
// Processes are told by descent (the suite runs under a reaper), so other people's work on the machine is not blamed;
// of the rest, what belongs to a test cluster of another run is passed over.
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { run, runJson } from '../pkg/proc/run.ts'
import { groupPaths, machineLayout } from './cluster/cgroups.ts'
import { loopsOf } from './cluster/loops.ts'
import { bridgeName, cgroupRoot, clusterDir, tableName } from './cluster/names.ts'
import { type ClusterState, clusterNames, readState } from './cluster/state.ts'

/** The kernel takes namespaces, loop devices and cgroups apart a little after the last process of theirs ended. */
export const settleMs = 10_000

export type Snapshot = Readonly<Record<Kind, readonly string[]>>
export type Kind = 'processes' | 'mounts' | 'loops' | 'namespaces' | 'cgroups' | 'links' | 'tables'

/** `reaper` is the process whose descendants are counted; the calling process and its parents are not. */
export async function takeSnapshot(reaper: number, testRun: string): Promise<Snapshot> {
  const strangers = await foreignClusters(testRun)
  const ofStranger = (path: string) => strangers.some(s => `${path}/`.includes(`/${cgroupRoot}/${s.name}/`))
  const strangerLinks = strangers.map(s => bridgeName(s.subnet))
  const strangerTables = strangers.map(s => tableName(s.subnet))
  const strangerLoops = (await Promise.all(strangers.map(s => loopsOf(clusterDir(s.name))))).flat()
  const layout = machineLayout()
  const links = await runJson<readonly { readonly ifname: string }[]>(['ip', '-j', 'link'])
  const tables = (await run(['nft', 'list', 'tables'])).stdout.split('\n').filter(Boolean)
  return {
    processes: descendants(reaper),
    mounts: mountPoints(),
    loops: (await run(['losetup', '--list', '--noheadings', '--output', 'NAME,BACK-FILE'])).stdout
      .split('\n')
      .map(line => line.trim().replaceAll(/\s+/g, ' '))
      .filter(line => line !== '' && !strangerLoops.includes(line.split(' ')[0] ?? '')),
    namespaces: existsSync('/run/netns') ? readdirSync('/run/netns') : [],
    cgroups: (await groupPaths(layout, '.')).filter(
      path => !ofStranger(path) && (strangers.length === 0 || !path.endsWith(`/${cgroupRoot}`)),
    ),
    links: links
      .map(l => l.ifname)
      .filter(name => !strangerLinks.some(s => name === s || name.startsWith(`${s}-`))),
    tables: tables.filter(line => !strangerTables.includes(line.split(' ').at(-1) ?? '')),
  }
}

async function foreignClusters(testRun: string): Promise<ClusterState[]> {
  const states = await Promise.all((await clusterNames()).map(readState))
  return states.filter(state => state !== undefined).filter(state => state.testRun !== testRun)
}

function mountPoints(): string[] {
  return readFileSync('/proc/self/mountinfo', 'utf8')
    .split('\n')
    .filter(Boolean)
    .map(line => line.split(' ')[4] ?? '')
}

type ProcessRow = { readonly pid: number; readonly parent: number; readonly name: string }

function descendants(reaper: number): string[] {
  const rows = processTable()
  const children = Map.groupBy(rows, row => row.parent)
  const own = new Set<number>()
  for (let pid = process.pid; pid > 1 && pid !== reaper; ) {
    own.add(pid)
    pid = rows.find(row => row.pid === pid)?.parent ?? 0
  }
  const found: string[] = []
  const walk = (pid: number) => {
    for (const child of children.get(pid) ?? []) {
      if (!own.has(child.pid)) found.push(`${child.pid} ${child.name}`)
      walk(child.pid)
    }
  }
  walk(reaper)
  return found
}

function processTable(): ProcessRow[] {
  const rows: ProcessRow[] = []
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    try {
      const stat = readFileSync(join('/proc', entry, 'stat'), 'utf8')
      const match = /^(\d+) \((.*)\) (\S) (\d+)/s.exec(stat)
      if (match && match[3] !== 'Z')
        rows.push({ pid: Number(match[1]), parent: Number(match[4]), name: match[2] ?? '' })
    } catch {
      // It ended while we were reading.
    }
  }
  return rows
}

/** What `after` has more of than `before`; two mounts on one point count as two. */
export function added(before: readonly string[], after: readonly string[]): string[] {
  const rest = [...before]
  return after.filter(item => {
    const at = rest.indexOf(item)
    if (at === -1) return true
    rest.splice(at, 1)
    return false
  })
}

/** Lines like "loops: /dev/loop3 /x"; empty as soon as one look finds nothing, within the time to settle. */
export async function leftBehind(
  before: Snapshot,
  look: () => Promise<Snapshot>,
  withinMs = settleMs,
): Promise<string[]> {
  let persistent: string[] | undefined
  for (const end = Date.now() + withinMs; ; await delay(withinMs / 10)) {
    const now = await look()
    const kinds = Object.keys(before) as Kind[]
    const lines = kinds.flatMap(kind => added(before[kind], now[kind]).map(item => `${kind}: ${item}`))
    const seen = new Set(lines)
    persistent = persistent === undefined ? lines : persistent.filter(line => seen.has(line))
    if (persistent.length === 0 || Date.now() >= end) return persistent
  }
}
