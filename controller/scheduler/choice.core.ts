// Of the hosts where a job may run the one that gets it: it runs fewest of the kind, and would be least full (contract
// controller.md 4.5). Called by placement.core.ts.
import { fullness, type Need, type Obstacle, obstacle, slowStartMs, startsPerHostMax } from './fit.core.ts'
import { isStarting } from './index.core.ts'
import type { Formation, Host, Job } from './state.core.ts'
import { isActive, jobsOfFormation, jobsOfHost, type Step } from './step.core.ts'

/** For so long after a start that failed on a host, as on one whose disk is full, its kind goes elsewhere while it can. */
export const failedStartMs = 60_000
/** More than any number of jobs of one kind. */
const overfullRank = 1e9
/** One line of jobs that wait, in a step. */
export type Line = {
  readonly formation: Formation
  readonly type: string
  /**
   * Hosts to look at: all of them when something about the formation changed, else those that got freer. The others
   * said no before and would say it again.
   */
  readonly hosts: Iterable<Host>
  readonly whole: boolean
  /** How many of the kind each host runs. */
  alike?: Map<string, number>
  /** Hosts on which one of the kind did not start lately. */
  failing?: ReadonlySet<string>
}

/** `rank` decides, `full` chooses among equals. */
type Candidate = { readonly host: Host; readonly rank: number; readonly full: number }

/**
 * The best host, `later` when the best have no start slot free now, or what speaks against each. A worse host is not
 * taken because the best is busy, else the quickest host would get the most; one that is slow to start is not waited for.
 */
export function chooseHost(
  step: Step,
  job: Job,
  need: Need,
  line: Line,
): Host | 'later' | readonly Obstacle[] {
  const { loads } = step.draft.index
  const obstacles: Obstacle[] = []
  const fitting: Host[] = []
  for (const host of line.hosts) {
    const found = obstacle(need, host, loads.get(host.id))
    if (found === undefined) fitting.push(host)
    else obstacles.push(found)
  }
  if (fitting.length === 0) return obstacles
  const failing = failingHosts(step, line)
  const others = fitting.filter(h => h.id !== job.refusedBy && !failing.has(h.id))
  if (others.length > 0 || line.whole) {
    const best = bestOf(step, need, others.length > 0 ? others : fitting, alikeByHost(step, line))
    if (best === undefined) return 'later'
    // Of the hosts that were not looked at none runs fewer than none of the kind.
    if (line.whole || best.rank === 0) return best.host
  }
  return chooseHost(step, job, need, { ...line, whole: true, hosts: step.draft.hosts.values() })
}

function bestOf(
  step: Step,
  need: Need,
  hosts: readonly Host[],
  alike: ReadonlyMap<string, number>,
): Candidate | undefined {
  let best: Candidate | undefined
  let ties = 1
  let lowest = Number.POSITIVE_INFINITY
  for (const host of hosts) {
    const load = step.draft.index.loads.get(host.id)
    const full = fullness(need.asks, host, load)
    // Only jobs of system apps get onto a host that is promised more than it has: when there is no other.
    const rank = (alike.get(host.id) ?? 0) + (full > 1 ? overfullRank : 0)
    const free = (load?.starts ?? 0) < startsPerHostMax
    if (rank < lowest && (free || !isSlow(step, host))) lowest = rank
    if (!free) continue
    const order = best === undefined ? -1 : rank - best.rank || full - best.full
    ties = order === 0 ? ties + 1 : order < 0 ? 1 : ties
    if (order < 0 || (order === 0 && step.random.below(ties) === 0)) best = { host, rank, full }
  }
  return best !== undefined && best.rank <= lowest ? best : undefined
}

function alikeByHost(step: Step, line: Line): ReadonlyMap<string, number> {
  if (line.alike) return line.alike
  const counts = new Map<string, number>()
  for (const job of jobsOfFormation(step, line.formation.key))
    if (job.type === line.type && job.hostId !== undefined && isActive(job))
      counts.set(job.hostId, (counts.get(job.hostId) ?? 0) + 1)
  line.alike = counts
  return counts
}

function failingHosts(step: Step, line: Line): ReadonlySet<string> {
  line.failing ??= new Set(
    jobsOfFormation(step, line.formation.key)
      .filter(j => j.type === line.type && neverRan(j) && step.nowMs - (j.endedMs ?? 0) < failedStartMs)
      .flatMap(j => j.hostId ?? []),
  )
  return line.failing
}

/** Its host gave it up before there was a process: a process that ends at once says nothing about the host. */
function neverRan(job: Job): boolean {
  return (
    job.end === 'reported' && !job.hostRunning && job.hostError !== undefined && job.startedMs === undefined
  )
}

/** Every start under way on it has been so for long. */
function isSlow(step: Step, host: Host): boolean {
  return jobsOfHost(step, host.id)
    .filter(isStarting)
    .every(job => step.nowMs - (job.askedMs ?? 0) > slowStartMs)
}
