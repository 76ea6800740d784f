// Connections to the members of an etcd cluster, and the one way to call them: short deadlines, next member on failure,
// a total deadline over all attempts. Only idempotent or transaction-guarded calls may ask for more than one attempt.
import {
  type ClientDuplexStream,
  type ClientOptions,
  credentials,
  Client as GrpcClient,
  Metadata,
} from '@grpc/grpc-js'
import { sleep } from '../clock/clock.ts'
import { invariant } from '../errors/errors.ts'
import { etcdErrors, fromServiceError, isServiceError, isTransient } from './errors.ts'
import type { Method } from './wire.ts'

/** First attempts end after this; a live leader answers in a few. Doubled after each round of attempts that ran into it. */
export const attemptTimeoutMs = 300
export const attemptTimeoutMaxMs = 5_000
export const totalTimeoutMs = 10_000
export const retryPauseMs = 30
/** After a failure elsewhere the first (nearest) member is tried again this much later. */
export const preferFirstAfterMs = 5_000

// Dead peers show within two seconds. etcd must run with --grpc-keepalive-min-time 500ms, and pings without calls stay
// off, or it hangs up with "excess pings" (both measured).
const channelOptions: ClientOptions = {
  'grpc.keepalive_time_ms': 1_000,
  'grpc.keepalive_timeout_ms': 1_000,
  'grpc.keepalive_permit_without_calls': 0,
  'grpc.initial_reconnect_backoff_ms': 50,
  'grpc.min_reconnect_backoff_ms': 50,
  'grpc.max_reconnect_backoff_ms': 500,
  'grpc.use_local_subchannel_pool': 1,
  'grpc.enable_http_proxy': 0,
  'grpc.max_receive_message_length': 256 * 1024 * 1024,
}

export type EtcdCallOptions = {
  /** Over all attempts. */
  readonly timeoutMs?: number | undefined
  readonly signal?: AbortSignal | undefined
  /** An attempt got no answer and may have been carried out all the same; the next one follows. */
  readonly onLost?: () => void
}

/** Failures after which no member can have seen the call; the error's detail says `maybeSent: false` then. */
const neverSent = /No connection established|Waiting for LB pick|ECONNREFUSED|etcdserver: no leader/

