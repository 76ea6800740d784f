// Follows the hosts of the cluster: which there are from discoverd, and of each its jobs and volumes. A host is followed
// until the core gives it up; while discoverd does not list it, its status is asked every second (contract 4.7).
import type { DiscoverdClient, Instance } from '../../discoverd/client.ts'
import { HostClient } from '../../host/client.ts'
import { hostServiceName } from '../../host/types.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { reach } from '../../pkg/net/reach.ts'
import { fromActiveJob, fromCapacity, fromFencedVolume, fromHostVolume } from './convert.core.ts'
import { follow } from './follow.ts'
import type { Happening, HostJob, State } from './state.core.ts'

export const hostProbeTimeoutMs = 1_000
export const hostListTimeoutMs = 10_000

type Followed = {
  readonly id: string
  readonly addr: string
  readonly client: HostClient
  readonly stop: AbortController
  /** Resolves when its jobs have been listed once. */
  readonly listed: Promise<void>
}

export type HostsOptions = {
  readonly discoverd: DiscoverdClient
  readonly authKey: string | undefined
  readonly log: Logger
  readonly signal: AbortSignal
  readonly dispatch: (happening: Happening) => void
}

export class Hosts {
  readonly #options: HostsOptions
  readonly #followed = new Map<string, Followed>()
  readonly #instances = new Map<string, string>()
  readonly #known = Promise.withResolvers<void>()

  constructor(options: HostsOptions) {
    this.#options = options
  }

  client(hostId: string): HostClient | undefined {
    return this.#followed.get(hostId)?.client
  }

  /** Follows discoverd's list until the signal aborts. */
  async run(): Promise<void> {
    const { discoverd, signal, log } = this.#options
    for await (const event of discoverd.watch(hostServiceName, {
      signal,
      onState: (state, cause) => log.debug({ state, err: cause }, 'watch of the hosts'),
    })) {
      if ((event.kind === 'up' || event.kind === 'update') && event.instance) this.#up(event.instance)
      else if (event.kind === 'down' && event.instance) this.#down(event.instance)
      else if (event.kind === 'current') this.#known.resolve()
    }
  }

