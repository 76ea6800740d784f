// Volumes as hosts and the controller's table know them (contract controller.md 4.11). Those that the table lacks are
// registered before the jobs that hold them: a job's row refers to the rows of its volumes. Called by the step only.
import { onCopies } from './moves.core.ts'
import type { Copy, Event, Volume } from './state.core.ts'
import { acting, holdersOf, recordVolume, type Step, touch } from './step.core.ts'

function register(step: Step, volume: Volume): void {
  recordVolume(step, volume, holdersOf(step, volume.id)[0]?.uuid)
}

/**
 * A row of the controller. Whoever leads has written it and knows of newer things; for the others it is how they learn where
 * a volume has moved. A decommission and a loss come from outside.
 */
export function onVolume(step: Step, event: Extract<Event, { kind: 'volume' }>): void {
  const { volumes } = step.draft
  const known = (acting(step) ? volumes.get(event.volume.id) : undefined) ?? event.volume
  const decommissioned = known.decommissioned || event.volume.decommissioned
  const lost = known.state === 'created' && isLost(step, known, event.volume)
  volumes.set(known.id, { ...known, decommissioned, recorded: true, ...(lost ? { state: 'destroyed' } : {}) })
  // A job that waits for it gets a new one (4.11).
  if (lost || (decommissioned && !known.decommissioned))
    for (const key of step.draft.formations.keys()) if (key.startsWith(`${known.appId}:`)) touch(step, key)
}

/** Its host was removed with it. A host that is here is asked instead. */
function isLost(step: Step, known: Volume, row: Volume): boolean {
  return row.state === 'destroyed' && row.hostId === known.hostId && !step.draft.hosts.has(known.hostId)
}

/** In use here, and recorded elsewhere: it has moved. */
function strangers(step: Step, event: Extract<Event, { kind: 'hostVolumes' }>): readonly Copy[] {
  const { hostId } = event
  const fenced = new Set(event.fenced?.map(c => c.volumeId))
  return event.ids.flatMap(volumeId => {
    const known = step.draft.volumes.get(volumeId)
    if (known === undefined || known.hostId === hostId || fenced.has(volumeId)) return []
    return [{ volumeId, hostId, kind: 'active' as const }]
  })
}

/** Volumes that are made on a host; one that went missing there has been destroyed. */
export function onHostVolumes(step: Step, event: Extract<Event, { kind: 'hostVolumes' }>): void {
  const present = new Set(event.ids)
  onCopies(step, event.hostId, [...(event.fenced ?? []), ...strangers(step, event)])
  for (const volume of [...step.draft.volumes.values()]) {
    if (volume.hostId !== event.hostId) continue
    const here = present.has(volume.id)
    if (volume.state === 'pending' && here) register(step, { ...volume, state: 'created' })
    else if (volume.state === 'created' && !here) register(step, { ...volume, state: 'destroyed' })
    else if (volume.state === 'destroyed' && here && !volume.deleteOnStop)
      register(step, { ...volume, state: 'created' })
  }
  for (const volume of event.owned ?? []) if (!step.draft.volumes.has(volume.id)) register(step, volume)
}

/** Registers what the controller's full list lacks. */
export function onRecordedVolumes(step: Step, event: Extract<Event, { kind: 'recordedVolumes' }>): void {
  const listed = new Set(event.ids)
  for (const volume of [...step.draft.volumes.values()])
    if (listed.has(volume.id) !== (volume.recorded === true))
      step.draft.volumes.set(volume.id, { ...volume, recorded: listed.has(volume.id) })
  registerUnknown(step)
}

/** Registers every volume that the controller has not been told of. */
export function registerUnknown(step: Step): void {
  if (!acting(step)) return
  for (const volume of [...step.draft.volumes.values()])
    if (!volume.recorded && volume.state !== 'destroyed' && volume.appId !== '') register(step, volume)
}
