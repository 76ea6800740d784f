// What a seed does to a cluster in one round: which faults, on whom, when and for how long. The same seed, number of hosts
// and choice of faults give the same plan, so that a round can be played again. faults.ts carries it out. Pure.
import { type Random, seededRandom } from '../../pkg/random/random.core.ts'

export const faultKinds = [
  'kill',
  'storm',
  'rolling-restart',
  'power-off',
  'power-cut',
  'freeze',
  'partition',
  'membership',
  'disk-full',
] as const
export type FaultKind = (typeof faultKinds)[number]

export const daemonNames = [
  'flynn-host',
  'containerd',
  'discoverd',
  'etcd',
  'haproxy',
  'router',
  'controller',
  'scheduler',
  'worker',
  'patroni',
  'postmaster',
] as const
export type DaemonName = (typeof daemonNames)[number]

/** Things that one host leads; which one it is, the cluster says when the fault comes. */
export const leaderships = ['etcd', 'postgres', 'scheduler'] as const
export type Leadership = (typeof leaderships)[number]
export type Victim =
  | { readonly type: 'host'; readonly host: number }
  | { readonly type: 'leader'; readonly of: Leadership }

export const partitionShapes = ['half', 'leader-alone', 'one-way', 'ring'] as const
export type PartitionShape = (typeof partitionShapes)[number]
/** What `from` sends to `to` is dropped. */
export type Cut = { readonly from: number; readonly to: number }

export type Fault =
  | { readonly kind: 'kill'; readonly daemon: DaemonName; readonly victim: Victim }
  | {
      readonly kind: 'storm'
      readonly daemon: DaemonName
      readonly victim: Victim
      readonly times: number
      readonly pauseMs: number
    }
  /** Every daemon of every host in this order of hosts, each back before the next goes. */
  | { readonly kind: 'rolling-restart'; readonly order: readonly number[] }
  | { readonly kind: 'power-off'; readonly victim: Victim; readonly offMs: number }
  /** All hosts at once; they boot in this order, the last one perhaps much later. */
  | {
      readonly kind: 'power-cut'
      readonly offMs: number
      readonly order: readonly number[]
      readonly pausesMs: readonly number[]
    }
  | { readonly kind: 'freeze'; readonly victim: Victim; readonly forMs: number }
  | {
      readonly kind: 'partition'
      readonly shape: PartitionShape
      /** For `leader-alone` the side is found when the fault comes. */
      readonly of: Leadership
      readonly cuts: readonly Cut[]
      readonly forMs: number
    }
  /** Demoted, and promoted again. */
  | { readonly kind: 'membership'; readonly victim: Victim; readonly forMs: number }
  /** Not a block is left on the host's disk. */
  | { readonly kind: 'disk-full'; readonly victim: Victim; readonly forMs: number }

/** `atMs` counts from the beginning of the round; faults that are late begin when the one before has ended. */
export type PlannedFault = { readonly atMs: number; readonly fault: Fault }
export type Plan = {
  readonly seed: number
  readonly hosts: number
  /** One after the other: what happens to whole hosts and to the network. */
  readonly machines: readonly PlannedFault[]
  /** Beside them, one after the other too: what happens to processes. */
  readonly processes: readonly PlannedFault[]
}

export type PlanOptions = {
  readonly seed: number
  readonly hosts: number
  /** All when absent. */
  readonly kinds?: readonly FaultKind[]
}

const processKinds: readonly FaultKind[] = ['kill', 'storm', 'rolling-restart']
const quietBeforeMs = 2_000
const gapMaxMs = 6_000
const machineFaultsMax = 2
const processFaultsMax = 3
export const freezeMinMs = 5_000
export const freezeMaxMs = 60_000
const partitionMinMs = 5_000
const partitionMaxMs = 30_000
const offMaxMs = 20_000
const fullMinMs = 5_000
const fullMaxMs = 40_000
const bootPauseMaxMs = 8_000
/** A host that is missed for a while at the end of a power cut. */
const missingMaxMs = 40_000
const stormTimesMax = 8

export function planRound({ seed, hosts, kinds = faultKinds }: PlanOptions): Plan {
  const random = seededRandom([seed >>> 0, Math.floor(seed / 2 ** 32) >>> 0, hosts, 0x666c796e])
  const forMachines = kinds.filter(k => !processKinds.includes(k))
  const forProcesses = kinds.filter(k => processKinds.includes(k))
  const machines = drawTrack(random, hosts, forMachines, machineFaultsMax)
  // Every round has at least one fault, and most have some of each sort.
  const least = machines.length === 0 ? 1 : 0
  const processes = drawTrack(random, hosts, forProcesses, processFaultsMax, least)
  return { seed, hosts, machines, processes }
}

function drawTrack(
  random: Random,
  hosts: number,
  kinds: readonly FaultKind[],
  most: number,
  least = 1,
): PlannedFault[] {
  if (kinds.length === 0) return []
  const count = between(random, least, most)
  const track: PlannedFault[] = []
  let atMs = quietBeforeMs
  for (let i = 0; i < count; i++) {
    atMs += random.below(gapMaxMs)
    const fault = drawFault(random, hosts, pick(random, kinds))
    track.push({ atMs, fault })
    atMs += leastDurationMs(fault)
  }
  return track
}

