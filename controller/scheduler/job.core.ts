// The life of one job (contract controller.md 4.4, 4.7): what its host reports, how it is stopped and drained, when it
// counts as up, and what follows it when it ends. States never go backwards, except that a job given up as lost comes
// back when its host does. Called by the scheduler's step only.
import type { Asks, Backend, Formation, HostJob, Job, JobEnd, Router } from './state.core.ts'
import {
  acting,
  holdersOf,
  isActive,
  isUnplaced,
  jobsOfApp,
  jobsOfFormation,
  movingJobs,
  omniHosts,
  processOf,
  record,
  recordVolume,
  type Step,
  setJob,
  touch,
} from './step.core.ts'

/** How long a job waits for routers to report it up, and a stop for them to drain it (4.6, 4.7). */
export const routerWaitMs = 10_000
/** A stop without an end is repeated after this; the host itself takes up to 30 s to kill. */
export const stopRepeatMs = 60_000
/** A failed stop request is repeated after this. */
export const stopRetryMs = 5_000
/** A job that ran this long has not crashed at its start: the count of restarts begins anew (4.7). */
export const steadyRunMs = 5 * 60_000

/** Of a job of which nobody knows what it asks for. */
export const asksNothing: Asks = { memoryBytes: 0, cpuMillis: 0 }

/** Delay before restart number `restarts` + 1 (4.7). */
export function restartDelayMs(restarts: number): number {
  if (restarts < 5) return 0
  return restarts < 15 ? 10_000 : 30_000
}

export type NewJob = {
  readonly restarts?: number
  readonly notBeforeMs?: number
  readonly pinnedHostId?: string | undefined
  readonly volumeIds?: readonly string[]
}

export function createJob(step: Step, formation: Formation, type: string, options: NewJob = {}): Job {
  const job: Job = {
    uuid: step.random.uuid(),
    appId: formation.appId,
    releaseId: formation.releaseId,
    formationKey: formation.key,
    type,
    phase: 'pending',
    system: formation.system,
    ...(options.pinnedHostId === undefined ? {} : { pinnedHostId: options.pinnedHostId }),
    placing: false,
    onHost: false,
    hostRunning: false,
    restarts: options.restarts ?? 0,
    attempts: 0,
    notBeforeMs: options.notBeforeMs ?? 0,
    uncertain: false,
    createdMs: step.nowMs,
    volumeIds: options.volumeIds ?? [],
    asks: formation.processes[type]?.asks ?? asksNothing,
    args: formation.processes[type]?.args ?? [],
    meta: formation.meta,
  }
  return record(step, setJob(step, job, {}), 'pending')
}

/** Takes in what a host says about one of its jobs. */
export function reportJob(step: Step, report: HostJob): void {
  if (report.appId === '') return
  const known = step.draft.jobs.get(report.uuid)
  const active = report.status === 'starting' || report.status === 'running'
  if (known === undefined) {
    if (active) activate(step, fromReport(report), report)
    else remember(step, report)
    return
  }
  if (known.phase === 'stopped') {
    reportStopped(step, known, report, active)
    return
  }
  if (known.hostId !== undefined && known.hostId !== report.hostId) {
    if (!active) return
    // Whoever acts has asked another host since.
    if (!acting(step) && !known.onHost) activate(step, known, report)
    // A start that was given up on, and succeeded after all (4.7).
    else askStop(step, report.hostId, report.uuid)
    return
  }
  if (active) activate(step, known, report)
  else finishJob(step, known, 'reported', report)
}

function reportStopped(step: Step, job: Job, report: HostJob, active: boolean): void {
  if (job.end === 'reported' && job.hostId === report.hostId) return
  if (job.end === 'lost' && (job.hostId === undefined || job.hostId === report.hostId)) {
    if (active) {
      const { restarts, recorded } = job
      activate(step, { ...fromReport(report), restarts, ...(recorded ? { recorded } : {}) }, report)
    } else {
      setJob(step, job, { end: 'reported' })
    }
    return
  }
  if (active) askStop(step, report.hostId, report.uuid)
}

/** Who does not act stops nothing: it may know less than the one who does. */
export function askStop(step: Step, hostId: string, uuid: string): void {
  if (acting(step)) step.effects.push({ kind: 'stop', hostId, uuid })
}

function fromReport(report: HostJob): Job {
  return {
    uuid: report.uuid,
    appId: report.appId,
    releaseId: report.releaseId,
    ...(report.formation ? { formationKey: `${report.appId}:${report.releaseId}` } : {}),
    type: report.type,
    phase: 'pending',
    system: report.system,
    hostId: report.hostId,
    placing: false,
    onHost: true,
    hostRunning: false,
    restarts: 0,
    attempts: 0,
    notBeforeMs: 0,
    uncertain: false,
    createdMs: report.createdMs,
    volumeIds: report.volumes.map(v => v.id),
    asks: report.asks ?? asksNothing,
    args: report.args,
    meta: report.meta,
  }
}

