// The queue between the controller's API and its worker: graphile-worker in the controller's own database. The API
// adds a task inside the transaction that writes the row, so that neither exists without the other (contract 3.6).
import type { App } from './types.ts'

/** Schema that graphile-worker keeps its tables in. */
export const queueSchema = 'graphile_worker'
/** Attempts before a task is left alone as failed; the delay grows exponentially, so this is about a day. */
export const taskAttemptsMax = 18

/** Task name to payload. The member names are those of the original's que_jobs. */
export type Tasks = {
  readonly deployment: { readonly ID: string }
  readonly app_deletion: App
  readonly app_garbage_collection: { readonly app_id: string; readonly deleted_releases: null }
  readonly release_cleanup: {
    readonly AppID: string
    readonly ReleaseID: string
    readonly FileURIs: readonly string[]
  }
  readonly domain_migration: { readonly ID: string }
  /** Looks for automatic certificates that are due. */
  readonly managed_certificates: Readonly<Record<string, never>>
}
export type TaskName = keyof Tasks

/** A second request for the same thing replaces the waiting one instead of standing behind it. */
export function taskKey<Name extends TaskName>(name: Name, payload: Tasks[Name]): string {
  const p = payload as { ID?: string; id?: string; app_id?: string; ReleaseID?: string }
  return `${name}:${p.ID ?? p.id ?? p.app_id ?? p.ReleaseID ?? ''}`
}
