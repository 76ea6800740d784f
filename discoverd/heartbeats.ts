// The heartbeats of everything that one client keeps registered, in one request at a time: a host has a dozen instances, and
// each request of its own cost both sides more than what it says. Used by registration.ts.
import { settlesWithin, sleep } from '../pkg/clock/clock.ts'
import { isFlynnError } from '../pkg/errors/errors.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { Heartbeat, HeartbeatFailure, Instance } from './types.ts'

export const heartbeatMs = 5_000
export const heartbeatJitterMs = 2_000
export const failedHeartbeatPauseMs = 200
/** Named in one request; more go in further ones. */
export const heartbeatsPerRequestMax = 200
/**
 * How long the end of a registration waits for a request that names it and is under way. It is broken off then, and sent anew
 * without it: tried on until discoverd is back, it would bring back what has been deregistered meanwhile.
 */
export const underWayTimeoutMs = 2_000

function usualPauseMs(failing: boolean): number {
  return failing
    ? failedHeartbeatPauseMs * (1 + Math.random())
    : heartbeatMs - heartbeatJitterMs * Math.random()
}

export type Beating = {
  readonly service: string
  readonly instance: () => Instance
  /** By itself, making a service anew that is missing where that is wanted. */
  readonly put: () => Promise<void>
  readonly log: Logger | undefined
}

/** Answers for each, in order, why it failed; rejects when none could be told. */
export type SendHeartbeats = (
  beats: readonly Heartbeat[],
  signal: AbortSignal,
) => Promise<readonly (HeartbeatFailure | null)[]>

type Entry = { readonly beating: Beating; failing: boolean }

export class Heartbeats {
  readonly #send: SendHeartbeats
  readonly #entries = new Set<Entry>()
  #stop: AbortController | undefined
  #underWay: Promise<void> = Promise.resolve()
  #breakOff = new AbortController()
  readonly #pauseMs: (failing: boolean) => number

  constructor(send: SendHeartbeats, pauseMs = usualPauseMs) {
    this.#send = send
    this.#pauseMs = pauseMs
  }

  /** Beats from now on, until the function answered is called; that resolves once no request that names it is under way. */
  add(beating: Beating): () => Promise<void> {
    const entry: Entry = { beating, failing: false }
    this.#entries.add(entry)
    if (!this.#stop) {
      this.#stop = new AbortController()
      void this.#run(this.#stop.signal)
    }
    return async () => {
      this.#entries.delete(entry)
      const [underWay, breakOff] = [this.#underWay, this.#breakOff]
      if (this.#entries.size === 0) {
        this.#stop?.abort()
        this.#stop = undefined
      }
      if (await settlesWithin(underWay, underWayTimeoutMs)) return
      breakOff.abort()
      await underWay
    }
  }

  async #run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      const failing = [...this.#entries].some(entry => entry.failing)
      await sleep(this.#pauseMs(failing), signal).catch(() => undefined)
      if (signal.aborted) return
      this.#breakOff = new AbortController()
      this.#underWay = this.#beatAll(AbortSignal.any([signal, this.#breakOff.signal]))
      await this.#underWay
    }
  }

  async #beatAll(signal: AbortSignal): Promise<void> {
    const entries = [...this.#entries]
    for (let n = 0; n < entries.length; n += heartbeatsPerRequestMax) {
      const part = entries.slice(n, n + heartbeatsPerRequestMax)
      const failures = await this.#beat(part, signal)
      for (const [i, entry] of part.entries()) this.#note(entry, failures[i])
    }
  }

  /** Answers why each failed, undefined for those that did not. */
  async #beat(entries: readonly Entry[], signal: AbortSignal): Promise<readonly unknown[]> {
    const alone = (entry: Entry) =>
      entry.beating.put().then(
        () => undefined,
        (e: unknown) => e,
      )
    if (entries.length === 1) return Promise.all(entries.map(alone))
    try {
      const beats = entries.map(({ beating }) => ({ service: beating.service, instance: beating.instance() }))
      const failures = await this.#send(beats, signal)
      return await Promise.all(
        entries.map((entry, i) => {
          const failure = failures[i] ?? undefined
          return failure?.code === 'object_not_found' ? alone(entry) : failure
        }),
      )
    } catch (e) {
      // A discoverd from before there was such a request.
      if (isFlynnError(e, 'not_found')) return Promise.all(entries.map(alone))
      return entries.map(() => e)
    }
  }

  #note(entry: Entry, failure: unknown): void {
    const { service, log } = entry.beating
    const wasFailing = entry.failing
    entry.failing = failure !== undefined
    // Ended meanwhile: nobody minds any more.
    if (!this.#entries.has(entry)) return
    if (entry.failing && !wasFailing) log?.warn({ service, err: failure }, 'heartbeat failed')
    if (!entry.failing && wasFailing) log?.info({ service }, 'heartbeat works again')
  }
}
