// Discovery state in memory, kept by list+watch, and the guarded writes that change it. Reads never leave the process;
// a write answers when its effect is visible here. Called by api.ts, dns.ts and liveness.ts.
import { EventEmitter } from 'node:events'
import { type FlynnError, isFlynnError } from '../pkg/errors/errors.ts'
import type { EtcdCallOptions, EtcdClient, Guard, KeyValue, Op, TxnResult } from '../pkg/etcd/client.ts'
import { uuid } from '../pkg/ids/ids.ts'
import type { Logger } from '../pkg/log/log.ts'
import { errors } from './errors.ts'
import {
  type InstanceValue,
  instanceKey,
  instancesPrefix,
  type LeaderValue,
  leaderKey,
  type MetaValue,
  metaKey,
  prefix,
  type ServiceValue,
  serviceKey,
} from './keys.core.ts'
import { census } from './leader.core.ts'
import {
  applyChanges,
  diffStates,
  emptyState,
  fromListing,
  type ServiceState,
  type State,
  type Step,
} from './state.core.ts'
import type { DiscoverdEvent, Instance, ServiceMeta } from './types.ts'

/** Under the 5 s that clients wait, so that they get an answer they can try again on. */
export const writeTimeoutMs = 4_000
/** How long a finished write waits to be seen in memory; the watch is milliseconds behind. */
export const visibleTimeoutMs = 1_000
export const servicesMax = 5_000
export const instancesPerServiceMax = 5_000
export const metaBytesMax = 512 * 1024
/** Writes under way at once when instances go over to another lease. */
export const movesAtOnce = 50

type Waiter = { readonly revision: number; readonly done: () => void }

export type EventSink = (event: DiscoverdEvent) => void

/** What became of a write: etcd's answer, or an error that tells clients whether to try again. */
function writeFailure(e: unknown, idempotent: boolean): unknown {
  if (!isFlynnError(e, 'etcd_unavailable')) return e
  const { maybeSent } = (e.detail ?? { maybeSent: true }) as { readonly maybeSent: boolean }
  const make = idempotent || !maybeSent ? errors.NO_LEADER : errors.OUTCOME_UNKNOWN
  return make({}, { cause: e })
}

function parseValue<T>(kv: KeyValue | undefined): T | undefined {
  return kv && (JSON.parse(kv.value.toString()) as T)
}

function instanceText({ addr, proto, meta }: Instance): string {
  const value: InstanceValue = { addr, proto, ...(meta ? { meta } : {}) }
  return JSON.stringify(value)
}

export class Store {
  readonly #etcd: EtcdClient
  readonly #log: Logger
  readonly #events = new EventEmitter()
  readonly #waiters = new Set<Waiter>()
  #state: State = emptyState
  #loaded = false
  #markLoaded: () => void = () => undefined
  /** Resolves when the whole state has been read for the first time. */
  readonly loading: Promise<void>

  constructor(options: { readonly etcd: EtcdClient; readonly log: Logger }) {
    this.#etcd = options.etcd
    this.#log = options.log
    this.#events.setMaxListeners(0)
    this.loading = new Promise(resolve => {
      this.#markLoaded = resolve
    })
  }

