// What can go wrong with etcd, as codes callers can tell apart. `UNAVAILABLE` is the only one worth trying again.
import { status as grpcStatus, type ServiceError } from '@grpc/grpc-js'
import { errorTable, type FlynnError } from '../errors/errors.ts'

export const etcdErrors = errorTable({
  ETCD_UNAVAILABLE: {
    status: 503,
    message: 'etcd did not answer within {ms} ms: {detail}',
    remedy: 'check that a majority of the discoverd peers is up',
    retry: true,
  },
  ETCD_LEASE_NOT_FOUND: { status: 404, message: 'the etcd lease has expired or was revoked' },
  ETCD_LEASE_EXISTS: { status: 409, message: 'an etcd lease with this id exists already' },
  ETCD_COMPACTED: { status: 410, message: 'the etcd revision asked for has been compacted' },
  ETCD_FULL: {
    status: 507,
    message: 'the etcd database has reached its quota',
    remedy: 'compact and defragment etcd, then disarm its NOSPACE alarm',
  },
  ETCD_REFUSED: { status: 500, message: 'etcd refused {method}: {detail}' },
  ETCD_CLOSED: { status: 503, message: 'the etcd client is closed' },
})

export function isServiceError(e: unknown): e is ServiceError {
  return e instanceof Error && 'code' in e && typeof e.code === 'number' && 'details' in e
}

/**
 * Passing states of a member that it reports without a code of their own; its own deadline, passed on from ours, may
 * beat ours by a hair (seen in one of three runs without a majority).
 */
const passing =
  /no leader|leader changed|timed out|context deadline exceeded|context canceled|proposal dropped|raft: stopped|server stopped/

/** True when another attempt, at this or another member, may succeed. */
export function isTransient(e: ServiceError): boolean {
  switch (e.code) {
    case grpcStatus.UNAVAILABLE:
    case grpcStatus.DEADLINE_EXCEEDED:
    case grpcStatus.CANCELLED:
      return true
    case grpcStatus.RESOURCE_EXHAUSTED:
      // The second is what grpc-js makes of a connection that the server ended for too many pings, as after a freeze.
      return /too many requests|Bandwidth exhausted/.test(e.details)
    default:
      return passing.test(e.details)
  }
}

/** A definite answer of etcd as an error of ours. */
export function fromServiceError(method: string, e: ServiceError): FlynnError {
  const cause = { cause: e }
  if (/lease not found/.test(e.details)) return etcdErrors.ETCD_LEASE_NOT_FOUND({}, cause)
  if (/lease already exists/.test(e.details)) return etcdErrors.ETCD_LEASE_EXISTS({}, cause)
  if (/compacted/.test(e.details)) return etcdErrors.ETCD_COMPACTED({}, cause)
  if (/space exceeded/.test(e.details)) return etcdErrors.ETCD_FULL({}, cause)
  return etcdErrors.ETCD_REFUSED({ method, detail: e.details }, cause)
}