/** A job that ended before it was known is kept, so that the controller can be told how. */
function remember(step: Step, report: HostJob): void {
  setJob(step, fromReport(report), {
    phase: 'stopped',
    end: 'reported',
    endedMs: step.nowMs,
    exitStatus: report.exitStatus,
    hostError: report.error,
  })
}

function activate(step: Step, job: Job, report: HostJob): void {
  adoptVolumes(step, report)
  const stopping = job.phase === 'stopping'
  const started = report.startedMs ?? job.startedMs
  let next = setJob(step, job, {
    hostId: report.hostId,
    onHost: true,
    placing: false,
    uncertain: false,
    hostRunning: job.hostRunning || report.status === 'running',
    startedMs: started,
    blockedBecause: undefined,
    args: keep(job.args, report.args),
    volumeIds: keep(
      job.volumeIds,
      report.volumes.map(v => v.id),
    ),
  })
  if (stopping) {
    if (!job.onHost) requestStop(step, next)
    return
  }
  if (next.phase === 'pending' || next.phase === 'blocked') {
    next = setJob(step, next, { phase: 'starting' })
    if (next.recorded !== 'up') next = record(step, next, 'starting')
  }
}

/** The list as it was when the news says the same, or nothing. */
function keep(known: readonly string[], news: readonly string[]): readonly string[] {
  const same = news.length === known.length && news.every((item, n) => item === known[n])
  return same || news.length === 0 ? known : news
}

/** Volumes that a running job holds exist, whatever the controller's table says. */
function adoptVolumes(step: Step, report: HostJob): void {
  for (const v of report.volumes) {
    const known = step.draft.volumes.get(v.id)
    if (known?.state === 'created' || known?.state === 'destroyed') continue
    recordVolume(
      step,
      {
        id: v.id,
        hostId: report.hostId,
        appId: report.appId,
        releaseId: report.releaseId,
        type: report.type,
        path: v.path,
        deleteOnStop: v.deleteOnStop,
        decommissioned: false,
        createdMs: report.createdMs,
        ...known,
        state: 'created',
      },
      report.uuid,
    )
  }
}

type EndInfo = { readonly exitStatus?: number; readonly error?: string }

/** The job is over. When nobody asked for that and its formation still wants it, another takes its place. */
export function finishJob(step: Step, job: Job, end: JobEnd, info: EndInfo = {}): void {
  const asked = job.phase === 'stopping' || end === 'cancelled'
  const ended = setJob(step, job, {
    phase: 'stopped',
    end,
    endedMs: step.nowMs,
    exitStatus: info.exitStatus,
    hostError: info.error,
    placing: false,
    uncertain: false,
    gateUntilMs: undefined,
    drainUntilMs: undefined,
    stopAgainMs: undefined,
  })
  record(step, ended, 'down')
  releaseVolumes(step, ended)
  forgetBackends(step, ended.uuid)
  if (!asked && acting(step)) restart(step, ended)
}

function releaseVolumes(step: Step, job: Job): void {
  for (const id of job.volumeIds) {
    const volume = step.draft.volumes.get(id)
    if (volume === undefined || volume.state === 'destroyed') continue
    if (volume.state === 'pending' || volume.deleteOnStop)
      recordVolume(step, { ...volume, state: 'destroyed' })
    else if (!heldByAnother(step, id, job.uuid)) recordVolume(step, volume)
  }
}

function heldByAnother(step: Step, volumeId: string, uuid: string): boolean {
  return holdersOf(step, volumeId).some(j => j.uuid !== uuid)
}

/** What routers hold of a job. */
function backendsOf(step: Step, uuid: string): readonly Backend[] {
  return [...step.draft.routers.values()].flatMap(r => [...r.backends.values()].filter(b => b.uuid === uuid))
}

/** A job that is gone has nothing left to drain, whatever a router was told too late. */
function forgetBackends(step: Step, uuid: string): void {
  for (const router of step.draft.routers.values()) {
    const backends = new Map([...router.backends].filter(([, b]) => b.uuid !== uuid))
    if (backends.size < router.backends.size) step.draft.routers.set(router.id, { ...router, backends })
  }
}

