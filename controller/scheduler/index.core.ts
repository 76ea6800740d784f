// Which jobs belong together: by formation, by host, by volume, those that wait for a host, those that something is due
// for, and what each host's jobs ask of it. Written by `setJob` and `dropJob` of step.core.ts with every job and by
// nobody else, so that a step looks at the jobs that it is about and not at all of them.
import type { Job } from './state.core.ts'
import { Groups, type ReadonlyGroups, type ReadonlyTable, Table } from './table.core.ts'

/** What the jobs of one host take; those that stop count until they have ended. */
export type HostLoad = {
  readonly jobs: number
  /** Starts under way: they take a start slot each. */
  readonly starts: number
  readonly memoryBytes: number
  readonly cpuMillis: number
}
export const noLoad: HostLoad = { jobs: 0, starts: 0, memoryBytes: 0, cpuMillis: 0 }

export type JobIndex = {
  /** Formation key to all its jobs, ended ones too. */
  readonly byFormation: ReadonlyGroups
  /** Host to its jobs that have not ended. */
  readonly byHost: ReadonlyGroups
  /** Volume to the jobs that hold or wait for it. */
  readonly holders: ReadonlyGroups
  /** Line (formation, type, host it is pinned to) to the jobs that no host has been asked for, or that are asked again. */
  readonly waiting: ReadonlyGroups
  /** Jobs that something is due for, or that wait for what discoverd and routers say. */
  readonly moving: ReadonlyTable<true>
  readonly ended: ReadonlyTable<true>
  readonly loads: ReadonlyTable<HostLoad>
}

export type DraftIndex = { readonly [K in keyof JobIndex]: ReturnType<JobIndex[K]['fork']> }

export const emptyIndex: JobIndex = {
  byFormation: new Groups(),
  byHost: new Groups(),
  holders: new Groups(),
  waiting: new Groups(),
  moving: new Table(),
  ended: new Table(),
  loads: new Table(),
}

export function forkIndex(index: JobIndex): DraftIndex {
  return {
    byFormation: index.byFormation.fork(),
    byHost: index.byHost.fork(),
    holders: index.holders.fork(),
    waiting: index.waiting.fork(),
    moving: index.moving.fork(),
    ended: index.ended.fork(),
    loads: index.loads.fork(),
  }
}

const stopped = (job: Job): boolean => job.phase === 'stopped'

function hostOf(job: Job): string | undefined {
  return stopped(job) ? undefined : job.hostId
}

/** A job of no formation waits for nothing: its host was asked by whoever wanted it. */
export function lineOf(job: Job): string | undefined {
  const unasked = (job.phase === 'pending' || job.phase === 'blocked') && !job.placing && !job.onHost
  if (!unasked || job.formationKey === undefined) return undefined
  return `${job.formationKey} ${job.type} ${job.pinnedHostId ?? ''}`
}

/** It takes a start slot of its host, or may do so. */
export function isStarting(job: Job): boolean {
  if (job.placing || job.uncertain) return true
  return job.onHost && !job.hostRunning && job.phase !== 'stopping' && job.phase !== 'stopped'
}

function isMoving(job: Job): boolean {
  switch (job.phase) {
    case 'pending':
    case 'blocked':
      return job.notBeforeMs > 0 && !job.placing && !job.onHost
    case 'starting':
      return job.hostRunning
    case 'stopping':
      return true
    case 'running':
    case 'stopped':
      return false
  }
}

/** Brings the index from a job as it was to the job as it is. Names in `freed` the host that can take more than before. */
export function reindex(
  index: DraftIndex,
  before: Job | undefined,
  after: Job | undefined,
  freed: Set<string>,
): void {
  const uuid = (after ?? before)?.uuid ?? ''
  move(index.byFormation, before?.formationKey, after?.formationKey, uuid)
  move(index.byHost, before && hostOf(before), after && hostOf(after), uuid)
  move(index.waiting, before && lineOf(before), after && lineOf(after), uuid)
  mark(index.moving, uuid, after !== undefined && isMoving(after))
  mark(index.ended, uuid, after !== undefined && stopped(after))
  moveVolumes(index, before, after)
  moveLoad(index, before, after, freed)
}

function move(groups: Groups, before: string | undefined, after: string | undefined, uuid: string): void {
  if (before === after) return
  if (before !== undefined) groups.delete(before, uuid)
  if (after !== undefined) groups.add(after, uuid)
}

function mark(table: Table<true>, uuid: string, member: boolean): void {
  if (!member) table.delete(uuid)
  else if (!table.has(uuid)) table.set(uuid, true)
}

const noVolumes: readonly string[] = []

function moveVolumes(index: DraftIndex, before: Job | undefined, after: Job | undefined): void {
  const left = before === undefined || stopped(before) ? noVolumes : before.volumeIds
  const held = after === undefined || stopped(after) ? noVolumes : after.volumeIds
  if (left === held) return
  const uuid = (after ?? before)?.uuid ?? ''
  for (const id of left) if (!held.includes(id)) index.holders.delete(id, uuid)
  for (const id of held) index.holders.add(id, uuid)
}

function moveLoad(
  index: DraftIndex,
  before: Job | undefined,
  after: Job | undefined,
  freed: Set<string>,
): void {
  const [from, to] = [before && hostOf(before), after && hostOf(after)]
  const same =
    from === to &&
    before?.asks === after?.asks &&
    (before !== undefined && isStarting(before)) === (after !== undefined && isStarting(after))
  if (same) return
  if (before !== undefined && from !== undefined) addLoad(index, from, before, -1)
  if (after !== undefined && to !== undefined) addLoad(index, to, after, 1)
  if (from !== undefined) freed.add(from)
}

function addLoad(index: DraftIndex, hostId: string, job: Job, sign: 1 | -1): void {
  const load = index.loads.get(hostId) ?? noLoad
  const jobs = load.jobs + sign
  if (jobs === 0) {
    index.loads.delete(hostId)
    return
  }
  index.loads.set(hostId, {
    jobs,
    starts: load.starts + (isStarting(job) ? sign : 0),
    memoryBytes: load.memoryBytes + sign * job.asks.memoryBytes,
    cpuMillis: load.cpuMillis + sign * job.asks.cpuMillis,
  })
}
