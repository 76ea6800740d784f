// What a call to containerd can end in, reduced to the cases that callers act on.
import { status as grpcStatus, type ServiceError } from '@grpc/grpc-js'

export type ContainerdFailure =
  | 'not-found'
  | 'exists'
  | 'precondition'
  /** Nobody answers on the socket, or the connection broke: the call may or may not have had an effect. */
  | 'unavailable'
  | 'deadline'
  | 'aborted'
  | 'other'

const failures: Readonly<Partial<Record<number, ContainerdFailure>>> = {
  [grpcStatus.NOT_FOUND]: 'not-found',
  [grpcStatus.ALREADY_EXISTS]: 'exists',
  [grpcStatus.FAILED_PRECONDITION]: 'precondition',
  [grpcStatus.UNAVAILABLE]: 'unavailable',
  [grpcStatus.DEADLINE_EXCEEDED]: 'deadline',
  [grpcStatus.CANCELLED]: 'aborted',
}

export class ContainerdError extends Error {
  readonly failure: ContainerdFailure
  readonly call: string

  constructor(call: string, failure: ContainerdFailure, message: string, cause?: unknown) {
    super(`containerd ${call}: ${message}`, { cause })
    this.name = 'ContainerdError'
    this.failure = failure
    this.call = call
  }
}

export function fromServiceError(call: string, e: ServiceError): ContainerdError {
  return new ContainerdError(call, failures[e.code] ?? 'other', e.details || e.message, e)
}

export function isContainerdError(
  e: unknown,
  ...failure: readonly ContainerdFailure[]
): e is ContainerdError {
  return e instanceof ContainerdError && (failure.length === 0 || failure.includes(e.failure))
}
