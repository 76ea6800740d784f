// Tells of processes that the kernel killed for lack of memory, once each: from containerd's events while we listen,
// and from the cgroup's own counter for what happened while we or containerd were away (contract host.md 3.10).
import { readFile, writeFile } from 'node:fs/promises'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import type { ContainerdClient } from '../../pkg/containerd/client.ts'
import { isContainerdError } from '../../pkg/containerd/errors.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { Cgroups } from './cgroup.ts'

export type OomOptions = {
  readonly client: ContainerdClient
  readonly cgroups: Cgroups
  /** Where the number of kills that were told is kept; goes with the job directory. */
  readonly seenFile: (id: string) => string
  readonly onOom: (id: string) => void
  readonly log: Logger
}

export class OomWatch {
  readonly #options: OomOptions
  readonly #closed = new AbortController()
  readonly #seen = new Map<string, number>()
  #running: Promise<void> | undefined

  constructor(options: OomOptions) {
    this.#options = options
  }

  open(): void {
    this.#running = this.#listen()
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#running
  }

  forget(id: string): void {
    this.#seen.delete(id)
  }

  async #listen(): Promise<void> {
    const signal = this.#closed.signal
    const delays = backoff({ minMs: 50, maxMs: 1_000 })
    while (!signal.aborted) {
      try {
        const over = this.#options.client.watchOom(event => void this.#event(event.id), signal)
        // What the counters say is told after the subscription, so that nothing falls between.
        const all = this.#checkAll()
        await over
        await all
        delays.reset()
      } catch (e) {
        if (signal.aborted) return
        if (!isContainerdError(e, 'unavailable', 'aborted'))
          this.#options.log.warn({ err: e }, 'watching for lack of memory failed, trying again')
      }
      await sleep(delays.next(), signal).catch(() => undefined)
    }
  }

  async #checkAll(): Promise<void> {
    try {
      for (const task of await this.#options.client.listTasks()) await this.check(task.id)
    } catch (e) {
      if (!isContainerdError(e)) throw e
      this.#options.log.debug({ err: e }, 'memory counters not looked at, containerd is away')
    }
  }

  /** Tells of kills that no event told of; answers how many processes of the job were killed so far. */
  async check(id: string): Promise<number> {
    const kills = await this.#kills(id)
    const seen = await this.#load(id)
    if (kills > seen) await this.#tell(id, kills)
    return Math.max(kills, seen)
  }

  async #event(id: string): Promise<void> {
    try {
      // The event may come before the kernel has counted.
      await this.#tell(id, Math.max((await this.#load(id)) + 1, await this.#kills(id)))
    } catch (e) {
      this.#options.log.warn({ job: id, err: e }, 'lack of memory not recorded')
    }
  }

  async #kills(id: string): Promise<number> {
    const cgroup = await this.#options.cgroups.find(id)
    return cgroup === undefined ? 0 : ((await this.#options.cgroups.oomKills(cgroup)) ?? 0)
  }

  async #load(id: string): Promise<number> {
    const known = this.#seen.get(id)
    if (known !== undefined) return known
    const stored = Number(await readFile(this.#options.seenFile(id), 'utf8').catch(() => '0'))
    const seen = Number.isInteger(stored) ? stored : 0
    this.#seen.set(id, seen)
    return seen
  }

  async #tell(id: string, kills: number): Promise<void> {
    this.#seen.set(id, kills)
    this.#options.onOom(id)
    // Without its directory the job is being removed; nobody will ask again.
    await writeFile(this.#options.seenFile(id), String(kills)).catch(e => {
      if (e.code !== 'ENOENT') throw e
    })
  }
}
