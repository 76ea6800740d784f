// Why a job is where it is, or why it is nowhere, as data and as sentences (`flynn explain`). Asks the same questions as
// placement does, on a fork of the state that is thrown away. Called by api.ts.
import type { HostVerdict, JobExplanation } from '../types/explain.ts'
import {
  fullness,
  needOf,
  type Obstacle,
  obstacle,
  obstacleText,
  startsPerHostMax,
  whyNone,
} from './fit.core.ts'
import { holderOfHostPorts } from './handover.core.ts'
import { planVolumes } from './placement.core.ts'
import type { Formation, Job, State } from './state.core.ts'
import { isActive, jobsOfFormation, openStep, processOf, type Step, wireState } from './step.core.ts'

type Told = Pick<JobExplanation, 'summary' | 'notes' | 'hosts'>

const timeText = (ms: number): string => new Date(ms).toISOString().replace(/\.\d+Z$/, 'Z')
const plural = (n: number, noun: string): string => `${n} ${noun}${n === 1 ? '' : 's'}`

/** Undefined when the scheduler does not know the job, or no longer. */
export function explainJob(state: State, uuid: string, nowMs: number): JobExplanation | undefined {
  const job = state.jobs.get(uuid)
  if (job === undefined) return undefined
  // Nothing is written to it; it only has the form that placement reads.
  const step = openStep(state, { kind: 'tick', nowMs, seed: [0, 0, 0, 0] })
  return {
    uuid,
    ...(job.hostId === undefined ? {} : { id: `${job.hostId}-${uuid}`, host: job.hostId }),
    app: job.appId,
    release: job.releaseId,
    ...(job.type === '' ? {} : { type: job.type }),
    state: wireState(job),
    ...tell(step, job),
    requests: { memory: job.asks.memoryBytes, cpu: job.asks.cpuMillis },
    ...(job.notBeforeMs > nowMs ? { run_at: new Date(job.notBeforeMs).toISOString() } : {}),
    ...(job.restarts === 0 ? {} : { restarts: job.restarts }),
    ...(job.exitStatus === undefined ? {} : { exit_status: job.exitStatus }),
    ...(job.hostError === undefined ? {} : { host_error: job.hostError }),
    live: true,
  }
}

function tell(step: Step, job: Job): Told {
  switch (job.phase) {
    case 'pending':
    case 'blocked':
      return waiting(step, job)
    case 'starting':
      return { summary: startingText(step, job), notes: whyThere(step, job) }
    case 'running': {
      const since = job.startedMs === undefined ? '' : ` since ${timeText(job.startedMs)}`
      return {
        summary: `it runs on ${job.hostId}${since}`,
        notes: [...whyThere(step, job), ...restartNote(job)],
      }
    }
    case 'stopping':
      return { summary: stoppingText(step, job), notes: formationNote(step, job) }
    case 'stopped':
      return { summary: endText(job), notes: formationNote(step, job) }
  }
}

// Waiting -------------------------------------------------------------------------------------------------------------

function waiting(step: Step, job: Job): Told {
  const formation = step.draft.formations.get(job.formationKey ?? '')
  if (formation === undefined)
    return { summary: 'it waits: the scheduler has not read its formation', notes: [] }
  if (job.placing)
    return {
      summary: `${job.hostId} was asked to start it and has not answered yet`,
      notes: restartNote(job),
    }
  const hosts = verdicts(step, job, formation)
  const notes = [...restartNote(job), ...formationNote(step, job)]
  if (job.uncertain) {
    const again = job.notBeforeMs > step.nowMs ? ` at ${timeText(job.notBeforeMs)}` : ' when it answers'
    const summary = `whether ${job.hostId} started it is unclear, as its answer got lost; it is asked again${again}`
    return { summary, notes }
  }
  if (job.notBeforeMs > step.nowMs) return { summary: delayText(step, job), notes, hosts }
  return { summary: waitText(step, job, formation, hosts), notes, hosts }
}

function delayText(step: Step, job: Job): string {
  const until = `it waits until ${timeText(job.notBeforeMs)} (${Math.ceil((job.notBeforeMs - step.nowMs) / 1000)} s)`
  if (job.attempts > 0)
    return `${until}, then it is tried again: ${job.refusedBy ?? 'a host'} did not start it (try ${job.attempts})`
  return `${until}, then it is started: those before it ended ${plural(job.restarts, 'time')} by themselves`
}

function waitText(step: Step, job: Job, formation: Formation, hosts: readonly HostVerdict[]): string {
  const held = portText(step, job, formation)
  if (held !== undefined) return `it waits: ${held}`
  const plan = planVolumes(step, job, formation)
  if (plan.kind === 'blocked') return `it waits: ${plan.why}`
  if (hosts.some(h => h.fits && h.obstacle === undefined)) return 'it is about to be placed'
  if (hosts.some(h => h.fits)) return 'it waits its turn: the hosts that may run it are starting others'
  return `it waits: ${whyNone(obstacles(step, job, formation))}`
}

function portText(step: Step, job: Job, formation: Formation): string | undefined {
  const holder = holderOfHostPorts(step, job, formation)
  return holder && `the ports of ${holder.hostId} are held by ${holder.uuid} of release ${holder.releaseId}`
}

