// One HTTP exchange over node:http with kept-alive connections. Every component has it in memory: undici, which was
// here before, keeps 12 MB more of each process for a second HTTP parser (test/bench/footprint.ts). Called by
// client.ts, and by those who want an answer of any status.
import {
  type ClientRequest,
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingHttpHeaders,
  type IncomingMessage,
  type RequestOptions as NodeOptions,
} from 'node:http'
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https'
import { Socket } from 'node:net'
import type { Duplex, Readable } from 'node:stream'
import { json, text } from 'node:stream/consumers'
import { pipeline } from 'node:stream/promises'

export const connectTimeoutMs = 2_000
/** An unused connection is closed after this: the host behind an older one may be gone without a word. */
export const keepAliveMs = 4_000
/** Answers from this status on end their connection. */
const refusedStatusMin = 400
/** A body that nobody wants is read up to here to save its connection. */
export const dumpBytesMax = 128 * 1024

/** Connection failures carry a code, as those of the system do. */
export const connectTimeoutCode = 'ERR_CONNECT_TIMEOUT'
const headersTimeoutCode = 'ERR_HEADERS_TIMEOUT'
const idleTimeoutCode = 'ERR_BODY_TIMEOUT'

/** Reads errors of the connection and of the signal; must be read, dumped or destroyed. */
export type ResponseBody = Readable & {
  text(): Promise<string>
  json(): Promise<unknown>
  /** Reads the rest and forgets it. */
  dump(): Promise<void>
}

export type Response = {
  readonly statusCode: number
  readonly headers: IncomingHttpHeaders
  readonly body: ResponseBody
}

/** Opens the connections of an `Agents`; rejects with an error that has a code. */
export type Connect = (url: URL) => Promise<Duplex>

/** Connections that are kept for later requests, by protocol. */
export type Agents = { readonly http: HttpAgent; readonly https: HttpsAgent; close(): void }

export type ExchangeOptions = {
  readonly method?: string
  readonly headers?: Readonly<Record<string, string>>
  readonly body?: Readable | Uint8Array | string | undefined
  readonly signal?: AbortSignal | undefined
  /** From the call to the end of the body; then the call or its body fails with a TimeoutError. None when absent. */
  readonly timeoutMs?: number | undefined
  /** From the call to the answer's head; none when absent. */
  readonly headersTimeoutMs?: number | undefined
  /** The longest silence between two pieces of the body while somebody reads; none when absent. */
  readonly idleTimeoutMs?: number | undefined
  readonly agents?: Agents | undefined
}

function coded(code: string, message: string): Error {
  return Object.assign(new Error(message), { code })
}

/** Agents end an unused connection when its time is over, and take the time that the server names; ours is shorter. */
function limitKept(agent: HttpAgent): void {
  const keep = agent.keepSocketAlive.bind(agent)
  agent.keepSocketAlive = socket => {
    const kept = keep(socket)
    if (socket instanceof Socket) socket.setTimeout(Math.min(socket.timeout || keepAliveMs, keepAliveMs))
    return kept
  }
  const reuse = agent.reuseSocket.bind(agent)
  agent.reuseSocket = (socket, request) => {
    if (socket instanceof Socket) socket.setTimeout(0)
    reuse(socket, request)
  }
}

/** `connect` is used for every new connection; without it they are made to the URL's host. */
export function makeAgents(connect?: Connect): Agents {
  const http = new HttpAgent({ keepAlive: true })
  const https = new HttpsAgent({ keepAlive: true })
  for (const agent of [http, https]) limitKept(agent)
  if (connect) {
    const dial = (protocol: string) => (options: NodeOptions, callback?: Callback) => {
      const host = options.host?.includes(':') ? `[${options.host}]` : options.host
      connect(new URL(`${protocol}//${host}:${options.port}`)).then(
        socket => callback?.(null, socket),
        (e: unknown) => callback?.(e as Error, undefined as never),
      )
      return undefined
    }
    http.createConnection = dial('http:')
    https.createConnection = dial('https:')
  }
  return {
    http,
    https,
    close() {
      http.destroy()
      https.destroy()
    },
  }
}

type Callback = (e: Error | null, socket: Duplex) => void

const sharedAgents = makeAgents()

