// A lease kept alive for as long as its owner lives. Each keep-alive has its own deadline, and one that fails is repeated on
// whichever member answers, so a frozen member costs a fraction of a second, not the lease.
import { randomBytes } from 'node:crypto'
import { sleep } from '../clock/clock.ts'
import { isFlynnError } from '../errors/errors.ts'
import type { Logger } from '../log/log.ts'
import { attemptTimeoutMs, type Channels, type EtcdCallOptions } from './channels.ts'
import { type LeaseTtlResponse, methods } from './wire.ts'

/** Keep-alives sent in one lifetime of a lease. */
export const keepAlivesPerTtl = 4

export type Lease = {
  readonly id: string
  readonly ttlMs: number
  /** Resolves when etcd says that the lease is gone; everything that hung on it is gone then, too. */
  readonly lost: Promise<void>
  /** Asks etcd now; false means lost. */
  check(): Promise<boolean>
  /** Ends the keep-alives and leaves the lease to its TTL. */
  release(): Promise<void>
  /** Ends the lease and all that hangs on it at once. */
  revoke(options?: EtcdCallOptions): Promise<void>
}

/** A positive 63-bit id; chosen here so that granting may be tried again. */
function newLeaseId(): string {
  return (randomBytes(8).readBigUInt64BE() >> 1n || 1n).toString()
}

/** Grants a lease; `ttlMs` in whole seconds. */
export async function grantLease(
  channels: Channels,
  ttlMs: number,
  options: EtcdCallOptions & { readonly log?: Logger | undefined } = {},
): Promise<Lease> {
  const id = newLeaseId()
  try {
    await channels.call(methods.leaseGrant, { TTL: ttlMs / 1_000, ID: id }, options)
  } catch (e) {
    // Our own id, so it was an earlier attempt of ours whose answer got lost.
    if (!isFlynnError(e, 'etcd_lease_exists')) throw e
  }
  return keepLease(channels, id, ttlMs, options.log)
}

/** Takes up a lease granted earlier; undefined when it is gone. */
export async function adoptLease(
  channels: Channels,
  id: string,
  ttlMs: number,
  options: EtcdCallOptions & { readonly log?: Logger | undefined } = {},
): Promise<Lease | undefined> {
  const answer = await channels.exchange(methods.leaseKeepAlive, { ID: id }, options)
  return Number(answer.TTL) > 0 ? keepLease(channels, id, ttlMs, options.log) : undefined
}

/** Ends a lease by id; one that is gone already is as good. */
export async function revokeLease(
  channels: Channels,
  id: string,
  options: EtcdCallOptions = {},
): Promise<void> {
  try {
    await channels.call(methods.leaseRevoke, { ID: id }, options)
  } catch (e) {
    if (!isFlynnError(e, 'etcd_lease_not_found')) throw e
  }
}

/** Keep-alives of one lease, one after the other over one stream: a stream for each was most of what they cost etcd. */
class KeepAlives {
  readonly #channels: Channels
  readonly #id: string
  #open: { readonly endpoint: string; readonly stream: ReturnType<typeof openKeepAlives> } | undefined
  #waiting: PromiseWithResolvers<LeaseTtlResponse> | undefined

  constructor(channels: Channels, id: string) {
    this.#channels = channels
    this.#id = id
  }

  /** Answers the seconds left, 0 for a lease that is gone. Rejects when the member does not answer soon; the next one is tried then. */
  async send(): Promise<number> {
    const endpoint = this.#channels.choose()
    if (this.#open?.endpoint !== endpoint) this.#reopen(endpoint)
    const waiting = Promise.withResolvers<LeaseTtlResponse>()
    this.#waiting = waiting
    const timer = setTimeout(() => waiting.reject(new Error('no answer in time')), attemptTimeoutMs)
    try {
      this.#open?.stream.write({ ID: this.#id })
      return Number((await waiting.promise).TTL)
    } catch (e) {
      this.close()
      this.#channels.failed(endpoint)
      throw e
    } finally {
      clearTimeout(timer)
    }
  }

  close(): void {
    this.#open?.stream.cancel()
    this.#open = undefined
  }

  #reopen(endpoint: string): void {
    this.close()
    const stream = openKeepAlives(this.#channels, endpoint)
    this.#open = { endpoint, stream }
    const over = (e: unknown) => {
      if (this.#open?.stream !== stream) return
      this.#open = undefined
      this.#waiting?.reject(e)
    }
    stream.on('data', (answer: LeaseTtlResponse) => {
      if (this.#open?.stream === stream) this.#waiting?.resolve(answer)
    })
    stream.on('error', over)
    stream.on('end', () => over(new Error('the stream ended')))
  }
}

function openKeepAlives(channels: Channels, endpoint: string) {
  return channels.stream(endpoint, methods.leaseKeepAlive)
}

function keepLease(channels: Channels, id: string, ttlMs: number, log: Logger | undefined): Lease {
  const stop = new AbortController()
  let markLost: () => void = () => undefined
  const lost = new Promise<void>(resolve => {
    markLost = resolve
  })
  const isLeft = (seconds: number) => {
    if (seconds > 0) return true
    log?.warn({ lease: id }, 'lease lost')
    markLost()
    return false
  }
  const check = async () => {
    const options = { timeoutMs: ttlMs, signal: stop.signal }
    return isLeft(Number((await channels.exchange(methods.leaseKeepAlive, { ID: id }, options)).TTL))
  }
  const keepAlives = new KeepAlives(channels, id)
  const keep = async () => {
    while (!stop.signal.aborted) {
      try {
        await sleep(ttlMs / keepAlivesPerTtl, stop.signal)
        const seconds = await keepAlives.send().catch((err: unknown) => {
          // Repeated by way of the others at once; that fails loudly.
          log?.debug({ lease: id, err }, 'lease keep-alive unanswered')
          return undefined
        })
        if (!(seconds === undefined ? await check() : isLeft(seconds))) return
      } catch (e) {
        if (stop.signal.aborted) return
        // No majority answers. Leases do not run out while nobody leads, so only an answer can tell that it is lost.
        log?.warn({ lease: id, err: e }, 'lease keep-alive failed')
      }
    }
  }
  const keeping = keep().finally(() => keepAlives.close())
  const release = async () => {
    stop.abort()
    await keeping
  }
  return {
    id,
    ttlMs,
    lost,
    check,
    release,
    async revoke(options = {}) {
      await release()
      await revokeLease(channels, id, options)
    },
  }
}
