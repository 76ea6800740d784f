// Keeps `leader.<service>.discoverd` on the node that Patroni made primary: at once from Patroni's callback, and by a
// slow check from the provider API that repairs what a callback could not know of.
import type { DiscoverdClient } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import { instanceId } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { errors } from './errors.ts'
import { initialState, look, type Observation, type WatchState } from './leader.core.ts'
import { patroniPort } from './types.ts'

/** Patroni ends a callback when the next change comes, so this only bounds a callback that nothing follows. */
export const callbackTimeoutMs = 10 * 60_000
export const callbackRetryMs = 500
export const checkIntervalMs = 10_000
const probeTimeoutMs = 2_000

/** Patroni up to 3 says `master`, from 4 on `primary`. */
export function isPrimaryRole(role: string): boolean {
  return role === 'primary' || role === 'master'
}

export type PrimaryAddress = { readonly service: string; readonly addr: string }

/**
 * Names this node in discoverd as the service's leader, making the service if it is gone; tries until it is done or
 * `callbackTimeoutMs` have passed. Rejects with NOT_MANUAL when the service does not allow it.
 */
export async function announcePrimary(
  discoverd: DiscoverdClient,
  primary: PrimaryAddress,
  log: Logger,
): Promise<void> {
  const signal = AbortSignal.timeout(callbackTimeoutMs)
  for (;;) {
    try {
      await setLeader(discoverd, primary.service, instanceId('tcp', primary.addr))
      log.info({ ...primary }, 'this node is the primary')
      return
    } catch (err) {
      if (isFlynnError(err, 'not_manual') || signal.aborted) throw err
      log.warn({ err, ...primary }, 'cannot name the primary yet')
      await sleep(callbackRetryMs, signal)
    }
  }
}

async function setLeader(discoverd: DiscoverdClient, service: string, id: string): Promise<void> {
  await discoverd.maybeAddService(service, { leader_type: 'manual' })
  try {
    await discoverd.setLeader(service, id)
  } catch (e) {
    throw isFlynnError(e, 'validation_error') ? errors.NOT_MANUAL({ service }, { cause: e }) : e
  }
}

/** Patroni answers 200 to `/primary` only where it holds the leader key and the server takes writes. */
async function isPrimary(addr: string): Promise<boolean> {
  const host = addr.slice(0, addr.lastIndexOf(':'))
  const patroni = new HttpClient({ url: `http://${host}:${patroniPort}` })
  try {
    await (await patroni.raw('GET', '/primary', { timeoutMs: probeTimeoutMs, retryMs: 0 })).body.dump()
    return true
  } catch {
    // Not primary, not up, not reachable: all the same here, this node is not one to point at.
    return false
  }
}

async function observe(discoverd: DiscoverdClient, service: string): Promise<Observation> {
  const [instances, leader] = await Promise.all([discoverd.instances(service), discoverd.leader(service)])
  // No host can register an instance of a service that is gone.
  if (instances.length === 0) await discoverd.maybeAddService(service, { leader_type: 'manual' })
  const primary = await Promise.all(instances.map(i => isPrimary(i.addr)))
  return { primaries: instances.filter((_, n) => primary[n]).map(i => i.id), leader: leader?.id }
}

/** Looks every so often until the signal aborts; a failed look is logged and the next one tries again. */
export async function keepLeader(
  discoverd: DiscoverdClient,
  service: string,
  log: Logger,
  signal: AbortSignal,
  intervalMs: number = checkIntervalMs,
): Promise<void> {
  let state: WatchState = initialState
  while (!signal.aborted) {
    try {
      const step = look(state, await observe(discoverd, service))
      state = step.state
      if (step.setLeader !== undefined) {
        await setLeader(discoverd, service, step.setLeader)
        log.warn({ service, id: step.setLeader }, 'leader in discoverd corrected')
      }
    } catch (err) {
      log.warn({ err, service }, 'cannot compare the primary with discoverd')
    }
    await sleep(intervalMs, signal).catch(() => undefined)
  }
}
