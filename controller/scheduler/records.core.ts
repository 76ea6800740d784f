// The controller's own list of active jobs against what the hosts say (contract controller.md 4.9). Read once before
// the scheduler acts, and again every 30 seconds.
import { asksNothing, finishJob } from './job.core.ts'
import type { Job, RecordedJob } from './state.core.ts'
import { acting, dropJob, isActive, isUnplaced, record, type Step, setJob, wireState } from './step.core.ts'
import { registerUnknown } from './volumes.core.ts'

/** A row that is younger may belong to a one-off job that its host has not reported yet. */
export const recordGraceMs = 60_000
/** Ended jobs are remembered so long, to recognise late news of them. */
export const endedJobKeepMs = 15 * 60_000
export const endedJobsMax = 2_000

export function onRecordedJobs(step: Step, rows: readonly RecordedJob[]): void {
  const seen = new Set<string>()
  for (const row of rows) {
    seen.add(row.uuid)
    const job = step.draft.jobs.get(row.uuid)
    if (job === undefined) adoptRow(step, row)
    else if (job.phase === 'stopped') record(step, setJob(step, job, { recorded: row.state }), 'down')
    else mergeRow(step, job, row)
  }
  for (const job of [...step.draft.jobs.values()])
    if (!seen.has(job.uuid) && job.phase !== 'stopped')
      record(step, setJob(step, job, { recorded: undefined }), wireState(job))
}

/** What the table remembers and hosts do not: restarts, and that a stop was asked for. */
function mergeRow(step: Step, job: Job, row: RecordedJob): void {
  const elsewhere = job.onHost && row.hostId !== job.hostId
  const merged = setJob(step, job, {
    // Two schedulers may have started it: the row names the host that lost.
    recorded: elsewhere ? undefined : row.state,
    restarts: Math.max(job.restarts, row.restarts),
  })
  // The leader before us was stopping it; settleStop goes on with that once we act.
  if (!acting(step) && row.state === 'stopping' && isActive(merged)) {
    const stopping = setJob(step, merged, { phase: 'stopping', stopAgainMs: step.nowMs })
    if (isUnplaced(merged)) askWhereRecorded(step, stopping, row.hostId)
  }
  // A job that was up stays up; a new scheduler does not wait for its service again (see settleStart).
  else if (!(row.state === 'up' && merged.phase === 'starting')) record(step, merged, wireState(merged))
}

/** We know of no host that has it; the leader before us may have asked one, which did not answer it. */
function askWhereRecorded(step: Step, job: Job, hostId: string | undefined): void {
  if (hostId !== undefined && step.draft.hosts.has(hostId)) setJob(step, job, { hostId, uncertain: true })
  else finishJob(step, job, 'cancelled')
}

/** The first thing a new leader does: tell the controller what differs from its table. */
export function catchUp(step: Step): void {
  registerUnknown(step)
  for (const job of [...step.draft.jobs.values()]) {
    if (job.phase === 'stopped' && job.recorded === undefined) continue
    if (job.recorded === 'up' && job.phase === 'starting') continue
    record(step, job, wireState(job))
  }
}

function adoptRow(step: Step, row: RecordedJob): void {
  const formation = step.draft.formations.get(`${row.appId}:${row.releaseId}`)
  const base: Job = {
    uuid: row.uuid,
    appId: row.appId,
    releaseId: row.releaseId,
    ...(formation === undefined || row.type === '' ? {} : { formationKey: formation.key }),
    type: row.type,
    phase: 'pending',
    system: formation?.system ?? false,
    placing: false,
    onHost: false,
    hostRunning: false,
    restarts: row.restarts,
    attempts: 0,
    notBeforeMs: row.runAtMs ?? 0,
    uncertain: false,
    createdMs: row.updatedMs,
    volumeIds: row.volumeIds,
    asks: formation?.processes[row.type]?.asks ?? asksNothing,
    args: row.args,
    meta: row.meta,
    recorded: row.state,
  }
  const waiting = row.state === 'pending' && row.hostId === undefined
  if (waiting && formation !== undefined && row.type !== '') {
    setJob(step, base, {})
    return
  }
  if (step.nowMs - row.updatedMs < recordGraceMs && !waiting) return
  const ended = setJob(step, base, {
    phase: 'stopped',
    end: 'lost',
    endedMs: step.nowMs,
    hostId: row.hostId,
    hostError: 'no host knows the job',
  })
  record(step, ended, 'down')
}

/** Forgets jobs that ended long ago. */
export function pruneJobs(step: Step): void {
  const ended = [...step.draft.index.ended.keys()]
    .flatMap(uuid => step.jobs.get(uuid) ?? [])
    .sort((a, b) => (b.endedMs ?? 0) - (a.endedMs ?? 0))
  for (const [index, job] of ended.entries())
    if (index >= endedJobsMax || step.nowMs - (job.endedMs ?? 0) > endedJobKeepMs) dropJob(step, job)
}
