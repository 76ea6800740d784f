// Hosts as they come, fail, leave and are listed (contract controller.md 4.2, 4.7, 4.9). A host that is away for ten
// status requests in a row (three when its machine is silent), or said that it leaves, is unfollowed: its jobs count as lost. Called by the step only.
import { finishJob, reportJob } from './job.core.ts'
import type { Event, Host, HostJob } from './state.core.ts'
import { jobsOfHost, type Step, setJob, touchAll } from './step.core.ts'

/** Failed status requests in a row before a host is given up whose machine is there: its daemon may just be restarting. */
export const hostFailuresMax = 10
/** The same for a machine that takes no connection: its lease has ended before this begins to count. */
export const hostSilencesMax = 3

export function onHost(step: Step, event: Extract<Event, { kind: 'host' }>): void {
  const known = step.draft.hosts.get(event.host.id)
  const host: Host = {
    synced: known?.synced ?? false,
    ...event.host,
    healthy: true,
    failures: 0,
  }
  step.draft.hosts.set(host.id, host)
  touchAll(step)
}

export function onHostGone(step: Step, hostId: string): void {
  const host = step.draft.hosts.get(hostId)
  if (host === undefined) return
  if (host.shutdown) unfollow(step, host)
  else step.draft.hosts.set(hostId, { ...host, healthy: false })
}

export function onHostProbe(step: Step, event: Extract<Event, { kind: 'hostProbe' }>): void {
  const { hostId, ok, silent = false } = event
  const host = step.draft.hosts.get(hostId)
  if (host === undefined) return
  if (ok) {
    if (host.healthy) return
    step.draft.hosts.set(hostId, { ...host, healthy: true, failures: 0 })
    touchAll(step)
    return
  }
  const failures = host.failures + 1
  if (failures >= (silent ? hostSilencesMax : hostFailuresMax)) unfollow(step, host)
  else step.draft.hosts.set(hostId, { ...host, healthy: false, failures })
}

function unfollow(step: Step, host: Host): void {
  step.draft.hosts.delete(host.id)
  step.effects.push({ kind: 'note', text: 'host given up', detail: { host: host.id } })
  for (const job of jobsOfHost(step, host.id)) {
    if (job.onHost) finishJob(step, job, 'lost', { error: `host ${host.id} is gone` })
    else if (job.phase === 'stopping') finishJob(step, job, 'cancelled')
    else
      setJob(step, job, {
        hostId: undefined,
        placing: false,
        uncertain: false,
        attempts: job.attempts + 1,
        notBeforeMs: 0,
      })
  }
  touchAll(step)
}

/**
 * The full list of a host's jobs. Active ones are taken in first, so that a job which the host brought back under a
 * new id after a power cut takes the place of the old one before anything is restarted.
 */
export function onHostJobs(step: Step, event: Extract<Event, { kind: 'hostJobs' }>): void {
  const host = step.draft.hosts.get(event.hostId)
  if (host === undefined) return
  if (!host.synced) {
    step.draft.hosts.set(host.id, { ...host, synced: true })
    touchAll(step)
  }
  const isLive = (j: HostJob): boolean => j.status === 'starting' || j.status === 'running'
  for (const job of event.jobs) if (isLive(job)) reportJob(step, job)
  for (const job of event.jobs) if (!isLive(job)) reportJob(step, job)
  const listed = new Set(event.jobs.map(j => j.uuid))
  for (const job of jobsOfHost(step, host.id))
    if (job.onHost && !listed.has(job.uuid))
      step.effects.push({ kind: 'inspect', hostId: host.id, uuid: job.uuid })
}

/** The host has no such job: it is over, however it ended. */
export function onHostJobMissing(step: Step, event: Extract<Event, { kind: 'hostJobMissing' }>): void {
  const job = step.draft.jobs.get(event.uuid)
  if (job === undefined || job.hostId !== event.hostId || job.phase === 'stopped') return
  if (job.onHost) finishJob(step, job, 'lost', { error: 'the host no longer knows the job' })
  else if (job.phase === 'stopping' && !job.placing) finishJob(step, job, 'cancelled')
}
