// The HTTP client between our components: JSON in and out, exactly 200 is success, errors come back as FlynnError
// with the server's code, `retry: true` answers and refused connections are tried again until a deadline.

import type { Readable } from 'node:stream'
import { backoff, sleep } from '../clock/clock.ts'
import { type ErrorBody, FlynnError } from '../errors/errors.ts'
import { readSse } from '../sse/sse.ts'
import { type Agents, connectTimeoutCode, exchange, type Response } from './request.ts'

export const requestTimeoutMs = 10_000
export const retryTimeoutMs = 10_000
/** A stream that is silent for longer than this is dead: servers of ours send a keep-alive every 30 s. */
export const streamIdleTimeoutMs = 75_000
/** A subscription is answered at once. */
export const streamOpenTimeoutMs = 5_000
/** Error bodies longer than this are cut. */
export const errorBodyBytesMax = 64 * 1024

export type Auth =
  | { readonly basicPassword: string }
  | { readonly authKey: string }
  | { readonly bearer: string }

export type ClientOptions = {
  /** Base URL without a trailing slash; a function when it may change (leader moved, instance chosen anew). */
  readonly url: string | (() => string | Promise<string>)
  readonly auth?: Auth | undefined
  /** Connections of its own; those that all clients share when absent. */
  readonly agents?: Agents | undefined
  readonly headers?: Readonly<Record<string, string>>
  /** For requests that name none themselves. */
  readonly retryMs?: number
}

export type RequestOptions = {
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>
  readonly json?: unknown
  readonly body?: Readable | Uint8Array | string
  readonly headers?: Readonly<Record<string, string>>
  /** For one attempt: connection, headers and body. */
  readonly timeoutMs?: number
  /** How long connection errors and `retry: true` answers are tried again; 0 for a single attempt. */
  readonly retryMs?: number
  readonly signal?: AbortSignal | undefined
  /** Until the answer's head, for streams, which have no `timeoutMs`. */
  readonly headersTimeoutMs?: number
  /** The longest silence between two pieces of the body; no limit when absent. */
  readonly idleTimeoutMs?: number
}

const retryable = new Set([
  'ECONNREFUSED',
  'ECONNRESET',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'EAI_AGAIN',
  'EPIPE',
  connectTimeoutCode,
])

function errorCode(e: unknown): string | undefined {
  return e instanceof Error && 'code' in e && typeof e.code === 'string' ? e.code : undefined
}

function canRetry(e: unknown): boolean {
  return e instanceof FlynnError ? e.retry : retryable.has(errorCode(e) ?? '')
}

async function toError(res: Response, what: string): Promise<FlynnError> {
  let text = ''
  for await (const chunk of res.body) {
    text += String(chunk)
    if (text.length > errorBodyBytesMax) break
  }
  try {
    const body = JSON.parse(text) as Partial<ErrorBody>
    if (typeof body.code === 'string' && typeof body.message === 'string') {
      const { code, message, remedy, retry, detail } = body
      return new FlynnError({ code, status: res.statusCode, message, remedy, retry, detail })
    }
  } catch {
    // Not JSON: a plain 404 or a proxy's page. The status says enough.
  }
  const code =
    res.statusCode === 404 ? 'not_found' : res.statusCode === 401 ? 'unauthorized' : 'unknown_error'
  return new FlynnError({
    code,
    status: res.statusCode,
    message: `${what}: HTTP ${res.statusCode}${text ? ` ${text.trim().slice(0, 200)}` : ''}`,
    retry: res.statusCode === 503,
  })
}

function authHeaders(auth: Auth | undefined): Record<string, string> {
  if (!auth) return {}
  if ('authKey' in auth) return { 'auth-key': auth.authKey }
  if ('bearer' in auth) return { authorization: `Bearer ${auth.bearer}` }
  return { authorization: `Basic ${Buffer.from(`:${auth.basicPassword}`).toString('base64')}` }
}

