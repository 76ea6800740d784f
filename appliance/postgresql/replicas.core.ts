// Decides which replica has lost its data and is to be copied anew from the primary. Pure; `replicas.ts` looks and acts.
// A server whose files a disk has damaged never starts again, however often Patroni tries. Its data may be given up only
// while an acknowledged commit is elsewhere twice: on the primary and on another standby that the primary waits for.

/** One node as Patroni's `GET /cluster` tells it. */
export type Member = { readonly name: string; readonly role: string; readonly state: string }

/** What speaks against a node, by its name, since it was last seen well. */
export type Failures = ReadonlyMap<string, number>

/** Pauses between two looks: while all are well, and while something speaks against one. */
export const calmIntervalMs = 10_000
export const alertIntervalMs = 2_000

/** Six looks at a start that failed, or ninety, which are three minutes, at one that does not end. */
export const failuresMin = 90
const weights: Readonly<Record<string, number>> = {
  'start failed': 15,
  crashed: 15,
  // It may wait for ever, for WAL that nobody has.
  starting: 1,
}
const well = ['running', 'streaming', 'in archive recovery', 'creating replica']
const primaryRoles = ['leader', 'master', 'primary']

/** One look; one node at a time is copied, so that the primary has one reader more and not all of them. */
export function lookAtReplicas(
  before: Failures,
  members: readonly Member[],
): { readonly failures: Failures; readonly copyAnew: string | undefined } {
  const failures = new Map<string, number>()
  for (const { name, role, state } of members) {
    if (primaryRoles.includes(role) || well.includes(state)) continue
    failures.set(name, (before.get(name) ?? 0) + (weights[state] ?? 0))
  }
  const up = (m: Member) => m.state === 'running' || m.state === 'streaming'
  const primary = members.some(m => primaryRoles.includes(m.role) && up(m))
  const standby = members.some(m => m.role === 'sync_standby' && up(m))
  const copyAnew = [...failures].find(([, count]) => count >= failuresMin)?.[0]
  return { failures, copyAnew: primary && standby ? copyAnew : undefined }
}
