// Formations against jobs (contract controller.md 4.3, 4.8): what is missing is created, what is too much is stopped,
// newest first, and a scale request ends when the running numbers are the wanted ones. Called by the step only.
import { isLeaving, replaceLeaving } from './drain.core.ts'
import { isStale, leadsService, noteHandovers, stopBudget } from './handover.core.ts'
import { createJob, stopJob } from './job.core.ts'
import type { Formation, Job, State } from './state.core.ts'
import {
  acting,
  isActive,
  isUnplaced,
  jobsOfFormation,
  omniHosts,
  type Step,
  tagsMatch,
  touch,
} from './step.core.ts'

/** Jobs of a formation that the controller does not know are stopped after this; never those of system apps. */
export const strayGraceMs = 120_000
/** Forgotten formations that are remembered by name. */
export const emptiedMax = 10_000

/** Takes in a formation as the controller describes it; older news and refused changes leave it as it was. */
export function updateFormation(step: Step, formation: Formation): void {
  const { formations, strays, unlisted, emptied } = step.draft
  const known = formations.get(formation.key)
  strays.delete(formation.key)
  unlisted.delete(formation.key)
  emptied.delete(formation.key)
  if (isStale(known, formation)) return
  if (refused(step, known, formation)) {
    step.effects.push({
      kind: 'note',
      text: 'scale refused: it would stop the last process of a critical app',
      detail: { formation: formation.key },
    })
    if (formation.scale !== undefined && acting(step))
      step.effects.push({
        kind: 'finishScale',
        formationKey: formation.key,
        request: formation.scale,
        state: 'cancelled',
      })
    if (known !== undefined) formations.set(known.key, { ...known, updatedAtUs: formation.updatedAtUs })
    else {
      const { scale, ...kept } = formation
      formations.set(formation.key, { ...kept, counts: runningCounts(step, formation.key) })
    }
    return
  }
  noteHandovers(step, known, formation)
  formations.set(formation.key, formation)
  touch(step, formation.key)
}

function runningCounts(step: Step, key: string): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const job of jobsOfFormation(step, key))
    if (job.phase === 'running') counts[job.type] = (counts[job.type] ?? 0) + 1
  return counts
}

/** A critical app keeps every process type that it has, in one release or another (4.8). */
function refused(step: Step, known: Formation | undefined, next: Formation): boolean {
  if (!next.critical) return false
  const before = known?.counts ?? runningCounts(step, next.key)
  const others = [...step.draft.formations.values()].filter(f => f.appId === next.appId && f.key !== next.key)
  return Object.entries(before).some(
    ([type, count]) =>
      count > 0 && (next.counts[type] ?? 0) === 0 && !others.some(f => wantedCount(f, type) > 0),
  )
}

/** The controller's full list: what is missing from two lists in a row counts as scaled to zero (4.1). */
export function syncFormations(step: Step, listed: readonly Formation[]): void {
  const { formations, unlisted } = step.draft
  for (const formation of listed) updateFormation(step, formation)
  const keys = new Set(listed.map(f => f.key))
  for (const formation of [...formations.values()]) {
    if (keys.has(formation.key)) continue
    const empty = Object.values(formation.counts).every(n => n === 0)
    const hasJobs = jobsOfFormation(step, formation.key).some(j => j.phase !== 'stopped')
    if (empty && !hasJobs) {
      forget(step, formation.key)
    } else if (!empty && !unlisted.has(formation.key)) {
      unlisted.add(formation.key)
    } else if (!empty) {
      const { scale, ...rest } = formation
      updateFormation(step, { ...rest, counts: {} })
    }
  }
}

function forget(step: Step, key: string): void {
  const { formations, unlisted, emptied } = step.draft
  formations.delete(key)
  unlisted.delete(key)
  if (emptied.size >= emptiedMax) for (const first of [...emptied.keys()].slice(0, 1)) emptied.delete(first)
  emptied.set(key, true)
}

/** Creates and stops jobs of the formations that something happened to. */
export function rectify(step: Step): void {
  if (!acting(step)) return
  // Stopping and creating touches the same formations again; once is enough.
  for (const key of [...step.draft.dirty]) {
    const formation = step.draft.formations.get(key)
    if (formation === undefined) noteStray(step, key)
    else rectifyFormation(step, formation)
  }
}

function noteStray(step: Step, key: string): void {
  const jobs = jobsOf(step, key)
  // A host that was away for long brought back what is long unwanted.
  if (step.draft.emptied.has(key)) for (const job of jobs) stopJob(step, job)
  else if (jobs.length === 0) step.draft.strays.delete(key)
  else if (!step.draft.strays.has(key)) step.draft.strays.set(key, step.nowMs)
}

/** Stops jobs whose formation has been unknown for a while: their app or release was deleted. */
export function stopStrays(step: Step): void {
  if (!acting(step)) return
  for (const [key, sinceMs] of [...step.draft.strays]) {
    if (step.nowMs - sinceMs < strayGraceMs) continue
    for (const job of jobsOf(step, key)) if (!job.system) stopJob(step, job)
  }
}