function toBody(res: IncomingMessage): ResponseBody {
  return Object.assign(res, {
    text: () => text(res),
    json: () => json(res),
    async dump() {
      let bytes = 0
      for await (const chunk of res) {
        bytes += (chunk as Buffer).length
        if (bytes > dumpBytesMax) break
      }
    },
  })
}

function limitConnect(req: ClientRequest, url: URL): void {
  req.once('socket', socket => {
    if (!socket.connecting) return
    const late = () =>
      req.destroy(coded(connectTimeoutCode, `no connection to ${url.host} in ${connectTimeoutMs} ms`))
    const timer = setTimeout(late, connectTimeoutMs)
    const done = () => clearTimeout(timer)
    socket.once('connect', done)
    socket.once('close', done)
  })
}

function limitSilence(req: ClientRequest, res: IncomingMessage, idleTimeoutMs: number): void {
  req.setTimeout(idleTimeoutMs)
  req.on('timeout', () => {
    // A reader who takes his time has stopped the flow himself.
    if (res.readableLength > 0) res.socket.setTimeout(idleTimeoutMs)
    else res.destroy(coded(idleTimeoutCode, `nothing came for ${idleTimeoutMs} ms`))
  })
}

function send(req: ClientRequest, body: ExchangeOptions['body'], failed: (e: unknown) => void): void {
  if (body === undefined || typeof body === 'string' || body instanceof Uint8Array) req.end(body)
  else pipeline(body, req).catch(failed)
}

/** Resolves with the answer's head, whatever its status. Rejects with a coded error or the signal's reason. */
export function exchange(url: URL, options: ExchangeOptions = {}): Promise<Response> {
  const { signal, timeoutMs, idleTimeoutMs } = options
  const agents = options.agents ?? sharedAgents
  return new Promise((resolve, reject) => {
    signal?.throwIfAborted()
    const streamed = typeof options.body === 'object' && !(options.body instanceof Uint8Array)
    const headers = {
      ...options.headers,
      // Node frames the streamed body of a DELETE only when told to.
      ...(streamed && options.headers?.['content-length'] === undefined
        ? { 'transfer-encoding': 'chunked' }
        : {}),
    }
    const method = options.method ?? 'GET'
    const req =
      url.protocol === 'https:'
        ? httpsRequest(url, { method, headers, agent: agents.https })
        : httpRequest(url, { method, headers, agent: agents.http })
    let answer: IncomingMessage | undefined
    const giveUp = (reason: unknown) => {
      // At once: a socket that somebody else is still opening does not hold up who has given up.
      reject(reason)
      ;(answer ?? req).destroy(reason as Error)
    }
    const abort = () => giveUp(signal?.reason)
    signal?.addEventListener('abort', abort, { once: true })
    // A timer that is taken back: that of an AbortSignal would fire later, for every request that was answered long ago.
    const tooLong = () =>
      giveUp(new DOMException(`no answer from ${url.host} in ${timeoutMs} ms`, 'TimeoutError'))
    const end = timeoutMs === undefined ? undefined : setTimeout(tooLong, timeoutMs)
    const over = () => {
      clearTimeout(end)
      signal?.removeEventListener('abort', abort)
    }
    const limit = options.headersTimeoutMs
    const late = () => req.destroy(coded(headersTimeoutCode, `no answer from ${url.host} in ${limit} ms`))
    const timer = limit === undefined ? undefined : setTimeout(late, limit)
    limitConnect(req, url)
    // Also after the answer: its body tells then, and nobody listens here.
    req.on('error', e => {
      clearTimeout(timer)
      if (answer === undefined) over()
      reject(e)
    })
    req.once('response', res => {
      answer = res
      clearTimeout(timer)
      // Whoever refuses may not be who is meant: after a power cut addresses belong to others, and a connection that is
      // used again and again would never let the name be looked up anew.
      if ((res.statusCode ?? 0) >= refusedStatusMin) req.shouldKeepAlive = false
      res.once('close', over)
      // Without a listener a broken body would forget why it broke before somebody reads it.
      res.on('error', () => undefined)
      if (idleTimeoutMs !== undefined) limitSilence(req, res, idleTimeoutMs)
      resolve({ statusCode: res.statusCode ?? 0, headers: res.headers, body: toBody(res) })
    })
    send(req, options.body, reject)
  })
}
