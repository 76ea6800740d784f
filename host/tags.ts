// Tags of this host: those of the command line, with what was changed at run time on top, kept over restarts
// (contract host.md 10, no. 33).
import type { HostDatabase } from './database.ts'
import type { Tags } from './types.ts'

const settingKey = 'tags'

/** `k=v,k2=v2`; a bare `k` is `true` (contract host.md 1.2). */
export function parseTags(text: string): Tags {
  const tags: Record<string, string> = {}
  for (const part of text.split(',')) {
    const item = part.trim()
    if (item === '') continue
    const at = item.indexOf('=')
    if (at < 0) tags[item] = 'true'
    else tags[item.slice(0, at)] = item.slice(at + 1)
  }
  return tags
}

export type HostTags = {
  readonly current: Tags
  /** Empty values remove. */
  change(changes: Tags): void
}

export function hostTags(database: HostDatabase, flags: Tags): HostTags {
  let changes = database.getSetting<Tags>(settingKey) ?? {}
  return {
    get current() {
      return Object.fromEntries(Object.entries({ ...flags, ...changes }).filter(([, v]) => v !== ''))
    },
    change(more) {
      changes = { ...changes, ...more }
      database.setSetting(settingKey, changes)
    },
  }
}
