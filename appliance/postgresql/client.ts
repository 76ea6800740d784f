// What other components need to reach the database's nodes: Patroni's port and the password of its writing calls, which
// is derived from the superuser's, and where in etcd its keys are.
import { createHmac } from 'node:crypto'

export { defaultService as databaseScope, leaderTtlSeconds, patroniPort, patroniPrefix } from './types.ts'

/** The user of Patroni's writing calls. */
export const patroniUser = 'patroni'

/** Secrets that every node must share and nobody needs to hand out: derived from the superuser's password. */
export function derivePassword(superuserPassword: string, purpose: string): string {
  return createHmac('sha256', superuserPassword).update(`flynn postgres ${purpose}`).digest('hex')
}
