// Where the table comes from: routes from the controller's stream, instances of each routed service from discoverd.
// While either is away the last known table stays in force (contract router.md 2).
import { ControllerClient } from '../controller/client.ts'
import type { DiscoverdClient } from '../discoverd/client.ts'
import { backoff, sleep } from '../pkg/clock/clock.ts'
import type { Logger } from '../pkg/log/log.ts'
import { type InstancesEvent, noInstances, stepInstances } from './instances.core.ts'
import type { TableChange } from './table.core.ts'

export const controllerRetryMinMs = 100
export const controllerRetryMaxMs = 2_000
/** How long a service's last instances stay when a reconnect finds none: a lease of 4 s and the way back from its loss. */
export const keepLastMs = 8_000

export type SourceOptions = {
  readonly discoverd: DiscoverdClient
  readonly log: Logger
  readonly signal: AbortSignal
  readonly onChange: (change: TableChange) => void
}

/** The controller by an instance of now; its key is in the instance's meta (contract controller.md 1.1). */
async function findController(
  discoverd: DiscoverdClient,
  signal: AbortSignal,
): Promise<ControllerClient | undefined> {
  const instances = await discoverd.instances('controller', { signal })
  const one = instances[Math.floor(Math.random() * instances.length)]
  const key = one?.meta?.['AUTH_KEY']?.split(',')[0]
  return one && key ? new ControllerClient({ url: `http://${one.addr}`, key }) : undefined
}

/** Follows routes until the signal aborts; each lost stream chooses a controller anew. */
export async function followRoutes(options: SourceOptions): Promise<void> {
  const { discoverd, log, signal, onChange } = options
  const delays = backoff({ minMs: controllerRetryMinMs, maxMs: controllerRetryMaxMs })
  while (!signal.aborted) {
    const stop = new AbortController()
    try {
      const client = await findController(discoverd, signal)
      if (client) {
        const streaming = AbortSignal.any([signal, stop.signal])
        const onLost = (e: unknown) => {
          log.warn({ err: e }, 'route stream lost')
          stop.abort()
        }
        for await (const change of client.streamRoutes({ signal: streaming, onLost })) {
          delays.reset()
          onChange(change)
        }
      }
    } catch (e) {
      if (signal.aborted) return
      if (!stop.signal.aborted) log.warn({ err: e }, 'routes cannot be read')
    }
    await sleep(delays.next(), signal).catch(() => undefined)
  }
}

/**
 * Follows one service; nothing is told before its present state is complete, and a reconnect that finds nothing changes
 * nothing for `keepLastMs`.
 */
export async function followService(service: string, options: SourceOptions): Promise<void> {
  let state = noInstances
  let kept: NodeJS.Timeout | undefined
  const take = (event: InstancesEvent): void => {
    const step = stepInstances(state, event)
    state = step.state
    clearTimeout(kept)
    if (state.keeping) kept = setTimeout(() => take({ kind: 'keptLongEnough' }), keepLastMs)
    if (step.show) options.onChange({ kind: 'service', service, state: step.show })
  }
  const onState = (now: 'connected' | 'disconnected') => {
    if (now === 'connected') take({ kind: 'connected' })
  }
  try {
    for await (const event of options.discoverd.watch(service, { signal: options.signal, onState }))
      take(event)
  } finally {
    clearTimeout(kept)
  }
}
