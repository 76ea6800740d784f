// Which releases of an app are left over (contract controller.md 5.4): beyond the newest N distinct slugs, those that
// came from a git push and run nowhere. Pure. Called by app-gc.ts.
import type { Release } from '../types.ts'

export type GcInput = {
  /** Newest first. */
  readonly releases: readonly Release[]
  /** Releases that run or are the current one. */
  readonly active: ReadonlySet<string>
  /** Distinct slugs to keep. */
  readonly keep: number
  /** Address of each artifact by id. */
  readonly uris: ReadonlyMap<string, string>
}

/** Releases to delete, newest first. */
export function leftOverReleases(input: GcInput): readonly Release[] {
  const seen = new Set<string>()
  return input.releases.filter(release => {
    if (input.active.has(release.id) || release.meta?.['git'] !== 'true') return false
    const slug = input.uris.get(release.artifacts?.[1] ?? '')
    if (slug === undefined) return false
    if (seen.size < input.keep) {
      seen.add(slug)
      return false
    }
    return !seen.has(slug)
  })
}

/** The limit in an app's meta; undefined when nothing is to be collected, null when it is no number. */
export function gcLimit(value: string | undefined): number | undefined | null {
  if (value === undefined || value === '' || value === 'false') return undefined
  return /^\d{1,6}$/.test(value) ? Number(value) : null
}
