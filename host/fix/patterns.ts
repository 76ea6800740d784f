// What a host is told of jobs that it never had: a copy of the controller's and the scheduler's, so that each host alone can
// start them when all others are lost. Told by the monitor, read by the planner (`startOne` in plan.core.ts).
import { createHash } from 'node:crypto'
import type { Logger } from '../../pkg/log/log.ts'
import { HostClient, hostUrl } from '../client.ts'
import type { HostDatabase } from '../database.ts'
import type { Job } from '../types.ts'
import { type ClusterView, patternsOf } from './plan.core.ts'

const settingKey = 'patterns'
const tellTimeoutMs = 3_000

/** Kept over restarts. */
export type PatternStore = { list(): readonly Job[]; keep(jobs: readonly Job[]): void }

export function patternStore(database: HostDatabase): PatternStore {
  return {
    list: () => database.getSetting<readonly Job[]>(settingKey) ?? [],
    keep: jobs => database.setSetting(settingKey, jobs),
  }
}

/** What each host was told, as a digest by its id: secrets are in the jobs. */
export type Told = Map<string, string>

/** Tells each host that answers what it was not told yet, or not since it was away. Rejects when the signal aborts. */
export async function tellPatterns(
  view: ClusterView,
  told: Told,
  options: { readonly authKey: string; readonly log: Logger; readonly signal: AbortSignal },
): Promise<void> {
  const jobs = patternsOf(view)
  if (jobs.length === 0) return
  const digest = createHash('sha256').update(JSON.stringify(jobs)).digest('hex')
  const { authKey, log, signal } = options
  const tell = async ({ id, address }: { readonly id: string; readonly address: string }) => {
    const client = new HostClient({ url: hostUrl(address), authKey })
    try {
      await client.keepPatterns(jobs, { retryMs: 0, timeoutMs: tellTimeoutMs, signal })
      told.set(id, digest)
    } catch (err) {
      signal.throwIfAborted()
      // Away for a moment, or of an older version.
      log.debug({ host: id, err }, 'not told of jobs, trying again at the next look')
    }
  }
  for (const host of view.hosts) if (!host.jobs) told.delete(host.id)
  await Promise.all(view.hosts.filter(h => h.jobs && told.get(h.id) !== digest).map(tell))
}
