// What is left on a host that is drained, and why (controller/types/drain.ts). The same for a host that is not: then it is
// the plan. Pure; called by api.ts.
import type { DrainJob, DrainReport, DrainVolume } from '../types.ts'
import { isMovable } from './move-target.core.ts'
import type { Host, Job, Move, State, Volume } from './state.core.ts'
import { tagsMatch } from './step.core.ts'

type AppName = (id: string) => string

function jobEntry(state: State, job: Job, appName: AppName): DrainJob {
  const entry = (action: DrainJob['action'], note: string): DrainJob => ({
    uuid: job.uuid,
    app: appName(job.appId),
    type: job.type,
    action,
    state: job.phase,
    note,
  })
  const formation = job.formationKey === undefined ? undefined : state.formations.get(job.formationKey)
  const process = formation?.processes[job.type]
  if (job.formationKey === undefined)
    return entry('wait', 'a one-off job: it ends by itself, or stop it with flynn-host stop')
  if (process?.omni) return entry('stay', 'one on each host: it stays until flynn-host remove')
  if (job.volumeIds.some(id => state.volumes.get(id)?.deleteOnStop === false))
    return entry('move', 'goes with its data')
  if (job.phase === 'stopping') return entry('replace', 'its replacement is up, it is stopping')
  return entry('replace', replacementNote(state, job))
}

/** Whether another host could run such a job. */
function hasRefuge(state: State, job: Job): boolean {
  const formation = job.formationKey === undefined ? undefined : state.formations.get(job.formationKey)
  return [...state.hosts.values()].some(
    h => h.id !== job.hostId && isOpen(h) && tagsMatch(formation?.tags[job.type], h.tags),
  )
}

const isOpen = (host: Host): boolean => host.healthy && !host.shutdown && !host.draining

/** How far those are that take the place of a job. */
function replacementNote(state: State, job: Job): string {
  if (!hasRefuge(state, job)) return 'no other host can take it'
  const host = job.hostId === undefined ? undefined : state.hosts.get(job.hostId)
  if (!host?.draining) return 'another one is started first'
  const waiting = [...state.jobs.values()].filter(
    j =>
      j.formationKey === job.formationKey &&
      j.type === job.type &&
      (j.phase === 'blocked' || j.phase === 'pending' || j.phase === 'starting') &&
      j.hostId !== job.hostId,
  )
  const blocked = waiting.find(j => j.phase === 'blocked')
  if (blocked !== undefined) return `its replacement waits: ${blocked.blockedBecause}`
  const starting = waiting.find(j => j.phase === 'starting')
  if (starting !== undefined) return `its replacement starts on ${starting.hostId}`
  return waiting.length > 0 ? 'its replacement waits for a host to take it' : 'a replacement is on its way'
}

const stageNotes: Readonly<Record<Move['phase'], (move: Move) => string>> = {
  copy: m => `is copied to ${m.to} while its job runs, round ${m.rounds + 1}`,
  ready: m => `is copied to ${m.to}, waits for the other volumes of its job`,
  stop: m => `is copied to ${m.to}, its job is stopped`,
  finish: m => `the last of it goes to ${m.to}`,
  settle: m => `is on ${m.to}, waits for its job to be up there`,
  undo: m => `does not move to ${m.to} after all`,
}

function volumeEntries(state: State, hostId: string, appName: AppName): readonly DrainVolume[] {
  const formations = [...state.formations.values()]
  return [...state.volumes.values()]
    .filter(v => isMovable(v, formations) && (v.hostId === hostId || state.moves.get(v.id)?.from === hostId))
    .map(v => {
      const move = state.moves.get(v.id)
      const why = move?.note === undefined ? '' : ` (failed before: ${move.note})`
      return {
        ...{ id: v.id, app: appName(v.appId), type: v.type, path: v.path },
        ...(move === undefined ? {} : { to: move.to }),
        stage: move?.phase ?? 'waiting',
        bytes: (move?.bytes ?? 0) + (move?.underWay ?? 0),
        note: move === undefined ? waitingNote(state, v) : `${stageNotes[move.phase](move)}${why}`,
      }
    })
}

function waitingNote(state: State, volume: Volume): string {
  const others = [...state.hosts.values()].filter(h => h.id !== volume.hostId && isOpen(h))
  if (others.length === 0) return 'no other host can take it'
  const holder = [...state.jobs.values()].find(j => j.phase !== 'stopped' && j.volumeIds.includes(volume.id))
  if (holder !== undefined && holder.formationKey === undefined)
    return 'held by a one-off job until that ends'
  return holder === undefined
    ? 'is copied to another host'
    : 'is copied to another host while its job runs; then that is stopped, the rest sent, and it starts there'
}

export function drainReport(state: State, hostId: string, appName: AppName): DrainReport {
  const host = state.hosts.get(hostId)
  const jobs = [...state.jobs.values()]
    .filter(j => j.hostId === hostId && j.phase !== 'stopped')
    .map(j => jobEntry(state, j, appName))
  const volumes = volumeEntries(state, hostId, appName)
  return {
    host: hostId,
    known: host !== undefined && state.leader && state.loaded,
    draining: host?.draining === true,
    done: jobs.every(j => j.action === 'stay') && volumes.length === 0,
    jobs,
    volumes,
  }
}
