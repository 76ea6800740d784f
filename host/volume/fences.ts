// Copies of volumes that no job may use, because their data is on its way between two hosts (moves.ts). Each change is on
// disk before anybody acts on it, so that a crash or power cut finds every copy as fenced as it was.
import type { HostDatabase } from '../database.ts'
import type { VolumeFence } from '../types.ts'

const settingKey = 'volume_fences'

export type VolumeFences = {
  get(volume: string): VolumeFence | undefined
  /** `undefined` takes the fence away. */
  set(volume: string, fence: VolumeFence | undefined): void
}

export function volumeFences(database: HostDatabase): VolumeFences {
  const fences = new Map(Object.entries(database.getSetting<Record<string, VolumeFence>>(settingKey) ?? {}))
  return {
    get: volume => fences.get(volume),
    set(volume, fence) {
      const next = new Map(fences)
      if (fence === undefined) next.delete(volume)
      else next.set(volume, fence)
      database.setSetting(settingKey, Object.fromEntries(next))
      if (fence === undefined) fences.delete(volume)
      else fences.set(volume, fence)
    },
  }
}

/** What keeps jobs from the volume, after "it is". */
export function fenceText(fence: VolumeFence): string {
  return fence.kind === 'retired'
    ? `moving to host ${fence.target}`
    : `being filled from host ${fence.source}`
}
