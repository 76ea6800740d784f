// etcd's gRPC methods as typed values, decoded from our own small .proto. 64-bit numbers stay strings on the wire side:
// lease and member ids do not fit a JS number. Revisions do, and are numbers in everything the client hands out.
import { fileURLToPath } from 'node:url'
import type { MethodDefinition, ServiceDefinition } from '@grpc/grpc-js'
import { loadSync } from '@grpc/proto-loader'

export type WireHeader = {
  readonly cluster_id: string
  readonly member_id: string
  readonly revision: string
  readonly raft_term: string
}
export type WireKeyValue = {
  readonly key: Buffer
  readonly create_revision: string
  readonly mod_revision: string
  readonly version: string
  readonly value: Buffer
  readonly lease: string
}
export type HeaderResponse = { readonly header: WireHeader }
export type RangeRequest = {
  readonly key: Buffer
  readonly range_end?: Buffer
  readonly limit?: number
  readonly serializable?: boolean
  readonly keys_only?: boolean
}
export type RangeResponse = HeaderResponse & { readonly kvs: readonly WireKeyValue[]; readonly count: string }
export type PutRequest = { readonly key: Buffer; readonly value: Buffer; readonly lease?: string }
export type DeleteRequest = { readonly key: Buffer; readonly range_end?: Buffer }
export type DeleteResponse = HeaderResponse & { readonly deleted: string }
export type RequestOp =
  | { readonly request_range: RangeRequest }
  | { readonly request_put: PutRequest }
  | { readonly request_delete_range: DeleteRequest }
export type ResponseOp = {
  readonly response_range?: RangeResponse
  readonly response_delete_range?: DeleteResponse
}
export type WireCompare = {
  readonly result: 'EQUAL' | 'GREATER' | 'LESS' | 'NOT_EQUAL'
  readonly target: 'CREATE' | 'MOD' | 'VALUE' | 'LEASE'
  readonly key: Buffer
  readonly create_revision?: number
  readonly mod_revision?: number
  readonly value?: Buffer
  readonly lease?: string
}
export type TxnRequest = {
  readonly compare: readonly WireCompare[]
  readonly success: readonly RequestOp[]
  readonly failure: readonly RequestOp[]
}
export type TxnResponse = HeaderResponse & {
  readonly succeeded: boolean
  readonly responses: readonly ResponseOp[]
}
export type WatchRequest = {
  readonly create_request: {
    readonly key: Buffer
    readonly range_end: Buffer
    readonly start_revision: number
  }
}
export type WireEvent = { readonly type: 'PUT' | 'DELETE'; readonly kv: WireKeyValue }
export type WatchResponse = HeaderResponse & {
  readonly created: boolean
  readonly canceled: boolean
  readonly compact_revision: string
  readonly cancel_reason: string
  readonly events: readonly WireEvent[]
}
export type LeaseGrantResponse = HeaderResponse & {
  readonly ID: string
  readonly TTL: string
  readonly error: string
}
export type LeaseTtlResponse = HeaderResponse & { readonly ID: string; readonly TTL: string }
export type WireMember = {
  readonly ID: string
  readonly name: string
  readonly peerURLs: readonly string[]
  readonly clientURLs: readonly string[]
  readonly isLearner: boolean
}
export type MembersResponse = HeaderResponse & { readonly members: readonly WireMember[] }
export type StatusResponse = HeaderResponse & {
  readonly version: string
  readonly leader: string
  readonly dbSize: string
  readonly isLearner: boolean
}

export type Method<Req, Res> = MethodDefinition<Req, Res>

const definitions = loadSync(fileURLToPath(new URL('./etcd.proto', import.meta.url)), {
  keepCase: true,
  longs: String,
  enums: String,
  defaults: true,
  oneofs: true,
})

function method<Req, Res>(service: string, name: string): Method<Req, Res> {
  const found = (definitions[`etcdserverpb.${service}`] as ServiceDefinition | undefined)?.[name]
  if (!found) throw new Error(`etcd.proto has no ${service}.${name}`)
  return found as Method<Req, Res>
}

type Id = { readonly ID: string }

export const methods = {
  range: method<RangeRequest, RangeResponse>('KV', 'Range'),
  txn: method<TxnRequest, TxnResponse>('KV', 'Txn'),
  compact: method<{ readonly revision: number; readonly physical: boolean }, HeaderResponse>('KV', 'Compact'),
  watch: method<WatchRequest, WatchResponse>('Watch', 'Watch'),
  leaseGrant: method<{ readonly TTL: number; readonly ID: string }, LeaseGrantResponse>(
    'Lease',
    'LeaseGrant',
  ),
  leaseRevoke: method<Id, HeaderResponse>('Lease', 'LeaseRevoke'),
  leaseKeepAlive: method<Id, LeaseTtlResponse>('Lease', 'LeaseKeepAlive'),
  leaseTtl: method<Id, LeaseTtlResponse>('Lease', 'LeaseTimeToLive'),
  memberAdd: method<
    { readonly peerURLs: readonly string[]; readonly isLearner: boolean },
    MembersResponse & { readonly member: WireMember }
  >('Cluster', 'MemberAdd'),
  memberRemove: method<Id, MembersResponse>('Cluster', 'MemberRemove'),
  memberUpdate: method<Id & { readonly peerURLs: readonly string[] }, MembersResponse>(
    'Cluster',
    'MemberUpdate',
  ),
  memberList: method<Record<string, never>, MembersResponse>('Cluster', 'MemberList'),
  memberPromote: method<Id, MembersResponse>('Cluster', 'MemberPromote'),
  status: method<Record<string, never>, StatusResponse>('Maintenance', 'Status'),
  moveLeader: method<{ readonly targetID: string }, HeaderResponse>('Maintenance', 'MoveLeader'),
} as const
