// What the cluster's status is made of: which components are probed where, and what their answers add up to. Pure.
// Contract system-apps.md 3.
import type { ClusterStatus, ComponentStatus } from './types.ts'

/** `random`: any instance; `leader`: the service's leader. */
export type Check = {
  readonly name: string
  readonly service: string
  readonly of: 'random' | 'leader'
  /** Where the status is served, if not at the instance's own port. */
  readonly port?: number
  readonly path?: string
  /** Sends the instance's `AUTH_KEY` metadata as Basic password. */
  readonly withKey?: true
  /** Shown, but of no weight: not every cluster runs it. */
  readonly optional?: true
}

/**
 * The original's list, with these differences: the overlay network belongs to the hosts, so there is no `flannel`;
 * the database is asked through Patroni; git deploys are optional until the image that does them exists.
 */
export const checks: readonly Check[] = [
  { name: 'blobstore', service: 'blobstore', of: 'random' },
  { name: 'controller', service: 'controller', of: 'random', withKey: true },
  { name: 'controller-scheduler', service: 'controller-scheduler', of: 'leader' },
  { name: 'controller-worker', service: 'controller-worker', of: 'random' },
  { name: 'discoverd', service: 'discoverd', of: 'random' },
  { name: 'gitreceive', service: 'gitreceive', of: 'random', optional: true },
  { name: 'logaggregator', service: 'logaggregator', of: 'leader', port: 80 },
  { name: 'mariadb', service: 'mariadb', of: 'leader', port: 3307, optional: true },
  { name: 'mongodb', service: 'mongodb', of: 'leader', port: 27018, optional: true },
  { name: 'postgres', service: 'postgres', of: 'leader', port: 8008, path: '/primary' },
  { name: 'router', service: 'router-api', of: 'random' },
  { name: 'tarreceive', service: 'tarreceive', of: 'random', optional: true },
]

/** What a probe brought: an answer, or why there was none. */
export type ProbeResult =
  | { readonly ok: true; readonly status: number; readonly body: unknown }
  | { readonly ok: false; readonly reason: string }

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null
}

/** A component's answer; the status code counts where the body is not a status document, as with Patroni. */
export function toComponentStatus(result: ProbeResult): ComponentStatus {
  if (!result.ok) return { status: 'unhealthy', detail: result.reason }
  const data = isObject(result.body) && isObject(result.body['data']) ? result.body['data'] : {}
  const { detail, version } = data
  const healthy = result.status === 200 && (data['status'] === undefined || data['status'] === 'healthy')
  return {
    status: healthy ? 'healthy' : 'unhealthy',
    ...(detail === undefined ? {} : { detail }),
    ...(typeof version === 'string' ? { version } : {}),
  }
}

/** Healthy when everything that is not optional is. */
export function summarize(
  results: readonly (readonly [Check, ComponentStatus])[],
  version: string,
): ClusterStatus {
  const sick = results.some(([check, { status }]) => !check.optional && status !== 'healthy')
  return {
    data: {
      status: sick ? 'unhealthy' : 'healthy',
      detail: Object.fromEntries(results.map(([check, status]) => [check.name, status])),
      version,
    },
  }
}
