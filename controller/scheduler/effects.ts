// Carries out what the scheduler's core decided: starts and stops on hosts, records in the controller. Every call has a
// deadline; what fails is told to the core or left to the periodic syncs, which repeat it.
import type { HostClient } from '../../host/client.ts'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import { describeError, FlynnError, isFlynnError } from '../../pkg/errors/errors.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { ControllerClient } from '../client.ts'
import { formationHostJob, volumeMetadata } from '../hostjob.core.ts'
import type { ExpandedFormation, ScaleRequestInput } from '../types.ts'
import type { DatabaseContext } from '../worker/patroni.ts'
import { fromActiveJob, toWireJob, toWireVolume } from './convert.core.ts'
import { isMoveEffect, moveVolume, runMove } from './moves.ts'
import { KeyedQueue } from './queue.ts'
import type { Effect, Happening, PlaceFailure, Volume } from './state.core.ts'

export const hostCallTimeoutMs = 10_000
export const createVolumeTimeoutMs = 30_000
/** Records are tried again for so long while the controller or its database is away. */
export const recordRetryMs = 60_000
const recordsAtOnceMax = 8
const hostCallsAtOnceMax = 32

export type EffectContext = {
  readonly controller: ControllerClient
  readonly log: Logger
  readonly signal: AbortSignal
  readonly host: (id: string) => HostClient | undefined
  readonly formation: (key: string) => ExpandedFormation | undefined
  readonly dispatch: (happening: Happening) => void
  readonly database: DatabaseContext
}

type Of<K extends Effect['kind']> = Extract<Effect, { kind: K }>

export class Effects {
  readonly #ctx: EffectContext
  readonly #records = new KeyedQueue(recordsAtOnceMax)
  readonly #hosts = new KeyedQueue(hostCallsAtOnceMax)
  /** Jobs of each formation with records under way: a scale request is finished after them. */
  readonly #recording = new Map<string, Set<string>>()

  constructor(ctx: EffectContext) {
    this.#ctx = ctx
  }

  /** Begins to carry out; never throws. */
  run(effect: Effect): void {
    if (effect.kind === 'place') this.#onHost(effect.uuid, () => this.#place(effect))
    else if (effect.kind === 'deregister') this.#onHost(effect.uuid, () => this.#deregister(effect))
    else if (effect.kind === 'stop')
      this.#onHost(`stop ${effect.uuid}`, () => this.#stop(effect), [effect.uuid])
    else if (effect.kind === 'inspect') this.#onHost(`inspect ${effect.uuid}`, () => this.#inspect(effect))
    else if (effect.kind === 'dropVolume') this.#onHost(effect.volumeId, () => this.#dropVolume(effect))
    else if (isMoveEffect(effect))
      this.#onHost(`move ${moveVolume(effect)}`, () => runMove(this.#ctx, effect))
    else if (effect.kind === 'recordJob') this.#recordJob(effect)
    else if (effect.kind === 'recordVolume') this.#recordVolume(effect)
    else if (effect.kind === 'finishScale') this.#finishScale(effect)
    else this.#ctx.log.info(effect.detail, effect.text)
  }

  #callOptions() {
    return { signal: this.#ctx.signal, timeoutMs: hostCallTimeoutMs, retryMs: 0 }
  }

