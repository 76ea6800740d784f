// The host's tie to the discoverd of its node: what discoverd said about itself, when it is ready for jobs, and the
// host's own registration as service flynn-host (contract host.md 2.4, 6.2).
import { DiscoverdClient } from '../discoverd/client.ts'
import { settlesWithin } from '../pkg/clock/clock.ts'
import type { Logger } from '../pkg/log/log.ts'
import { toMeta } from './capacity.ts'
import type { HostDatabase } from './database.ts'
import { hostErrors } from './errors.ts'
import { type Announcement, announce } from './health/announce.ts'
import { type DiscoverdConfig, type HostCapacity, hostApiPort, hostServiceName } from './types.ts'

/** How long a job's start waits for discoverd; after a power cut its consensus may take minutes to come back. */
export const discoverdWaitMs = 600_000

export type DiscoverdLinkOptions = {
  readonly client: DiscoverdClient
  readonly database: HostDatabase
  readonly hostId: string
  readonly externalIp: string
  readonly tags: () => Readonly<Record<string, string>>
  readonly capacity: HostCapacity
  /** Since when the host is being drained. */
  readonly drainingSince: () => string | undefined
  readonly log: Logger
}

/** After this the registration is left to its TTL. */
const shutdownWaitMs = 5_000

const configKey = 'discoverd'
const jobKey = 'discoverd_job'

export class DiscoverdLink {
  readonly #options: DiscoverdLinkOptions
  readonly #ready = Promise.withResolvers<void>()
  #config: DiscoverdConfig | undefined
  #announcement: Announcement | undefined
  /** Through another host, until this one has a discoverd. */
  #guest: Announcement | undefined
  #guestClient: DiscoverdClient | undefined

  constructor(options: DiscoverdLinkOptions) {
    this.#options = options
  }

  /** What discoverd said last, in this daemon's life or, when its job was taken over, before. */
  get config(): DiscoverdConfig | undefined {
    return this.#config
  }

  /** The job that said it, also after restarts and power cuts. */
  get jobId(): string | undefined {
    return this.#options.database.getSetting<string>(jobKey)
  }

  set jobId(id: string | undefined) {
    this.#options.database.setSetting(jobKey, id)
  }

  /** Value of DISCOVERD for the jobs of this host. */
  get url(): string {
    return `http://${this.#options.externalIp}:1111`
  }

  /** Discoverd announces itself: first with its URL, again once its DNS answers. */
  set(config: DiscoverdConfig): void {
    if (config.job_id) this.jobId = config.job_id
    this.#options.database.setSetting(configKey, config)
    this.#apply(config)
  }

  /** A restarted daemon goes on with what it knew, while the job it knew it from is alive. */
  restore(isAlive: (jobId: string) => boolean): void {
    const config = this.#options.database.getSetting<DiscoverdConfig>(configKey)
    if (config?.job_id && isAlive(config.job_id)) this.#apply(config)
  }

  /** Resolves once discoverd and its DNS are up on this node. Rejects DISCOVERD_ABSENT after `discoverdWaitMs`. */
  async whenReady(signal: AbortSignal): Promise<string> {
    const deadline = AbortSignal.timeout(discoverdWaitMs)
    const limit = AbortSignal.any([signal, deadline])
    const over = new Promise<never>((_, reject) => {
      const fail = () =>
        reject(
          signal.aborted
            ? signal.reason
            : hostErrors.DISCOVERD_ABSENT({ seconds: Math.round(discoverdWaitMs / 1000) }),
        )
      if (limit.aborted) fail()
      else limit.addEventListener('abort', fail, { once: true })
    })
    await Promise.race([this.#ready.promise, over])
    return this.url
  }

  /** Called once, when discoverd is ready. */
  onReady(listener: () => void): void {
    void this.#ready.promise.then(listener)
  }

  /**
   * A new host registers through the discoverd of others: only then does the scheduler know it and give it one of its own
   * (contract host.md 6.4). For hosts that had one before this does nothing.
   */
  registerThrough(peerIps: readonly string[]): void {
    if (peerIps.length === 0 || this.jobId !== undefined || this.#announcement) return
    this.#guestClient = new DiscoverdClient({ servers: peerIps.map(ip => `http://${ip}:1111`) })
    this.#guest = this.#announce(this.#guestClient)
  }

  /** Tags or the wish to drain are others now. */
  metaChanged(): void {
    this.#guest?.update(this.#meta())
    this.#announcement?.update(this.#meta())
  }

  /** The daemon ends; its registration stays until the TTL, the next daemon goes on with it. */
  leave(): void {
    this.#endGuest()
    this.#announcement?.leave()
  }

  /** The host leaves the cluster: said first, so that nobody waits for it, then out of the list. */
  async shutDown(): Promise<void> {
    const meta = { ...this.#meta(), shutdown: 'true' }
    for (const announcement of [this.#guest, this.#announcement]) {
      announcement?.update(meta)
      await settlesWithin(announcement?.end() ?? Promise.resolve(), shutdownWaitMs)
    }
  }

  #endGuest(): void {
    this.#guest?.leave()
    this.#guest = undefined
    const client = this.#guestClient
    this.#guestClient = undefined
    client?.close().catch((err: unknown) => this.#options.log.debug({ err }, 'a client did not close'))
  }

  #announce(client: DiscoverdClient): Announcement {
    const { externalIp, log } = this.#options
    return announce(client, {
      service: hostServiceName,
      addr: `${externalIp}:${hostApiPort}`,
      meta: this.#meta(),
      env: {},
      create: true,
      log,
    })
  }

  #apply(config: DiscoverdConfig): void {
    this.#config = config
    if (!config.url || !config.dns || this.#announcement) return
    const { client, log } = this.#options
    log.info({ url: config.url, dns: config.dns }, 'discoverd is ready')
    this.#announcement = this.#announce(client)
    // Heartbeats at the own discoverd move the registration to it.
    this.#endGuest()
    this.#ready.resolve()
  }

  #meta(): Readonly<Record<string, string>> {
    const tags = Object.entries(this.#options.tags()).map(([k, v]) => [`tag:${k}`, v] as const)
    const drain = this.#options.drainingSince()
    return {
      id: this.#options.hostId,
      ...toMeta(this.#options.capacity),
      ...Object.fromEntries(tags),
      ...(drain === undefined ? {} : { drain }),
    }
  }
}