/** Sent with what only a leader can carry out: a member that knows of none says so at once instead of holding the call. */
function leaderMetadata(path: string): Metadata {
  const metadata = new Metadata()
  if (/\.(KV|Lease|Watch)\//.test(path)) metadata.set('hasleader', 'true')
  return metadata
}

type Attempt<Res> = (client: GrpcClient, deadline: Date, signal: AbortSignal | undefined) => Promise<Res>

export class Channels {
  #endpoints: readonly string[]
  readonly #clients = new Map<string, GrpcClient>()
  #current = 0
  #rotatedAt = 0
  #closed = false

  constructor(endpoints: readonly string[]) {
    invariant(endpoints.length > 0, 'etcd_endpoints_empty')
    this.#endpoints = endpoints
  }

  get endpoints(): readonly string[] {
    return this.#endpoints
  }

  /** Replaces the member addresses; connections to addresses that stay are kept. */
  setEndpoints(endpoints: readonly string[]): void {
    invariant(endpoints.length > 0, 'etcd_endpoints_empty')
    const used = this.#endpoints[this.#current]
    this.#endpoints = endpoints
    this.#current = Math.max(0, used === undefined ? 0 : endpoints.indexOf(used))
    for (const [endpoint, client] of this.#clients) {
      if (endpoints.includes(endpoint)) continue
      client.close()
      this.#clients.delete(endpoint)
    }
  }

  /** The member that calls go to now. */
  choose(): string {
    if (this.#current !== 0 && performance.now() - this.#rotatedAt > preferFirstAfterMs) this.#current = 0
    return this.#endpoints[this.#current] as string
  }

  /** Takes note that a member failed; the next call goes to the next one. */
  failed(endpoint: string): void {
    if (this.#endpoints[this.#current] !== endpoint) return
    this.#current = (this.#current + 1) % this.#endpoints.length
    this.#rotatedAt = performance.now()
  }

  #client(endpoint: string): GrpcClient {
    if (this.#closed) throw etcdErrors.ETCD_CLOSED()
    let client = this.#clients.get(endpoint)
    if (!client) {
      client = new GrpcClient(endpoint, credentials.createInsecure(), channelOptions)
      this.#clients.set(endpoint, client)
    }
    return client
  }

  /** One unary call, tried on member after member until the total deadline. */
  call<Req, Res>(
    method: Method<Req, Res>,
    req: Req,
    options: EtcdCallOptions & { readonly attempts?: number } = {},
  ): Promise<Res> {
    return this.#retry(method.path, options, (client, deadline, signal) =>
      unary(client, method, req, deadline, signal),
    )
  }

  /** One request and its answer over a streaming method (lease keep-alive). */
  exchange<Req, Res>(method: Method<Req, Res>, req: Req, options: EtcdCallOptions = {}): Promise<Res> {
    return this.#retry(method.path, options, (client, deadline, signal) =>
      oneExchange(client, method, req, deadline, signal),
    )
  }

  /** One call to one given member: no retry. */
  async callMember<Req, Res>(
    endpoint: string,
    method: Method<Req, Res>,
    req: Req,
    timeoutMs: number,
  ): Promise<Res> {
    try {
      return await unary(this.#client(endpoint), method, req, new Date(Date.now() + timeoutMs), undefined)
    } catch (e) {
      if (!isServiceError(e)) throw e
      if (isTransient(e))
        throw etcdErrors.ETCD_UNAVAILABLE({ ms: timeoutMs, detail: e.details }, { cause: e })
      throw fromServiceError(method.path, e)
    }
  }

  async #retry<Res>(
    name: string,
    options: EtcdCallOptions & { readonly attempts?: number },
    attempt: Attempt<Res>,
  ): Promise<Res> {
    const ms = options.timeoutMs ?? totalTimeoutMs
    const end = Date.now() + ms
    let maybeSent = false
    let late = 0
    for (let n = 0; ; n++) {
      options.signal?.throwIfAborted()
      const endpoint = this.choose()
      const grown = attemptTimeoutMs * 2 ** Math.floor(late / this.#endpoints.length)
      const perAttemptMs = options.attempts === 1 ? ms : Math.min(grown, attemptTimeoutMaxMs)
      const deadline = new Date(Math.min(end, Date.now() + perAttemptMs))
      try {
        return await attempt(this.#client(endpoint), deadline, options.signal)
      } catch (e) {
        options.signal?.throwIfAborted()
        if (!isServiceError(e)) throw e
        if (!isTransient(e)) throw fromServiceError(name, e)
        this.failed(endpoint)
        if (Date.now() >= deadline.getTime()) late++
        if (!neverSent.test(e.details)) {
          maybeSent = true
          options.onLost?.()
        }
        if (n + 1 === options.attempts || Date.now() + retryPauseMs >= end)
          throw etcdErrors.ETCD_UNAVAILABLE({ ms, detail: e.details }, { cause: e, detail: { maybeSent } })
        await sleep(n < this.#endpoints.length ? 5 : retryPauseMs, options.signal)
      }
    }
  }

  /** Opens a long-lived stream on a member; it fails soon when that member has no leader. */
  stream<Req, Res>(endpoint: string, method: Method<Req, Res>): ClientDuplexStream<Req, Res> {
    return this.#client(endpoint).makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      leaderMetadata(method.path),
    )
  }

  close(): void {
    this.#closed = true
    for (const client of this.#clients.values()) client.close()
    this.#clients.clear()
  }
}

function unary<Req, Res>(
  client: GrpcClient,
  method: Method<Req, Res>,
  req: Req,
  deadline: Date,
  signal: AbortSignal | undefined,
): Promise<Res> {
  return new Promise((resolve, reject) => {
    const call = client.makeUnaryRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      req,
      leaderMetadata(method.path),
      { deadline },
      (e, res) => {
        signal?.removeEventListener('abort', cancel)
        if (e) reject(e)
        else resolve(res as Res)
      },
    )
    const cancel = () => call.cancel()
    signal?.addEventListener('abort', cancel, { once: true })
  })
}

function oneExchange<Req, Res>(
  client: GrpcClient,
  method: Method<Req, Res>,
  req: Req,
  deadline: Date,
  signal: AbortSignal | undefined,
): Promise<Res> {
  return new Promise((resolve, reject) => {
    const stream = client.makeBidiStreamRequest(
      method.path,
      method.requestSerialize,
      method.responseDeserialize,
      leaderMetadata(method.path),
      { deadline },
    )
    const cancel = () => stream.cancel()
    signal?.addEventListener('abort', cancel, { once: true })
    let answered = false
    stream.on('data', (res: Res) => {
      answered = true
      signal?.removeEventListener('abort', cancel)
      resolve(res)
      stream.end()
    })
    // After the answer the stream's end is of no interest; before it, an end without error is one too.
    stream.on('error', (e: Error) => {
      if (!answered) reject(e)
    })
    stream.on('end', () => {
      if (!answered)
        reject(
          Object.assign(new Error('stream ended'), { code: 14, details: 'stream ended without an answer' }),
        )
    })
    stream.write(req)
  })
}