  #onHost(key: string, work: () => Promise<void>, after: readonly string[] = []): void {
    this.#hosts.run(key, work, after).catch((err: unknown) => {
      if (!this.#ctx.signal.aborted) this.#ctx.log.error({ err, key }, 'host call failed unexpectedly')
    })
  }

  // Hosts -----------------------------------------------------------------------------------------------------------

  async #place(effect: Of<'place'>): Promise<void> {
    const { uuid, hostId, attempt } = effect
    const { dispatch } = this.#ctx
    const failed = (why: PlaceFailure, message: string): void =>
      dispatch({ kind: 'placeFailed', uuid, hostId, attempt, why, message })
    const host = this.#ctx.host(hostId)
    const expanded = this.#ctx.formation(effect.formationKey)
    const process = expanded?.release.processes?.[effect.type]
    if (host === undefined || expanded === undefined || process === undefined) {
      failed('refused', host === undefined ? 'the host is unknown' : 'the formation is unknown')
      return
    }
    try {
      for (const volume of effect.volumes)
        if (volume.state === 'pending') await this.#createVolume(host, volume)
      const job = formationHostJob({
        ...expanded,
        hostId,
        jobUuid: uuid,
        type: effect.type,
        process,
        volumes: effect.volumes,
      })
      await host.addJob(job, this.#callOptions())
      dispatch({ kind: 'placed', uuid, hostId, attempt })
    } catch (e) {
      if (this.#ctx.signal.aborted) return
      // An earlier request that we had no answer to was accepted after all.
      if (isFlynnError(e, 'conflict')) {
        dispatch({ kind: 'placed', uuid, hostId, attempt })
        await this.#inspect({ kind: 'inspect', hostId, uuid })
      } else failed(failureOf(e), describeError(e))
    }
  }

  async #createVolume(host: HostClient, volume: Volume): Promise<void> {
    try {
      await host.createVolume(
        { id: volume.id, type: 'data', meta: volumeMetadata(volume) },
        { signal: this.#ctx.signal, timeoutMs: createVolumeTimeoutMs, retryMs: 0 },
      )
    } catch (e) {
      if (isFlynnError(e, 'object_exists') || isFlynnError(e, 'conflict')) return
      throw e
    }
  }

  async #deregister({ hostId, uuid }: Of<'deregister'>): Promise<void> {
    try {
      await this.#ctx.host(hostId)?.deregisterJob(`${hostId}-${uuid}`, this.#callOptions())
    } catch (err) {
      // The stop that follows takes it out as well.
      this.#ctx.log.debug({ err, job: uuid }, 'deregistration failed')
    }
  }

  async #stop({ hostId, uuid }: Of<'stop'>): Promise<void> {
    try {
      const host = this.#ctx.host(hostId)
      if (host === undefined) return
      await host.stopJob(`${hostId}-${uuid}`, { signal: this.#ctx.signal, retryMs: 0 })
    } catch (err) {
      if (this.#ctx.signal.aborted) return
      this.#ctx.log.info({ job: uuid, host: hostId, reason: describeError(err) }, 'stop failed')
      this.#ctx.dispatch({ kind: 'stopFailed', uuid, hostId })
    }
  }

  async #inspect({ hostId, uuid }: Of<'inspect'>): Promise<void> {
    const host = this.#ctx.host(hostId)
    if (host === undefined) return
    try {
      const job = fromActiveJob(await host.job(`${hostId}-${uuid}`, this.#callOptions()))
      if (job) this.#ctx.dispatch({ kind: 'hostJob', job })
    } catch (err) {
      if (err instanceof FlynnError && err.status === 404)
        this.#ctx.dispatch({ kind: 'hostJobMissing', hostId, uuid })
      else if (!this.#ctx.signal.aborted) this.#ctx.log.debug({ err, job: uuid }, 'job cannot be read')
    }
  }

  async #dropVolume({ hostId, volumeId }: Of<'dropVolume'>): Promise<void> {
    try {
      await this.#ctx.host(hostId)?.destroyVolume(volumeId, { signal: this.#ctx.signal, retryMs: 0 })
    } catch (err) {
      const missing = err instanceof FlynnError && err.status === 404
      if (!missing) this.#ctx.log.warn({ err, volume: volumeId }, 'an unused volume is left on its host')
    }
  }

  // Records ---------------------------------------------------------------------------------------------------------

  #recordJob({ job, state }: Of<'recordJob'>): void {
    const key = job.formationKey ?? ''
    const uuids = this.#recording.get(key) ?? new Set()
    uuids.add(job.uuid)
    this.#recording.set(key, uuids)
    const write = () => this.#ctx.controller.putJob(toWireJob(job, state), this.#callOptions())
    // The job's row refers to the rows of its volumes.
    this.#record(job.uuid, `job ${state}`, write, job.volumeIds)
  }

  #recordVolume({ volume, jobUuid }: Of<'recordVolume'>): void {
    this.#record(volume.id, 'volume', () =>
      this.#ctx.controller.putVolume(toWireVolume(volume, jobUuid), this.#callOptions()),
    )
  }

  /** Clients see the last job event of a formation before the end of its scale request. */
  #finishScale({ formationKey, request, state }: Of<'finishScale'>): void {
    const before = [...(this.#recording.get(formationKey) ?? [])]
    this.#recording.delete(formationKey)
    const [app = '', release = ''] = formationKey.split(':')
    const body: ScaleRequestInput = { ...(request as ScaleRequestInput), state }
    const write = () => this.#ctx.controller.putScale(app, release, body, this.#callOptions())
    this.#record(`scale ${request.id}`, `scale request ${state}`, write, before)
  }

  #record(key: string, what: string, write: () => Promise<unknown>, after: readonly string[] = []): void {
    const { log, signal } = this.#ctx
    const work = async (): Promise<void> => {
      const end = Date.now() + recordRetryMs
      const delays = backoff({ minMs: 100, maxMs: 2_000 })
      for (;;) {
        try {
          await write()
          return
        } catch (err) {
          if (signal.aborted) return
          const permanent = err instanceof FlynnError && !err.retry && err.status < 500
          if (permanent || Date.now() >= end) {
            log.warn({ reason: describeError(err), key, what }, 'record was not written')
            return
          }
          await sleep(delays.next(), signal)
        }
      }
    }
    this.#records.run(key, work, after).catch((err: unknown) => {
      if (!signal.aborted) log.error({ err, key, what }, 'record failed unexpectedly')
    })
  }
}

/** A host that answered with an error has not accepted the job; one that did not answer may have. */
function failureOf(e: unknown): PlaceFailure {
  if (e instanceof FlynnError) return e.status === 429 ? 'busy' : 'refused'
  const code = e instanceof Error && 'code' in e ? e.code : undefined
  return code === 'ECONNREFUSED' ? 'refused' : 'uncertain'
}
