// Passes the controller's log sinks on to every host: at each change, when a host appears, and once a minute (contract
// system-apps.md 2.3). Only the leader does. Called by scheduler.ts.
import type { HostClient } from '../../host/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { ControllerClient } from '../client.ts'
import type { Sink } from '../types.ts'
import { follow } from './follow.ts'
import { planSinks } from './sinks.core.ts'

export const sinkSyncMs = 60_000
export const sinkCallTimeoutMs = 5_000

export type SinkSyncOptions = {
  readonly controller: ControllerClient
  readonly log: Logger
  readonly signal: AbortSignal
  readonly hosts: () => readonly string[]
  readonly host: (id: string) => HostClient | undefined
  readonly leads: () => boolean
}

export class SinkSync {
  readonly #options: SinkSyncOptions
  readonly #sinks = new Map<string, Sink>()
  /** Nothing is removed from a host before the whole list has been read. */
  #complete = false
  #wanted = false
  #running: Promise<void> | undefined

  constructor(options: SinkSyncOptions) {
    this.#options = options
  }

  /** Follows the controller's sinks until the signal aborts. */
  async run(): Promise<void> {
    const { controller, log, signal } = this.#options
    await follow({
      what: 'sinks',
      log,
      signal,
      stream: async alive => {
        const listed = new Map<string, Sink>()
        let current = false
        for await (const change of controller.streamSinks({ signal })) {
          alive()
          if (change.kind === 'current') {
            this.#sinks.clear()
            for (const sink of listed.values()) this.#sinks.set(sink.id, sink)
            current = true
            this.#complete = true
          } else {
            const sinks = current ? this.#sinks : listed
            if (change.kind === 'sink') sinks.set(change.sink.id, change.sink)
            else sinks.delete(change.sink.id)
          }
          if (current) this.sync()
        }
      },
    })
  }

  /** Brings every host to the wanted sinks soon; what fails is tried again with the next call. */
  sync(): void {
    this.#wanted = true
    this.#running ??= this.#syncAll().finally(() => {
      this.#running = undefined
    })
  }

  async #syncAll(): Promise<void> {
    const { hosts, leads, signal, log } = this.#options
    while (this.#wanted && !signal.aborted) {
      this.#wanted = false
      if (!leads() || !this.#complete) return
      await Promise.all(
        hosts().map(async id => {
          try {
            await this.#syncHost(id)
          } catch (err) {
            if (!signal.aborted)
              log.warn({ err, host: id }, 'log sinks of the host were not brought up to date')
          }
        }),
      )
    }
  }

  async #syncHost(id: string): Promise<void> {
    const host = this.#options.host(id)
    if (host === undefined) return
    const call = { signal: this.#options.signal, timeoutMs: sinkCallTimeoutMs, retryMs: 0 }
    for (const step of planSinks([...this.#sinks.values()], await host.sinks(call))) {
      if (step.kind === 'remove') await host.removeSink(step.id, call)
      else if (step.sink.config !== undefined)
        await host.putSink({ id: step.sink.id, kind: 'syslog', config: step.sink.config }, call)
    }
  }
}
