// Whether this scheduler leads: while discoverd says so and can be heard, and never on old news. A process that stood still
// (a paused machine, a frozen host) was perhaps replaced meanwhile, and its streams hold what is long over.
// Used by scheduler.ts.
import type { DiscoverdClient } from '../../discoverd/client.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { schedulerService } from '../client.ts'

/** Without news from discoverd for so long, another may lead: nothing is changed any more. */
export const leaderSilenceMaxMs = 20_000
export const pulseMs = 1_000
/** The time after which discoverd gives a host up that stands still, and with it who led from there. */
export const standstillMaxMs = 4_000
/** For reading what came meanwhile; discoverd may have stood still as well. */
export const standstillPauseMs = 3_000

export type LeadershipOptions = {
  readonly discoverd: DiscoverdClient
  readonly log: Logger
  readonly signal: AbortSignal
  /** The instance that this scheduler registered. */
  readonly ownId: string
  readonly leads: () => boolean
  /** Before it leads: everything is looked at again. */
  readonly prepare: () => Promise<void>
  readonly change: (leads: boolean) => void
}

export class Leadership {
  readonly #options: LeadershipOptions
  #leaderId: string | undefined
  #silent = false
  #behind = false
  #catchUp: NodeJS.Timeout | undefined
  /** By the wall clock, which goes on while a machine sleeps. */
  #pulseAtMs = Date.now()
  #turn: Promise<void> = Promise.resolve()

  constructor(options: LeadershipOptions) {
    this.#options = options
  }

  /** Follows discoverd until the signal aborts. */
  async run(): Promise<void> {
    const { discoverd, signal } = this.#options
    const pulse = setInterval(() => this.look(), pulseMs)
    let silence: NodeJS.Timeout | undefined
    // Tries that fail are no news: it is counted from the first.
    const onState = (state: 'connected' | 'disconnected'): void => {
      if (state === 'disconnected')
        silence ??= setTimeout(() => this.#fallSilent(), leaderSilenceMaxMs).unref()
    }
    try {
      for await (const event of discoverd.watch(schedulerService, { signal, onState })) {
        // A leader event without an instance comes between two leaders (4.1).
        if (event.kind === 'leader' && event.instance) this.#leaderId = event.instance.id
        if (event.kind === 'current') {
          clearTimeout(silence)
          silence = undefined
          this.#silent = false
        }
        if (event.kind === 'leader' || event.kind === 'current') this.#settle()
      }
    } finally {
      clearInterval(pulse)
      clearTimeout(silence)
      clearTimeout(this.#catchUp)
    }
  }

  /** To be called before anything that arrived is acted on: whoever stood still no longer leads after it. */
  look(): void {
    const nowMs = Date.now()
    const stillMs = nowMs - this.#pulseAtMs
    this.#pulseAtMs = nowMs
    if (stillMs < standstillMaxMs) return
    this.#options.log.warn({ stillMs }, 'stood still: does not lead until it has read what came meanwhile')
    this.#behind = true
    clearTimeout(this.#catchUp)
    this.#catchUp = setTimeout(() => {
      this.#behind = false
      this.#settle()
    }, standstillPauseMs).unref()
    this.#settle()
  }

  #fallSilent(): void {
    this.#silent = true
    this.#settle()
  }

  #mayLead(): boolean {
    return this.#leaderId === this.#options.ownId && !this.#silent && !this.#behind
  }

  /** Stops leading at once; begins to lead when it is prepared, if it still may. */
  #settle(): void {
    if (!this.#mayLead()) this.#change(false)
    this.#turn = this.#turn
      .then(() => this.#takeOver())
      .catch((err: unknown) => this.#options.log.error({ err }, 'leadership could not be taken'))
  }

  async #takeOver(): Promise<void> {
    if (!this.#mayLead() || this.#options.leads()) return
    await this.#options.prepare()
    if (this.#mayLead()) this.#change(true)
  }

  #change(leads: boolean): void {
    if (leads === this.#options.leads()) return
    this.#options.log.info({ leads }, leads ? 'leads the cluster' : 'does not lead')
    this.#options.change(leads)
  }
}
