// How an app whose data the cluster itself stands on goes from one release to the next (strategies `sirenia` and
// `discoverd-meta`, contract controller.md 5.1), and process types on the host's network (the router): jobs pass their
// volumes and ports on, one at a time, the leader of the service last. While that goes on the controller's database may be away, so nobody can be asked: a release that does not come
// up is taken back here, and the old one gets its counts and volumes again. Called by the step only.
import type { Event, Formation, Handover, Job } from './state.core.ts'
import { acting, isActive, jobsOfApp, jobsOfFormation, type Step, touch } from './step.core.ts'

/** New jobs that end by themselves before the old release is put back. */
export const handoverFailuresMax = 3
/** New jobs that are not up within this are given up. A deployment of such apps waits longer. */
export const handoverTimeoutMs = 90_000
/** How long a new job has run before the next old one is stopped. */
export const handoverSteadyMs = 10_000

const keyOf = (appId: string, type: string): string => `${appId} ${type}`

/** Whether jobs of the type make room for each other instead of running side by side. */
export function handsOver(formation: Formation, type: string): boolean {
  return formation.handover === true || formation.processes[type]?.hostNetwork === true
}

/** Remembers what to go back to when a release gives processes to another one. Call before `next` is taken in. */
export function noteHandovers(step: Step, known: Formation | undefined, next: Formation): void {
  if (known === undefined) return
  for (const [type, before] of Object.entries(known.counts)) {
    if (!handsOver(next, type)) continue
    const given = before - (next.counts[type] ?? 0)
    const [to] = [...step.draft.formations.values()]
      .filter(f => f.appId === next.appId && f.key !== next.key && (f.counts[type] ?? 0) > 0)
      .sort((a, b) => b.updatedAtUs - a.updatedAtUs)
    if (given <= 0 || to === undefined) continue
    step.draft.handovers.set(keyOf(next.appId, type), {
      appId: next.appId,
      type,
      fromKey: next.key,
      toKey: to.key,
      fromCount: before,
      toCount: Math.max(0, (to.counts[type] ?? 0) - given),
      sinceMs: step.nowMs,
    })
  }
}

/** Handovers that are done are forgotten, those that fail are taken back. */
export function settleHandovers(step: Step): void {
  if (!acting(step)) return
  for (const [key, handover] of [...step.draft.handovers]) {
    const [from, to] = [handover.fromKey, handover.toKey].map(k => step.draft.formations.get(k))
    if (from === undefined || to === undefined || isDone(step, handover, from, to)) {
      step.draft.handovers.delete(key)
      continue
    }
    touch(step, from.key)
    const reason = failure(step, handover)
    if (reason === undefined) continue
    step.draft.handovers.delete(key)
    takeBack(step, handover, from, to, reason)
  }
}

function jobsOf(step: Step, key: string, type: string): Job[] {
  return jobsOfFormation(step, key).filter(j => j.type === type)
}

function isDone(step: Step, handover: Handover, from: Formation, to: Formation): boolean {
  const { type } = handover
  const leaving = jobsOf(step, from.key, type).filter(j => j.phase !== 'stopped').length
  const active = jobsOf(step, to.key, type).filter(isActive)
  if ((to.counts[type] ?? 0) === 0) return true
  return (
    leaving <= (from.counts[type] ?? 0) && active.length > 0 && active.every(job => isSafe(step, to, job))
  )
}

/** Up; where no service tells that it is well, it must have lasted. */
function isSafe(step: Step, formation: Formation, job: Job): boolean {
  if (job.phase !== 'running') return false
  return formation.processes[job.type]?.service !== undefined || !isYoung(step, job)
}

function failure(step: Step, handover: Handover): string | undefined {
  const jobs = jobsOf(step, handover.toKey, handover.type)
  const ended = jobs.filter(
    j => j.phase === 'stopped' && j.end === 'reported' && (j.endedMs ?? 0) >= handover.sinceMs,
  )
  if (ended.length >= handoverFailuresMax) return `${ended.length} of its jobs ended by themselves`
  const late = step.nowMs - lastProgressMs(jobs, handover) > handoverTimeoutMs
  return late ? `no job was up within ${handoverTimeoutMs / 1000} s` : undefined
}

