// The etcd client: reads, guarded writes, list+watch, leases, membership. Thin and ours because the npm package loses
// watch events and hangs on frozen members (design evidence: state.md 1.3). Used by discoverd, by host for subnet
// leases and fencing, by the postgres appliance. Writes are idempotent or guarded, so that they can be tried again.
import type { Logger } from '../log/log.ts'
import { Channels, type EtcdCallOptions } from './channels.ts'
import { adoptLease, grantLease, type Lease, revokeLease } from './lease.ts'
import {
  type EtcdMember,
  type EtcdStatus,
  fromWireKeyValue,
  fromWireMember,
  type Guard,
  type KeyValue,
  type Listing,
  type Op,
  prefixEnd,
  revisionOf,
  type Txn,
  type TxnResult,
} from './types.ts'
import { type WatchHandlers, watchPrefix } from './watch.ts'
import { type Method, methods, type RequestOp, type WireCompare } from './wire.ts'

export type { EtcdCallOptions } from './channels.ts'
export type { Lease } from './lease.ts'
export type { Change, EtcdMember, EtcdStatus, Guard, KeyValue, Listing, Op, Txn, TxnResult } from './types.ts'
export type { WatchHandlers } from './watch.ts'

export const statusTimeoutMs = 300
/** Membership changes are one attempt; etcd refuses them for 5 s after another one, which callers must wait out. */
export const membershipTimeoutMs = 5_000

export type EtcdOptions = {
  /** `host:port` of members, nearest first; calls move on to the next when one fails. */
  readonly endpoints: readonly string[]
  readonly log?: Logger
}

function toCompare(guard: Guard): WireCompare {
  const key = Buffer.from(guard.key)
  switch (guard.is) {
    case 'absent':
      return { key, target: 'CREATE', result: 'EQUAL', create_revision: 0 }
    case 'present':
      return { key, target: 'CREATE', result: 'GREATER', create_revision: 0 }
    case 'unchanged':
      return { key, target: 'MOD', result: 'EQUAL', mod_revision: guard.modRevision }
    case 'equal':
      return { key, target: 'VALUE', result: 'EQUAL', value: Buffer.from(guard.value) }
    case 'leased':
      return { key, target: 'LEASE', result: 'EQUAL', lease: guard.lease }
  }
}

function toRequestOp(op: Op): RequestOp {
  switch (op.op) {
    case 'put': {
      const put = { key: Buffer.from(op.key), value: Buffer.from(op.value) }
      return { request_put: op.lease === undefined ? put : { ...put, lease: op.lease } }
    }
    case 'delete':
      return { request_delete_range: { key: Buffer.from(op.key) } }
    case 'deletePrefix':
      return { request_delete_range: { key: Buffer.from(op.prefix), range_end: prefixEnd(op.prefix) } }
    case 'get':
      return { request_range: { key: Buffer.from(op.key) } }
    case 'list':
      return { request_range: { key: Buffer.from(op.prefix), range_end: prefixEnd(op.prefix) } }
  }
}

export class EtcdClient {
  readonly #channels: Channels
  readonly #log: Logger | undefined

  constructor(options: EtcdOptions) {
    this.#channels = new Channels(options.endpoints)
    this.#log = options.log
  }

  get endpoints(): readonly string[] {
    return this.#channels.endpoints
  }

  setEndpoints(endpoints: readonly string[]): void {
    this.#channels.setEndpoints(endpoints)
  }

  /** Linearizable. */
  async get(key: string, options: EtcdCallOptions = {}): Promise<KeyValue | undefined> {
    const res = await this.#channels.call(methods.range, { key: Buffer.from(key) }, options)
    const kv = res.kvs[0]
    return kv && fromWireKeyValue(kv)
  }

  /** Everything under a prefix as of one revision, in key order; linearizable. */
  async list(prefix: string, options: EtcdCallOptions = {}): Promise<Listing> {
    const req = { key: Buffer.from(prefix), range_end: prefixEnd(prefix) }
    const res = await this.#channels.call(methods.range, req, options)
    return { revision: revisionOf(res.header), kvs: res.kvs.map(fromWireKeyValue) }
  }

  /** Answers the revision of the write. */
  async put(
    key: string,
    value: string | Buffer,
    options: EtcdCallOptions & { readonly lease?: string } = {},
  ): Promise<number> {
    const lease = options.lease === undefined ? {} : { lease: options.lease }
    return (await this.txn({ guards: [], ops: [{ op: 'put', key, value, ...lease }] }, options)).revision
  }

  async delete(key: string, options: EtcdCallOptions = {}): Promise<void> {
    await this.txn({ guards: [], ops: [{ op: 'delete', key }] }, options)
  }