  /** Follows etcd until the signal aborts. Rejects only when the state there cannot be understood. */
  run(signal: AbortSignal): Promise<void> {
    return this.#etcd.watch(
      prefix,
      {
        onListing: ({ kvs, revision }) => {
          const puts = kvs.map(kv => ({ type: 'put' as const, ...kv }))
          const state = fromListing(puts, revision)
          this.#advance({ state, events: diffStates(this.#state, state) })
          this.#loaded = true
          this.#markLoaded()
        },
        onChanges: (changes, revision) => this.#advance(applyChanges(this.#state, changes, revision)),
        onGap: cause => this.#log.debug({ err: cause }, 'etcd watch interrupted, serving from memory'),
      },
      signal,
    )
  }

  #advance(step: Step): void {
    this.#state = step.state
    for (const event of step.events) {
      this.#events.emit('event', event)
      this.#events.emit(`service ${event.service}`, event)
    }
    for (const waiter of this.#waiters)
      if (waiter.revision <= this.#state.revision) {
        this.#waiters.delete(waiter)
        waiter.done()
      }
  }

  get loaded(): boolean {
    return this.#loaded
  }

  get state(): State {
    return this.#state
  }

  get revision(): number {
    return this.#state.revision
  }

  service(name: string): ServiceState | undefined {
    return this.#state.services.get(name)
  }

  /** Names of the services that exist, sorted. */
  serviceNames(): readonly string[] {
    return [...this.#state.services.values()]
      .filter(s => s.leaderType !== undefined)
      .map(s => s.name)
      .sort()
  }

  /** Live events of one service, or of all; answers how to end it. */
  subscribe(service: string | undefined, sink: EventSink): () => void {
    const name = service === undefined ? 'event' : `service ${service}`
    this.#events.on(name, sink)
    return () => this.#events.off(name, sink)
  }

  async #visible(revision: number): Promise<void> {
    if (this.#state.revision >= revision) return
    await new Promise<void>(resolve => {
      const waiter: Waiter = { revision, done: resolve }
      this.#waiters.add(waiter)
      // The write has happened; should the watch be interrupted just now, the answer must not wait for it.
      setTimeout(() => {
        if (this.#waiters.delete(waiter)) resolve()
      }, visibleTimeoutMs).unref()
    })
  }

  async #write(
    txn: {
      readonly guards: readonly Guard[]
      readonly ops: readonly Op[]
      readonly otherwise?: readonly Op[]
    },
    idempotent: boolean,
    options: EtcdCallOptions = {},
  ): Promise<TxnResult> {
    try {
      const result = await this.#etcd.txn(txn, { timeoutMs: writeTimeoutMs, ...options })
      if (result.succeeded) await this.#visible(result.revision)
      return result
    } catch (e) {
      throw writeFailure(e, idempotent)
    }
  }

  /** Rejects with SERVICE_EXISTS when there is one of that name. */
  async addService(service: string, leaderType: string): Promise<void> {
    if (this.#state.services.size >= servicesMax)
      throw errors.TOO_MANY({ max: servicesMax, what: 'services' })
    const key = serviceKey(service)
    const value: ServiceValue = { leader_type: leaderType, write: uuid() }
    const result = await this.#write(
      {
        guards: [{ key, is: 'absent' }],
        ops: [{ op: 'put', key, value: JSON.stringify(value) }],
        otherwise: [{ op: 'get', key }],
      },
      true,
    )
    const found = parseValue<ServiceValue>(result.results[0]?.[0])
    if (!result.succeeded && found?.write !== value.write) throw errors.SERVICE_EXISTS({ service })
  }

  /** Removes a service with its metadata, leader and instances. */
  async removeService(service: string): Promise<void> {
    const key = serviceKey(service)
    const result = await this.#write(
      {
        guards: [{ key, is: 'present' }],
        ops: [
          { op: 'delete', key },
          { op: 'delete', key: metaKey(service) },
          { op: 'delete', key: leaderKey(service) },
          { op: 'deletePrefix', prefix: instancesPrefix(service) },
        ],
      },
      false,
    )
    // Not there when tried again: it is gone as asked.
    if (!result.succeeded && !result.repeated) throw errors.SERVICE_NOT_FOUND({ service })
  }

  /** Compare-and-set of contract 6; answers the new index. */
  async setMeta(service: string, meta: ServiceMeta): Promise<number> {
    const key = metaKey(service)
    const value: MetaValue = { data: meta.data, write: uuid() }
    const text = JSON.stringify(value)
    if (Buffer.byteLength(text) > metaBytesMax)
      throw errors.INVALID({ text: `discoverd: service metadata is larger than ${metaBytesMax} bytes` })
    const guard: Guard =
      meta.index === 0 ? { key, is: 'absent' } : { key, is: 'unchanged', modRevision: meta.index }
    const ops: Op[] = [{ op: 'put', key, value: text }]
    if (meta.leader_id) ops.push(this.#leaderOp(service, meta.leader_id))
    const result = await this.#write(
      {
        guards: [{ key: serviceKey(service), is: 'present' }, guard],
        ops,
        otherwise: [
          { op: 'get', key: serviceKey(service) },
          { op: 'get', key },
        ],
      },
      false,
    )
    if (result.succeeded) return result.revision
    const [exists, stored] = [result.results[0]?.[0], result.results[1]?.[0]]
    if (!exists) throw errors.SERVICE_NOT_FOUND({ service })
    // Our own write whose answer was lost on the way.
    if (stored && parseValue<MetaValue>(stored)?.write === value.write) return stored.modRevision
    // It may have been written over since: a refusal would then be a lie (track record, seed 1).
    if (result.repeated) throw errors.OUTCOME_UNKNOWN()
    throw this.#metaConflict(service, meta.index, stored !== undefined)
  }

  #metaConflict(service: string, index: number, exists: boolean): FlynnError {
    if (index === 0) return errors.META_EXISTS({ service })
    return exists ? errors.META_CHANGED({ service }) : errors.META_ABSENT({ service })
  }

  #leaderOp(service: string, id: string): Op {
    const value: LeaderValue = { id, among: census(this.service(service)?.instances ?? new Map()) }
    return { op: 'put', key: leaderKey(service), value: JSON.stringify(value) }
  }

  /** Names the leader of a manual service; an id that is not registered leads as soon as it is. */
  async setLeader(service: string, id: string): Promise<void> {
    const result = await this.#write(
      { guards: [{ key: serviceKey(service), is: 'present' }], ops: [this.#leaderOp(service, id)] },
      true,
    )
    if (!result.succeeded) throw errors.SERVICE_NOT_FOUND({ service })
  }

  /** Registers or changes an instance under a lease. Rejects with ETCD_LEASE_NOT_FOUND when the lease is gone. */
  async putInstance(
    service: string,
    instance: Instance,
    lease: string,
    options: EtcdCallOptions & { readonly onlyIfAbsent?: boolean } = {},
  ): Promise<void> {
    const known = this.service(service)?.instances
    if (known && !known.has(instance.id) && known.size >= instancesPerServiceMax)
      throw errors.TOO_MANY({ max: instancesPerServiceMax, what: `instances of ${service}` })
    const key = instanceKey(service, instance.id)
    const guards: Guard[] = [{ key: serviceKey(service), is: 'present' }]
    if (options.onlyIfAbsent) guards.push({ key, is: 'absent' })
    const result = await this.#write(
      { guards, ops: [{ op: 'put', key, value: instanceText(instance), lease }] },
      true,
      options,
    )
    if (!result.succeeded && !options.onlyIfAbsent) throw errors.SERVICE_NOT_FOUND({ service })
  }

  /** All instances on one lease go over to another; those that meanwhile left it stay as they are. */
  async moveInstances(from: string, to: string, options: EtcdCallOptions = {}): Promise<void> {
    const held = [...this.#state.services.values()].flatMap(({ name, instances }) =>
      [...instances.values()].filter(i => i.lease === from).map(i => ({ key: instanceKey(name, i.id), i })),
    )
    const move = ({ key, i }: (typeof held)[number]) =>
      this.#etcd.txn(
        {
          guards: [{ key, is: 'leased', lease: from }],
          ops: [{ op: 'put', key, value: instanceText(i), lease: to }],
        },
        { timeoutMs: writeTimeoutMs, ...options },
      )
    for (let n = 0; n < held.length; n += movesAtOnce)
      await Promise.all(held.slice(n, n + movesAtOnce).map(move))
  }

  /** Removes an instance; one that is not there is as good. */
  async deleteInstance(service: string, id: string): Promise<void> {
    await this.#write({ guards: [], ops: [{ op: 'delete', key: instanceKey(service, id) }] }, true)
  }

  /** Removes an instance unless it was written again since `revision`. */
  async expireInstance(service: string, id: string, revision: number): Promise<boolean> {
    const key = instanceKey(service, id)
    const guards: Guard[] = [{ key, is: 'unchanged', modRevision: revision }]
    return (await this.#write({ guards, ops: [{ op: 'delete', key }] }, true)).succeeded
  }
}
