// Which backends the API tells about: those of services whose routes want them drained. Pure difference of two tables.
import type { Table } from './table.core.ts'
import type { RouterBackend } from './types.ts'

/** Backends by `service addr`. */
export function watchedBackends(table: Table): ReadonlyMap<string, RouterBackend> {
  const services = new Set([...table.routes.values()].filter(r => r.drain_backends).map(r => r.service))
  const found = new Map<string, RouterBackend>()
  for (const service of services) {
    for (const instance of table.services.get(service)?.instances.values() ?? []) {
      found.set(`${service} ${instance.addr}`, {
        service,
        addr: instance.addr,
        app: instance.meta?.['FLYNN_APP_NAME'] ?? '',
        job_id: instance.meta?.['FLYNN_JOB_ID'] ?? '',
      })
    }
  }
  return found
}

export type BackendChange = { readonly kind: 'up' | 'down'; readonly backend: RouterBackend }

/** An address that another job has taken over is down and up. */
export function backendChanges(
  before: ReadonlyMap<string, RouterBackend>,
  after: ReadonlyMap<string, RouterBackend>,
): readonly BackendChange[] {
  const changes: BackendChange[] = []
  for (const [key, backend] of before) {
    if (after.get(key)?.job_id !== backend.job_id) changes.push({ kind: 'down', backend })
  }
  for (const [key, backend] of after) {
    if (before.get(key)?.job_id !== backend.job_id) changes.push({ kind: 'up', backend })
  }
  return changes
}