export class HttpClient {
  readonly #options: ClientOptions
  constructor(options: ClientOptions) {
    this.#options = options
  }

  /** One exchange; the caller reads or dumps the body. Rejects with FlynnError unless the status is 200. */
  async raw(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const end = Date.now() + (options.retryMs ?? this.#options.retryMs ?? retryTimeoutMs)
    const delays = backoff({ minMs: 50, maxMs: 500 })
    for (;;) {
      try {
        return await this.#once(method, path, options)
      } catch (e) {
        options.signal?.throwIfAborted()
        const streaming =
          options.body !== undefined &&
          typeof options.body === 'object' &&
          !(options.body instanceof Uint8Array)
        if (streaming || !canRetry(e) || Date.now() >= end) throw e
        await sleep(delays.next(), options.signal)
      }
    }
  }

  async #once(method: string, path: string, options: RequestOptions): Promise<Response> {
    const base = typeof this.#options.url === 'string' ? this.#options.url : await this.#options.url()
    const url = new URL(`${base}${path}`)
    for (const [k, v] of Object.entries(options.query ?? {}))
      if (v !== undefined) url.searchParams.set(k, String(v))
    const timeoutMs = options.timeoutMs ?? requestTimeoutMs
    const res = await exchange(url, {
      method,
      agents: this.#options.agents,
      headers: {
        accept: 'application/json',
        'content-type': 'application/json',
        ...authHeaders(this.#options.auth),
        ...this.#options.headers,
        ...options.headers,
      },
      timeoutMs: timeoutMs > 0 ? timeoutMs : undefined,
      headersTimeoutMs: options.headersTimeoutMs,
      idleTimeoutMs: options.idleTimeoutMs,
      body: options.json === undefined ? options.body : JSON.stringify(options.json),
      signal: options.signal,
    })
    if (res.statusCode === 200) return res
    throw await toError(res, `${method} ${url.pathname}`)
  }

  /** JSON in, JSON out; an empty body gives undefined. */
  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const res = await this.raw(method, path, options)
    const text = await res.body.text()
    return (text === '' ? undefined : JSON.parse(text)) as T
  }

  get<T>(path: string, options?: RequestOptions): Promise<T> {
    return this.json('GET', path, options)
  }
  put<T>(path: string, json?: unknown, options?: RequestOptions): Promise<T> {
    return this.json('PUT', path, json === undefined ? options : { ...options, json })
  }
  post<T>(path: string, json?: unknown, options?: RequestOptions): Promise<T> {
    return this.json('POST', path, json === undefined ? options : { ...options, json })
  }
  delete<T>(path: string, options?: RequestOptions): Promise<T> {
    return this.json('DELETE', path, options)
  }

  /**
   * Events of a stream, parsed; ends when the server closes. An `error` event becomes a FlynnError. `onOpen` is called
   * when the server has accepted the subscription: what happens after that is in the stream.
   */
  async *events<T>(
    path: string,
    options: RequestOptions & { readonly onOpen?: () => void; readonly method?: 'GET' | 'POST' } = {},
  ): AsyncGenerator<{ readonly value: T; readonly id?: string }> {
    const { onOpen, method = 'GET', ...rest } = options
    const res = await this.raw(method, path, {
      // Whoever has an address now may not be who had it before the power went, and may keep silent for ever.
      headersTimeoutMs: streamOpenTimeoutMs,
      idleTimeoutMs: streamIdleTimeoutMs,
      ...rest,
      timeoutMs: 0,
      headers: { ...rest.headers, accept: 'text/event-stream' },
    })
    onOpen?.()
    for await (const message of readSse(res.body)) {
      if (message.event === 'error')
        throw new FlynnError({ code: 'stream_error', status: 500, message: message.data })
      yield { value: JSON.parse(message.data) as T, ...(message.id === undefined ? {} : { id: message.id }) }
    }
  }
}
