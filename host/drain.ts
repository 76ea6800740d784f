// The wish to drain this host: kept here, told in the meta of the host's instance in discoverd, acted on by the scheduler
// (controller/scheduler/drain.core.ts). It outlives every process, and ends by `flynn-host drain --cancel` only.
import type { HostDatabase } from './database.ts'

const settingKey = 'drain'

export type HostDrain = {
  /** When the drain was asked for, as RFC 3339. */
  readonly since: string | undefined
  /** A drain that is under way goes on. */
  begin(): void
  end(): void
}

export function hostDrain(database: HostDatabase): HostDrain {
  return {
    get since() {
      return database.getSetting<string>(settingKey)
    },
    begin() {
      if (database.getSetting(settingKey) === undefined)
        database.setSetting(settingKey, new Date().toISOString())
    },
    end() {
      database.setSetting(settingKey, undefined)
    },
  }
}