  /**
   * All guards hold: `ops` are done, else `otherwise`; one revision. Tried again after a lost answer, so `ops` must be
   * safe to do twice, or guarded such that the second time finds a guard broken. A caller recognises its own value, and
   * cannot tell (`repeated`) where somebody else wrote over it meanwhile.
   */
  async txn(txn: Txn, options: EtcdCallOptions = {}): Promise<TxnResult> {
    let repeated = false
    const onLost = () => {
      repeated = true
    }
    const res = await this.#channels.call(
      methods.txn,
      {
        compare: txn.guards.map(toCompare),
        success: txn.ops.map(toRequestOp),
        failure: (txn.otherwise ?? []).map(toRequestOp),
      },
      { ...options, onLost },
    )
    return {
      succeeded: res.succeeded,
      repeated,
      revision: revisionOf(res.header),
      results: res.responses.map(r => (r.response_range?.kvs ?? []).map(fromWireKeyValue)),
    }
  }

  /** Creates a key; false when it exists already (also with the same value, unless it is ours: see `txn`). */
  async create(
    key: string,
    value: string,
    options: EtcdCallOptions & { readonly lease?: string } = {},
  ): Promise<boolean> {
    const lease = options.lease === undefined ? {} : { lease: options.lease }
    const put: Op = { op: 'put', key, value, ...lease }
    return (await this.txn({ guards: [{ key, is: 'absent' }], ops: [put] }, options)).succeeded
  }

  /** Deletes a key if it still holds this value; false when it does not. Fencing a dead leader is this call. */
  async deleteIfEqual(key: string, value: string, options: EtcdCallOptions = {}): Promise<boolean> {
    const res = await this.txn(
      { guards: [{ key, is: 'equal', value }], ops: [{ op: 'delete', key }] },
      options,
    )
    return res.succeeded
  }

  /** Follows a prefix until the signal aborts; see watch.ts for what is promised. */
  watch(prefix: string, handlers: WatchHandlers, signal: AbortSignal): Promise<void> {
    const list = () => this.list(prefix, { signal })
    return watchPrefix(this.#channels, list, prefix, handlers, { signal, log: this.#log })
  }

  /** A new lease, kept alive. `ttlMs` must be whole seconds, at least 2. */
  grantLease(ttlMs: number, options: EtcdCallOptions = {}): Promise<Lease> {
    return grantLease(this.#channels, ttlMs, { ...options, log: this.#log })
  }

  /** An earlier lease, kept alive from now on; undefined when it is gone. */
  adoptLease(id: string, ttlMs: number, options: EtcdCallOptions = {}): Promise<Lease | undefined> {
    return adoptLease(this.#channels, id, ttlMs, { ...options, log: this.#log })
  }

  revokeLease(id: string, options: EtcdCallOptions = {}): Promise<void> {
    return revokeLease(this.#channels, id, options)
  }

  /** Whole seconds until a lease ends, rounded down, as etcd's leader counts them; undefined when it has ended. */
  async leaseSecondsLeft(id: string, options: EtcdCallOptions = {}): Promise<number | undefined> {
    const left = Number((await this.#channels.call(methods.leaseTtl, { ID: id }, options)).TTL)
    return left < 0 ? undefined : left
  }

  /** Answered by any member, also without a majority. */
  async members(options: EtcdCallOptions = {}): Promise<readonly EtcdMember[]> {
    return (await this.#channels.call(methods.memberList, {}, options)).members.map(fromWireMember)
  }

  /** Membership changes are never tried again: read `members` to learn what became of one that timed out. */
  async addMember(peerUrl: string, options: { readonly learner: boolean }): Promise<EtcdMember> {
    const req = { peerURLs: [peerUrl], isLearner: options.learner }
    return fromWireMember((await this.#changeMembers(methods.memberAdd, req)).member)
  }
  async removeMember(id: string): Promise<void> {
    await this.#changeMembers(methods.memberRemove, { ID: id })
  }
  async updateMember(id: string, peerUrl: string): Promise<void> {
    await this.#changeMembers(methods.memberUpdate, { ID: id, peerURLs: [peerUrl] })
  }
  async promoteMember(id: string): Promise<void> {
    await this.#changeMembers(methods.memberPromote, { ID: id })
  }

  #changeMembers<Req, Res>(method: Method<Req, Res>, req: Req): Promise<Res> {
    return this.#channels.call(method, req, { attempts: 1, timeoutMs: membershipTimeoutMs })
  }

  /** One member's view; one attempt. */
  async status(endpoint: string = this.#channels.choose()): Promise<EtcdStatus> {
    const res = await this.#channels.callMember(endpoint, methods.status, {}, statusTimeoutMs)
    return {
      memberId: res.header.member_id,
      leaderId: res.leader === '0' ? undefined : res.leader,
      revision: revisionOf(res.header),
      version: res.version,
      dbBytes: Number(res.dbSize),
    }
  }

  /** Hands leadership to a member; `endpoint` must be the leader's. Do this before removing or stopping a leader. */
  async moveLeader(endpoint: string, targetId: string): Promise<void> {
    await this.#channels.callMember(endpoint, methods.moveLeader, { targetID: targetId }, membershipTimeoutMs)
  }

  /** Drops history before a revision; watchers further behind list again. */
  async compact(revision: number): Promise<void> {
    await this.#channels.call(methods.compact, { revision, physical: true }, { attempts: 1 })
  }

  close(): void {
    this.#channels.close()
  }
}