function restart(step: Step, job: Job): void {
  const formation = job.formationKey === undefined ? undefined : step.draft.formations.get(job.formationKey)
  const process = formation?.processes[job.type]
  if (formation === undefined || process === undefined) return
  const hostId = process.omni ? (job.hostId ?? job.pinnedHostId) : undefined
  if (process.omni && !omniHosts(step, formation, job.type).some(h => h.id === hostId)) return
  const peers = jobsOfFormation(step, formation.key).filter(
    j => j.type === job.type && isActive(j) && (!process.omni || (j.hostId ?? j.pinnedHostId) === hostId),
  )
  if (peers.length >= (formation.counts[job.type] ?? 0)) return
  // A host that was lost says nothing about the job itself.
  const before = step.nowMs - (job.startedMs ?? step.nowMs) > steadyRunMs ? 0 : job.restarts
  const crashed = job.end === 'reported'
  createJob(step, formation, job.type, {
    restarts: crashed ? before + 1 : before,
    notBeforeMs: crashed ? step.nowMs + restartDelayMs(before) : 0,
    pinnedHostId: hostId,
    volumeIds: job.volumeIds.filter(id => step.draft.volumes.get(id)?.deleteOnStop === false),
  })
}

/** Takes a job out of service and ends it: cancelled while no host knows it, else drained and stopped (4.7). */
export function stopJob(step: Step, job: Job): void {
  if (!isActive(job)) return
  if (isUnplaced(job)) {
    finishJob(step, job, 'cancelled')
    return
  }
  const known = job.onHost
  const next = record(step, setJob(step, job, { phase: 'stopping', gateUntilMs: undefined }), 'stopping')
  // One of another release may wait for just this.
  if (processOf(step, job)?.sharedPorts)
    for (const other of jobsOfApp(step, job.appId, job.type)) touch(step, other.formationKey)
  // While the start is unanswered there is nothing to stop: `placed` or a report brings us back here.
  if (known) requestStop(step, next)
  else if (next.uncertain) pushStop(step, next)
}

function requestStop(step: Step, job: Job): void {
  if (job.hostId === undefined) return
  if (acting(step)) step.effects.push({ kind: 'deregister', hostId: job.hostId, uuid: job.uuid })
  if (backendsOf(step, job.uuid).some(b => b.status === 'up')) {
    setJob(step, job, { drainUntilMs: step.nowMs + routerWaitMs })
    return
  }
  pushStop(step, job)
}

export function pushStop(step: Step, job: Job): void {
  if (job.hostId === undefined) return
  askStop(step, job.hostId, job.uuid)
  const againMs = acting(step) ? step.nowMs + stopRepeatMs : step.nowMs
  setJob(step, job, { drainUntilMs: undefined, stopAgainMs: againMs })
}

/** Stops whose routers have drained, stops that nothing came of, and starts that now count as up. */
export function settleJobs(step: Step): void {
  for (const job of movingJobs(step)) {
    if (job.phase === 'stopping') settleStop(step, job)
    else if (job.phase === 'starting' && job.hostRunning) settleStart(step, job)
  }
}

/** Jobs whose waiting time ended since the last step: their formations are looked at. */
export function wakeJobs(step: Step, sinceMs: number): void {
  for (const job of movingJobs(step))
    if (isActive(job) && job.notBeforeMs > sinceMs && job.notBeforeMs <= step.nowMs)
      touch(step, job.formationKey)
}

function settleStop(step: Step, job: Job): void {
  if (job.drainUntilMs !== undefined) {
    const drained = backendsOf(step, job.uuid).length === 0
    if (drained || step.nowMs >= job.drainUntilMs) pushStop(step, job)
  } else if (job.stopAgainMs !== undefined && step.nowMs >= job.stopAgainMs && acting(step)) {
    if (job.hostId !== undefined) step.effects.push({ kind: 'inspect', hostId: job.hostId, uuid: job.uuid })
    pushStop(step, job)
  }
}

function settleStart(step: Step, job: Job): void {
  const service = processOf(step, job)?.service
  if (service !== undefined && job.recorded !== 'up') {
    if (!step.draft.services.get(service)?.has(job.uuid)) return
    const serving = (r: Router): boolean =>
      [...r.backends.values()].some(b => b.uuid === job.uuid && b.service === service && b.status === 'up')
    const waiting = step.draft.routed.has(service) && [...step.draft.routers.values()].some(r => !serving(r))
    if (waiting && job.gateUntilMs === undefined) {
      setJob(step, job, { gateUntilMs: step.nowMs + routerWaitMs })
      return
    }
    if (waiting && step.nowMs < (job.gateUntilMs ?? 0)) return
  }
  record(step, setJob(step, job, { phase: 'running', gateUntilMs: undefined }), 'up')
  touch(step, job.formationKey)
}