function drawFault(random: Random, hosts: number, kind: FaultKind): Fault {
  switch (kind) {
    case 'kill':
      return { kind, daemon: pick(random, daemonNames), victim: drawVictim(random, hosts) }
    case 'storm': {
      const times = between(random, 3, stormTimesMax)
      const pauseMs = between(random, 200, 2_000)
      return { kind, daemon: pick(random, daemonNames), victim: drawVictim(random, hosts), times, pauseMs }
    }
    case 'rolling-restart':
      return { kind, order: random.shuffle(indexes(hosts)) }
    case 'power-off':
      return { kind, victim: drawVictim(random, hosts), offMs: random.below(offMaxMs) }
    case 'power-cut': {
      const order = random.shuffle(indexes(hosts))
      const pausesMs = order.map(() => random.below(bootPauseMaxMs))
      if (random.below(2) === 0) pausesMs[hosts - 1] = between(random, missingMaxMs / 2, missingMaxMs)
      return { kind, offMs: random.below(offMaxMs / 4), order, pausesMs }
    }
    case 'freeze': {
      // Short ones are more frequent: the long ones say nothing that half a minute does not.
      const most = random.below(4) === 0 ? freezeMaxMs : freezeMaxMs / 3
      return { kind, victim: drawVictim(random, hosts), forMs: between(random, freezeMinMs, most) }
    }
    case 'partition': {
      const shape = pick(random, partitionShapes)
      const cuts = drawCuts(random, hosts, shape)
      const of = pick(random, leaderships)
      return { kind, shape, of, cuts, forMs: between(random, partitionMinMs, partitionMaxMs) }
    }
    case 'membership':
      return { kind, victim: drawVictim(random, hosts), forMs: between(random, 1_000, 10_000) }
    case 'disk-full':
      return { kind, victim: drawVictim(random, hosts), forMs: between(random, fullMinMs, fullMaxMs) }
  }
}

function drawVictim(random: Random, hosts: number): Victim {
  if (random.below(2) === 0) return { type: 'leader', of: pick(random, leaderships) }
  return { type: 'host', host: 1 + random.below(hosts) }
}

function drawCuts(random: Random, hosts: number, shape: PartitionShape): Cut[] {
  const order = random.shuffle(indexes(hosts))
  switch (shape) {
    case 'half': {
      const few = order.slice(0, Math.floor(hosts / 2))
      return bothWays(few, order.slice(few.length))
    }
    case 'leader-alone':
      return []
    case 'one-way': {
      const [from = 1, to = 2] = order
      return [{ from, to }]
    }
    case 'ring':
      return ringCuts(order)
  }
}

/** Each host keeps its two neighbours; three hosts lose one link, because all of them are neighbours. */
function ringCuts(order: readonly number[]): Cut[] {
  const [a = 1, b = 2] = order
  if (order.length <= 3) return bothWays([a], [b])
  const cuts: Cut[] = []
  for (const [i, x] of order.entries())
    for (const [j, y] of order.entries()) {
      const apart = Math.abs(i - j)
      if (apart > 1 && apart < order.length - 1) cuts.push({ from: x, to: y })
    }
  return cuts
}

/** Every link between the two sides, in both directions. */
export function bothWays(left: readonly number[], right: readonly number[]): Cut[] {
  return left.flatMap(a =>
    right.flatMap(b => [
      { from: a, to: b },
      { from: b, to: a },
    ]),
  )
}

function leastDurationMs(fault: Fault): number {
  switch (fault.kind) {
    case 'kill':
    case 'rolling-restart':
      return 0
    case 'storm':
      return fault.times * fault.pauseMs
    case 'power-off':
      return fault.offMs
    case 'power-cut':
      return fault.offMs + fault.pausesMs.reduce((a, b) => a + b, 0)
    case 'freeze':
    case 'partition':
    case 'membership':
    case 'disk-full':
      return fault.forMs
  }
}

const indexes = (hosts: number) => Array.from({ length: hosts }, (_, i) => i + 1)
const between = (random: Random, least: number, most: number) => least + random.below(most - least + 1)
function pick<T>(random: Random, list: readonly T[]): T {
  const one = list[random.below(list.length)]
  if (one === undefined) throw new Error('nothing to pick from')
  return one
}

/** The plan for people, a line a fault, in the order in which they begin. */
export function tellPlan(plan: Plan): string[] {
  return [...plan.machines, ...plan.processes]
    .toSorted((a, b) => a.atMs - b.atMs)
    .map(({ atMs, fault }) => `${seconds(atMs).padStart(8)}  ${tellFault(fault)}`)
}

export function tellFault(fault: Fault): string {
  switch (fault.kind) {
    case 'kill':
      return `kill -9 of ${fault.daemon} on ${tellVictim(fault.victim)}`
    case 'storm':
      return `kill -9 of ${fault.daemon} on ${tellVictim(fault.victim)}, ${fault.times} times, ${fault.pauseMs} ms apart`
    case 'rolling-restart':
      return `restart of every daemon, host by host: ${fault.order.map(h => `h${h}`).join(', ')}`
    case 'power-off':
      return `power off ${tellVictim(fault.victim)} for ${seconds(fault.offMs)}`
    case 'power-cut': {
      const boots = fault.order.map((h, i) => `h${h} after ${seconds(fault.pausesMs[i] ?? 0)}`)
      return `power off all for ${seconds(fault.offMs)}, boot ${boots.join(', ')}`
    }
    case 'freeze':
      return `freeze ${tellVictim(fault.victim)} for ${seconds(fault.forMs)}`
    case 'partition': {
      const cuts = fault.cuts.map(c => `h${c.from}>h${c.to}`).join(' ')
      const what = fault.shape === 'leader-alone' ? `leader of ${fault.of} alone` : `${fault.shape} ${cuts}`
      return `partition: ${what} for ${seconds(fault.forMs)}`
    }
    case 'membership':
      return `demote ${tellVictim(fault.victim)}, promote it ${seconds(fault.forMs)} later`
    case 'disk-full':
      return `fill the disk of ${tellVictim(fault.victim)} for ${seconds(fault.forMs)}`
  }
}

const tellVictim = (victim: Victim) =>
  victim.type === 'host' ? `h${victim.host}` : `the leader of ${victim.of}`
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`