function needOn(step: Step, job: Job, formation: Formation) {
  const plan = planVolumes(step, job, formation)
  return needOf(job, formation, plan.kind === 'ready' ? plan.hostId : undefined)
}

function obstacles(step: Step, job: Job, formation: Formation): readonly Obstacle[] {
  const need = needOn(step, job, formation)
  return [...step.draft.hosts.values()].flatMap(
    h => obstacle(need, h, step.draft.index.loads.get(h.id)) ?? [],
  )
}

function verdicts(step: Step, job: Job, formation: Formation): readonly HostVerdict[] {
  const need = needOn(step, job, formation)
  const held = holderOfHostPorts(step, job, formation)
  return [...step.draft.hosts.values()]
    .sort((a, b) => (a.id < b.id ? -1 : 1))
    .map((host): HostVerdict => {
      const load = step.draft.index.loads.get(host.id)
      const found = obstacle(need, host, load)
      if (found !== undefined)
        return { host: host.id, fits: false, obstacle: found.kind, reason: obstacleText(found) }
      if (held?.hostId === host.id)
        return {
          host: host.id,
          fits: false,
          obstacle: 'port',
          reason: `has its ports in use by job ${held.uuid}`,
        }
      const kept = softObstacle(job, host.id, load?.starts ?? 0)
      if (kept !== undefined)
        return { host: host.id, fits: true, obstacle: kept.kind, reason: obstacleText(kept) }
      const full = Math.round(fullness(need.asks, host, load) * 100)
      return { host: host.id, fits: true, reason: `may run it and would be ${full} % full` }
    })
}

/** What makes the job wait for a host that may run it. */
function softObstacle(job: Job, hostId: string, starts: number): Obstacle | undefined {
  if (starts >= startsPerHostMax) return { kind: 'busy', starts }
  return job.refusedBy === hostId ? { kind: 'refused' } : undefined
}

// On a host -----------------------------------------------------------------------------------------------------------

function startingText(step: Step, job: Job): string {
  if (!job.hostRunning) return `${job.hostId} is starting it`
  const service = processOf(step, job)?.service
  if (service === undefined) return `it runs on ${job.hostId}`
  if (!step.draft.services.get(service)?.has(job.uuid))
    return `it runs on ${job.hostId}, but is not yet listed in the service ${service}: its health check has not passed`
  const until = job.gateUntilMs === undefined ? '' : `, until ${timeText(job.gateUntilMs)} at most`
  return `it runs on ${job.hostId} and waits for every router to send it requests${until}`
}

function whyThere(step: Step, job: Job): readonly string[] {
  const process = processOf(step, job)
  if (job.formationKey === undefined) return ['a one-off job: whoever asked for it chose no host']
  const kept = job.volumeIds.filter(id => step.draft.volumes.get(id)?.deleteOnStop === false)
  if (process?.omni) return [`${job.hostId} is where it belongs: every host runs its own`]
  if (kept.length > 0) return [`${job.hostId} has its volume ${kept.join(', ')}`]
  const tags = Object.entries(step.draft.formations.get(job.formationKey)?.tags[job.type] ?? {})
  const alike = jobsOfFormation(step, job.formationKey).filter(
    other => other.type === job.type && other.hostId === job.hostId && isActive(other),
  ).length
  const tagged = tags.length === 0 ? '' : ` has ${tags.map(([k, v]) => `${k}=${v}`).join(' ')} and`
  return [
    `of the hosts with room for it ${job.hostId}${tagged} ran the fewest of its kind when it was placed; now it runs ${alike}`,
  ]
}

function restartNote(job: Job): readonly string[] {
  return job.restarts === 0 ? [] : [`those before it ended ${plural(job.restarts, 'time')} by themselves`]
}

// The end -------------------------------------------------------------------------------------------------------------

function stoppingText(step: Step, job: Job): string {
  if (job.drainUntilMs !== undefined)
    return `it is taken out of service: routers finish its requests, until ${timeText(job.drainUntilMs)} at most`
  return `${job.hostId ?? 'its host'} was told to stop it${step.draft.hosts.has(job.hostId ?? '') ? '' : ', and is away'}`
}

function endText(job: Job): string {
  const at = job.endedMs === undefined ? '' : ` at ${timeText(job.endedMs)}`
  if (job.end === 'cancelled') return `it was taken back${at} before it started: it was no longer wanted`
  if (job.end === 'lost') return `it was given up${at}: ${job.hostError ?? 'its host is gone'}`
  const status = job.exitStatus === undefined ? '' : ` with status ${job.exitStatus}`
  return `it ended${at} on ${job.hostId}${status}${job.hostError === undefined ? '' : `: ${job.hostError}`}`
}

function formationNote(step: Step, job: Job): readonly string[] {
  const formation = step.draft.formations.get(job.formationKey ?? '')
  if (formation === undefined || formation.processes[job.type]?.omni) return []
  const wanted = formation.counts[job.type] ?? 0
  const there = jobsOfFormation(step, formation.key).filter(j => j.type === job.type && isActive(j))
  const running = there.filter(j => j.phase === 'running').length
  return [`its release shall run ${wanted} ${job.type}; ${running} of them run`]
}
