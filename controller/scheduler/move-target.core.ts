// Which volumes leave a drained host, and where to. Called by moves.core.ts.
import { needOf, obstacle } from './fit.core.ts'
import type { Formation, Host, Job, Volume } from './state.core.ts'
import { isActive, jobsOfFormation, jobsOfHost, type Step } from './step.core.ts'

export const copyKey = (volumeId: string, hostId: string): string => `${volumeId} ${hostId}`

/** Whether a volume has to leave its host when that is drained; what omni jobs keep is their host's own. */
export function isMovable(volume: Volume, formations: Iterable<Formation>): boolean {
  if (volume.state !== 'created' || volume.deleteOnStop) return false
  for (const f of formations) if (f.appId === volume.appId && f.processes[volume.type]?.omni) return false
  return true
}

/** Where data and job go: to where a copy was begun already, else to the host with fewest jobs of the kind, then of any. */
export function chooseTarget(
  step: Step,
  group: readonly Volume[],
  holder: Job | undefined,
  avoid: readonly string[],
): string | undefined {
  const [volume] = group
  if (volume === undefined) return undefined
  const key = holder?.formationKey ?? `${volume.appId}:${volume.releaseId}`
  const formation = step.draft.formations.get(key)
  const alike = jobsOfFormation(step, key).filter(j => j.type === volume.type && isActive(j))
  const fits = (h: Host): boolean =>
    h.id !== volume.hostId &&
    h.healthy &&
    h.synced &&
    !h.shutdown &&
    !h.draining &&
    !avoid.includes(h.id) &&
    (holder === undefined ||
      formation === undefined ||
      obstacle(needOf(holder, formation), h, step.draft.index.loads.get(h.id)) === undefined)
  const begun = (h: Host): number =>
    group.some(v => step.draft.copies.get(copyKey(v.id, h.id))?.kind === 'incoming') ? 0 : 1
  const kin = (h: Host): number => alike.filter(j => j.hostId === h.id).length
  return [...step.draft.hosts.values()]
    .filter(fits)
    .sort(
      (a, b) =>
        begun(a) - begun(b) ||
        kin(a) - kin(b) ||
        jobsOfHost(step, a.id).length - jobsOfHost(step, b.id).length ||
        (a.id < b.id ? -1 : 1),
    )[0]?.id
}