/** Each job that comes up gives the next one its time. */
function lastProgressMs(jobs: readonly Job[], handover: Handover): number {
  const ups = jobs.filter(j => j.phase === 'running').map(j => j.startedMs ?? 0)
  return Math.max(handover.sinceMs, ...ups)
}

function takeBack(step: Step, handover: Handover, from: Formation, to: Formation, reason: string): void {
  const { type } = handover
  step.effects.push({
    kind: 'note',
    text: 'release taken back: the old one gets its processes again',
    detail: { formation: to.key, type, reason },
  })
  for (const [formation, count] of [
    [from, handover.fromCount],
    [to, handover.toCount],
  ] as const) {
    const { scale, ...rest } = formation
    const counts = { ...formation.counts, [type]: count }
    step.draft.formations.set(formation.key, { ...rest, counts, takenBack: true })
    if (scale !== undefined)
      step.effects.push({
        kind: 'finishScale',
        formationKey: formation.key,
        request: scale,
        state: 'cancelled',
      })
    touch(step, formation.key)
  }
}

/** The controller's table still tells what was taken back; only something newer counts. */
export function isStale(known: Formation | undefined, next: Formation): boolean {
  if (known === undefined) return false
  return known.takenBack ? next.updatedAtUs <= known.updatedAtUs : next.updatedAtUs < known.updatedAtUs
}

/** Running jobs of this type that may be stopped now. */
export function stopBudget(step: Step, formation: Formation, type: string): number {
  if (!handsOver(formation, type)) return Number.POSITIVE_INFINITY
  const peers = jobsOfApp(step, formation.appId, type)
  const moving = peers.some(j => j.phase === 'stopping' || j.phase === 'starting' || j.phase === 'pending')
  // Where a service tells that a job is well, `running` says enough.
  const young =
    formation.processes[type]?.service === undefined &&
    peers.some(j => j.phase === 'running' && j.formationKey !== formation.key && isYoung(step, j))
  return moving || young ? 0 : 1
}

function isYoung(step: Step, job: Job): boolean {
  return step.nowMs - (job.startedMs ?? 0) < handoverSteadyMs
}

/** Whether a job of another release holds a volume that this one is to take over. */
export function waitsForOldRelease(
  step: Step,
  job: Job,
  formation: Formation,
  path: string,
  hostId: string | undefined,
): boolean {
  if (!formation.handover) return false
  return jobsOfApp(step, job.appId, job.type).some(
    other =>
      other.formationKey !== job.formationKey &&
      other.phase !== 'stopped' &&
      (hostId === undefined || other.hostId === hostId) &&
      other.volumeIds.some(id => step.draft.volumes.get(id)?.path === path),
  )
}

/** The job of another release that still has the ports of the host that this one belongs on. */
export function holderOfHostPorts(step: Step, job: Job, formation: Formation): Job | undefined {
  const process = formation.processes[job.type]
  if (!process?.hostNetwork || job.pinnedHostId === undefined) return undefined
  return jobsOfApp(step, job.appId, job.type).find(
    other =>
      other.formationKey !== job.formationKey &&
      other.hostId === job.pinnedHostId &&
      other.phase !== 'stopped' &&
      !(process.sharedPorts && other.phase === 'stopping'),
  )
}

export function waitsForHostPorts(step: Step, job: Job, formation: Formation): boolean {
  return holderOfHostPorts(step, job, formation) !== undefined
}

/** The job that discoverd names as the leader of its service is stopped last. */
export function leadsService(step: Step, formation: Formation, job: Job): boolean {
  const service = formation.processes[job.type]?.service
  return service !== undefined && step.draft.leaders.get(service) === job.uuid
}

export function onService(step: Step, event: Extract<Event, { kind: 'service' }>): void {
  step.draft.services.set(event.service, new Set(event.jobs))
  if (event.leader === undefined) step.draft.leaders.delete(event.service)
  else step.draft.leaders.set(event.service, event.leader)
}
