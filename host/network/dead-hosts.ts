// Connections to containers of a host that lost its power would hang until TCP gives them up, a quarter of an hour later:
// an app would wait for its database, a router for its backend. So a host that is gone from discoverd and whose kernel does
// not answer is dead for the overlay: this host refuses packets to its subnet with a reset until it answers again. A
// request that a router had sent to it is tried again on another instance. Called by daemon.ts.
import type { DiscoverdClient } from '../../discoverd/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { reach } from '../../pkg/net/reach.ts'
import type { HostNetwork } from '../container/types.ts'
import { hostServiceName } from '../types.ts'
import { deadHosts, type Silences, stepSilences } from './dead-hosts.core.ts'
import type { SubnetLease } from './leases.ts'

export const deadProbeTimeoutMs = 500
/** Between two looks at hosts that are gone: so long a host that is back may find its connections refused. */
export const deadProbeIntervalMs = 1_000
/** How often what the kernel refuses is told it again; it forgets it by itself after `refusedForMs`. */
export const refuseAgainMs = 10_000

export type DeadHostsOptions = {
  readonly discoverd: DiscoverdClient
  readonly network: HostNetwork
  readonly hostId: string
  /** Port of the daemons, for probes. */
  readonly port: number
  /** The subnets of all hosts. */
  readonly leases: () => readonly SubnetLease[]
  readonly log: Logger
  readonly signal: AbortSignal
}

/** Works until the signal aborts. */
export async function refuseDeadHosts(options: DeadHostsOptions): Promise<void> {
  const known: Known = { up: undefined, changed: false, wake: () => {} }
  await Promise.all([followHosts(options, known), probeHosts(options, known)])
}

type Known = {
  /** Hosts that are in discoverd; undefined until it has told all of them. */
  up: ReadonlySet<string> | undefined
  /** Since the last look. */
  changed: boolean
  wake: () => void
}

async function followHosts({ discoverd, signal }: DeadHostsOptions, known: Known): Promise<void> {
  /** Hosts by their instances: a rebooted one has another instance before its old one ends. */
  const hosts = new Map<string, string>()
  let complete = false
  for await (const event of discoverd.watch(hostServiceName, { signal })) {
    const { instance } = event
    const host = instance?.meta?.['id']
    if (event.kind === 'current') complete = true
    else if (instance && event.kind === 'down') hosts.delete(instance.id)
    else if (instance && host) hosts.set(instance.id, host)
    if (!complete) continue
    known.up = new Set(hosts.values())
    known.changed = true
    known.wake()
  }
}

async function probeHosts(options: DeadHostsOptions, known: Known): Promise<void> {
  const { network, hostId, port, leases, log, signal } = options
  let silences: Silences = new Map()
  let refused: { readonly key: string; readonly at: number } = { key: '', at: 0 }
  while (!signal.aborted) {
    const { up } = known
    known.changed = false
    const gone = up ? leases().filter(l => l.host !== hostId && !up.has(l.host)) : []
    const answers = await Promise.all(
      gone.map(async l => [l.host, await reach(l.publicIp, port, deadProbeTimeoutMs)] as const),
    )
    if (signal.aborted) return
    silences = stepSilences(silences, new Map(answers))
    const dead = deadHosts(silences)
    const key = dead.join(' ')
    if (key !== refused.key || (key !== '' && performance.now() - refused.at > refuseAgainMs)) {
      if (key !== refused.key) log.warn({ hosts: dead }, 'hosts that are dead for the overlay')
      try {
        await network.refuse(gone.filter(l => dead.includes(l.host)).map(l => l.subnet))
        refused = { key, at: performance.now() }
      } catch (err) {
        log.error({ err }, 'the packet rules do not follow the dead hosts')
      }
    }
    const doubted = [...silences].some(([host, count]) => count > 0 && !dead.includes(host))
    if (!doubted) await untilWoken(known, gone.length > 0 ? deadProbeIntervalMs : refuseAgainMs, signal)
  }
}

async function untilWoken(known: Known, ms: number, signal: AbortSignal): Promise<void> {
  if (known.changed) return
  const woken = new AbortController()
  known.wake = () => woken.abort()
  await sleep(ms, AbortSignal.any([signal, woken.signal])).catch(() => undefined)
}