  /** Resolves when the hosts are known and those that answer have listed their jobs. */
  async listed(timeoutMs: number): Promise<void> {
    await this.#known.promise
    const limit = new Promise<void>(resolve => setTimeout(resolve, timeoutMs).unref())
    await Promise.race([Promise.all([...this.#followed.values()].map(h => h.listed)), limit])
  }

  #up(instance: Instance): void {
    const id = instance.meta?.['id'] ?? ''
    if (id === '') return
    this.#instances.set(instance.id, id)
    const tags = Object.entries(instance.meta ?? {})
      .filter(([key]) => key.startsWith('tag:'))
      .map(([key, value]) => [key.slice('tag:'.length), value])
    const shutdown = instance.meta?.['shutdown'] !== undefined
    const draining = instance.meta?.['drain'] !== undefined
    const capacity = fromCapacity(instance.meta ?? {})
    const host = { id, tags: Object.fromEntries(tags), shutdown, draining, ...capacity }
    this.#options.dispatch({ kind: 'host', host })
    const known = this.#followed.get(id)
    if (known?.addr === instance.addr) return
    known?.stop.abort()
    this.#follow(id, instance.addr)
  }

  #down(instance: Instance): void {
    const id = this.#instances.get(instance.id)
    this.#instances.delete(instance.id)
    // The same host under a new address has come up before the old one went.
    if (id === undefined || this.#followed.get(id)?.addr !== instance.addr) return
    this.#options.dispatch({ kind: 'hostGone', hostId: id })
  }

  #follow(id: string, addr: string): void {
    const { authKey, log } = this.#options
    const stop = new AbortController()
    const signal = AbortSignal.any([stop.signal, this.#options.signal])
    const listed = Promise.withResolvers<void>()
    const client = new HostClient({ url: `http://${addr}`, authKey })
    this.#followed.set(id, { id, addr, client, stop, listed: listed.promise })
    log.info({ host: id, addr }, 'following host')
    void follow({
      what: `jobs of host ${id}`,
      log,
      signal,
      stream: async alive => {
        await this.#streamJobs(id, client, signal, () => {
          alive()
          listed.resolve()
        })
      },
    })
  }

  /** Subscribes, lists, then passes on what happened since: nothing falls between list and stream. */
  async #streamJobs(
    id: string,
    client: HostClient,
    signal: AbortSignal,
    onListed: () => void,
  ): Promise<void> {
    const early: HostJob[] = []
    let listing: Promise<void> | undefined
    let complete = false
    const lost = new AbortController()
    const onOpen = (): void => {
      listing = this.#list(id, client, signal).then(() => {
        complete = true
        for (const job of early.splice(0)) this.#options.dispatch({ kind: 'hostJob', job })
        onListed()
      })
      // Without a list the stream is worth nothing: connect again.
      listing.catch((err: unknown) => lost.abort(err))
    }
    for await (const event of client.jobEvents({ signal: AbortSignal.any([signal, lost.signal]), onOpen })) {
      const job = fromActiveJob(event.job)
      if (job === undefined) continue
      if (complete) this.#options.dispatch({ kind: 'hostJob', job })
      else early.push(job)
    }
    await listing
  }

  async #list(
    id: string,
    client: HostClient,
    signal: AbortSignal,
    timeoutMs = hostListTimeoutMs,
  ): Promise<void> {
    const { dispatch, log } = this.#options
    const options = { signal, timeoutMs, retryMs: 0 }
    const jobs = await client.jobs(options)
    dispatch({
      kind: 'hostJobs',
      hostId: id,
      jobs: Object.values(jobs).flatMap(j => fromActiveJob(j) ?? []),
    })
    try {
      const volumes = await client.volumes(options)
      dispatch({
        kind: 'hostVolumes',
        hostId: id,
        ids: volumes.map(v => v.id),
        owned: volumes.flatMap(v => fromHostVolume(id, v) ?? []),
        fenced: volumes.flatMap(v => fromFencedVolume(id, v) ?? []),
      })
    } catch (err) {
      // Jobs matter more: the next sync asks again.
      if (!signal.aborted) log.warn({ err, host: id }, 'volumes of the host cannot be listed')
    }
  }

  /** Lists jobs and volumes of every host anew; a host that does not answer is left to its stream. */
  async sync(timeoutMs = hostListTimeoutMs): Promise<void> {
    const { log, signal } = this.#options
    await Promise.all(
      [...this.#followed.values()].map(async ({ id, client }) => {
        try {
          await this.#list(id, client, signal, timeoutMs)
        } catch (err) {
          if (!signal.aborted) log.debug({ err, host: id }, 'host cannot be listed')
        }
      }),
    )
  }

  /** Asks hosts that discoverd does not list any more how they are, and drops those that the core has given up. */
  async check(state: State): Promise<void> {
    for (const host of [...this.#followed.values()]) {
      const known = state.hosts.get(host.id)
      if (known === undefined) {
        this.#options.log.warn({ host: host.id }, 'host given up')
        host.stop.abort()
        this.#followed.delete(host.id)
      }
    }
    // One that answers and is not listed is asked again: nobody else would tell of its end.
    const listed = new Set(this.#instances.values())
    const doubtful = [...state.hosts.values()].filter(h => !h.healthy || !listed.has(h.id))
    await Promise.all(
      doubtful.map(async ({ id }) => {
        const found = await this.#probe(id)
        if (!this.#options.signal.aborted) this.#options.dispatch({ kind: 'hostProbe', hostId: id, ...found })
      }),
    )
  }

  async #probe(id: string): Promise<{ readonly ok: boolean; readonly silent: boolean }> {
    const options = { signal: this.#options.signal, timeoutMs: hostProbeTimeoutMs, retryMs: 0 }
    const followed = this.#followed.get(id)
    if (!followed) return { ok: false, silent: true }
    const split = followed.addr.lastIndexOf(':')
    const [host, port] = [followed.addr.slice(0, split), Number(followed.addr.slice(split + 1))]
    // That it does not answer is an answer, too.
    const status = followed.client.status(options).then(
      () => true,
      () => false,
    )
    const [ok, reached] = await Promise.all([status, reach(host, port, hostProbeTimeoutMs)])
    return { ok: ok && this.#followed.has(id), silent: reached === 'silent' }
  }
}
