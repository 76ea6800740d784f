// Values that the etcd client takes and gives: keys as text, values as bytes, revisions as numbers, ids as text.
import type { WireHeader, WireKeyValue, WireMember } from './wire.ts'

export type KeyValue = {
  readonly key: string
  readonly value: Buffer
  readonly createRevision: number
  readonly modRevision: number
  /** Lease the key hangs on; `0` for none. */
  readonly lease: string
}

export type Change =
  | ({ readonly type: 'put' } & KeyValue)
  | { readonly type: 'delete'; readonly key: string; readonly modRevision: number }

/** A consistent listing: everything under a prefix as of one revision. */
export type Listing = { readonly revision: number; readonly kvs: readonly KeyValue[] }

export type Guard =
  | { readonly key: string; readonly is: 'absent' | 'present' }
  | { readonly key: string; readonly is: 'unchanged'; readonly modRevision: number }
  | { readonly key: string; readonly is: 'equal'; readonly value: string | Buffer }
  | { readonly key: string; readonly is: 'leased'; readonly lease: string }

export type Op =
  | { readonly op: 'put'; readonly key: string; readonly value: string | Buffer; readonly lease?: string }
  | { readonly op: 'delete'; readonly key: string }
  | { readonly op: 'deletePrefix'; readonly prefix: string }
  | { readonly op: 'get'; readonly key: string }
  | { readonly op: 'list'; readonly prefix: string }

export type Txn = {
  readonly guards: readonly Guard[]
  readonly ops: readonly Op[]
  /** Done instead when a guard fails; usually reads that tell why. */
  readonly otherwise?: readonly Op[]
}

export type TxnResult = {
  readonly succeeded: boolean
  /** An earlier attempt got no answer: what broke the guards may be our own write, even where others wrote after it. */
  readonly repeated: boolean
  readonly revision: number
  /** One entry for each operation done: what a read found, nothing for writes. */
  readonly results: readonly (readonly KeyValue[])[]
}

export type EtcdMember = {
  readonly id: string
  /** Empty until the member has started for the first time. */
  readonly name: string
  readonly peerUrls: readonly string[]
  readonly clientUrls: readonly string[]
  readonly isLearner: boolean
}

export type EtcdStatus = {
  readonly memberId: string
  /** Undefined when the member knows of no leader. */
  readonly leaderId: string | undefined
  readonly revision: number
  readonly version: string
  readonly dbBytes: number
}

export function fromWireKeyValue(kv: WireKeyValue): KeyValue {
  return {
    key: kv.key.toString(),
    value: kv.value,
    createRevision: Number(kv.create_revision),
    modRevision: Number(kv.mod_revision),
    lease: kv.lease,
  }
}

export function fromWireMember(m: WireMember): EtcdMember {
  return {
    id: m.ID,
    name: m.name,
    peerUrls: m.peerURLs,
    clientUrls: m.clientURLs,
    isLearner: m.isLearner,
  }
}

export function revisionOf(header: WireHeader): number {
  return Number(header.revision)
}

/** The first key after all keys that begin with the prefix. */
export function prefixEnd(prefix: string): Buffer {
  const end = Buffer.from(prefix)
  for (let i = end.length - 1; i >= 0; i--) {
    const byte = end[i] as number
    if (byte < 0xff) {
      end[i] = byte + 1
      return end.subarray(0, i + 1)
    }
  }
  return Buffer.from([0])
}