function jobsOf(step: Step, key: string): Job[] {
  return jobsOfFormation(step, key).filter(isActive)
}

function rectifyFormation(step: Step, formation: Formation): void {
  const all = jobsOf(step, formation.key)
  const misplaced = all.filter(job => {
    const host = job.onHost && job.hostId !== undefined ? step.draft.hosts.get(job.hostId) : undefined
    return host !== undefined && !tagsMatch(formation.tags[job.type], host.tags)
  })
  for (const job of misplaced) stopJob(step, job)
  const byType = Map.groupBy(misplaced.length > 0 ? jobsOf(step, formation.key) : all, job => job.type)
  for (const type of new Set([...Object.keys(formation.processes), ...byType.keys()])) {
    const jobs = byType.get(type) ?? []
    if (formation.processes[type]?.omni) rectifyOmni(step, formation, type, jobs)
    else rectifyType(step, formation, type, jobs)
  }
  finishScale(step, formation)
}

function wantedCount(formation: Formation, type: string): number {
  return formation.processes[type] === undefined ? 0 : (formation.counts[type] ?? 0)
}

function rectifyType(step: Step, formation: Formation, type: string, jobs: readonly Job[]): void {
  const wanted = wantedCount(formation, type)
  if (jobs.some(j => isLeaving(step, j))) {
    replaceLeaving(step, formation, type, { jobs, wanted, stopSurplus })
    return
  }
  const diff = wanted - jobs.length
  for (let i = 0; i < diff; i++) createJob(step, formation, type)
  if (diff < 0) stopSurplus(step, formation, jobs, -diff)
}

function rectifyOmni(step: Step, formation: Formation, type: string, all: readonly Job[]): void {
  const wanted = wantedCount(formation, type)
  const hosts = omniHosts(step, formation, type)
  const byHost = Map.groupBy(all, job => job.hostId ?? job.pinnedHostId)
  for (const host of hosts) {
    const jobs = byHost.get(host.id) ?? []
    const diff = wanted - jobs.length
    if (host.synced)
      for (let i = 0; i < diff; i++) createJob(step, formation, type, { pinnedHostId: host.id })
    if (diff < 0) stopSurplus(step, formation, jobs, -diff)
  }
  // A host on its way out ends its own jobs; only what was not started yet is taken back.
  const ids = new Set(hosts.map(h => h.id))
  for (const job of all) if (isUnplaced(job) && !ids.has(job.pinnedHostId ?? '')) stopJob(step, job)
}

/**
 * Unplaced ones first, then those on hosts that shut down, then starting before running, newest first (4.3), and the
 * leader of its service last.
 */
function stopSurplus(step: Step, formation: Formation, jobs: readonly Job[], count: number): void {
  const rank = (job: Job): number => {
    if (isUnplaced(job)) return 0
    if (job.hostId !== undefined && step.draft.hosts.get(job.hostId)?.shutdown) return 1
    if (job.phase !== 'running') return 2
    return leadsService(step, formation, job) ? 4 : 3
  }
  const age = (job: Job): number => job.startedMs ?? job.createdMs
  const order = [...jobs].sort(
    (a, b) => rank(a) - rank(b) || age(b) - age(a) || b.createdMs - a.createdMs || (a.uuid < b.uuid ? -1 : 1),
  )
  for (const job of order.slice(0, count))
    if (job.phase !== 'running' || stopBudget(step, formation, job.type) > 0) stopJob(step, job)
}

function finishScale(step: Step, formation: Formation): void {
  const request = formation.scale
  if (request === undefined || !reached(step, formation)) return
  const { scale, ...rest } = formation
  step.draft.formations.set(formation.key, rest)
  step.effects.push({ kind: 'finishScale', formationKey: formation.key, request, state: 'complete' })
}

function reached(step: Step, formation: Formation): boolean {
  const running = jobsOf(step, formation.key).filter(j => j.phase === 'running')
  const types = new Set([...Object.keys(formation.processes), ...running.map(j => j.type)])
  return [...types].every(type => {
    const mine = running.filter(j => j.type === type)
    const wanted = wantedCount(formation, type)
    if (!formation.processes[type]?.omni) return mine.length === wanted
    const hosts = omniHosts(step, formation, type)
    return hosts.every(h => mine.filter(j => j.hostId === h.id).length === wanted)
  })
}

/** What the formation asks for in all, for tests and `/debug/state`. */
export function wantedJobs(state: State, formation: Formation, type: string): number {
  const count = wantedCount(formation, type)
  if (!formation.processes[type]?.omni) return count
  const hosts = [...state.hosts.values()].filter(h => !h.shutdown && tagsMatch(formation.tags[type], h.tags))
  return count * hosts.length
}
