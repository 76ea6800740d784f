// The fastify factory that every HTTP surface of ours is made with: error table, authentication, request log, plain
// 404, redirects of untidy paths, `/.well-known/status`, metrics, ordered close. Contracts host.md 0.2, controller.md 1.5-1.7.
import { timingSafeEqual } from 'node:crypto'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import {
  type FastifyError,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
  type FastifySchemaCompiler,
  type FastifyServerOptions,
  fastify,
  LogController,
} from 'fastify'
import type { TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Value } from 'typebox/value'
import { describeError, errorTable, FlynnError, toErrorBody } from '../errors/errors.ts'
import { uuid } from '../ids/ids.ts'
import type { Logger } from '../log/log.ts'
import { type SseWriter, sseWriter } from '../sse/sse.ts'
import type { IncomingMessage, RawServerDefault, ServerResponse } from './types.ts'

/** JSON bodies longer than this are refused; streamed uploads have limits of their own. */
export const bodyBytesMax = 4 * 1024 * 1024
export const keepAliveTimeoutMs = 180_000
/** Of a refused body so much is read and thrown away, so that its sender comes to read the answer. */
export const refusedBodyBytesMax = 64 * 1024 * 1024

export const httpErrors = errorTable({
  SYNTAX_ERROR: {
    status: 400,
    message: 'The provided JSON input is invalid',
    remedy: 'send one well-formed JSON document',
  },
  CONTENT_TYPE: {
    code: 'validation_error',
    status: 400,
    message: 'Content-Type must be application/json',
    remedy: 'add the header Content-Type: application/json',
  },
  VALIDATION_ERROR: { status: 400, message: '{field} {text}' },
  REQUEST_BODY_TOO_BIG: {
    status: 400,
    message: 'The request body is larger than {max} bytes',
    remedy: 'send a smaller document',
  },
  BAD_URL: {
    code: 'validation_error',
    status: 400,
    message: 'the path of the request is malformed or too long',
    remedy: 'encode what is not plain text in it, and check the ids',
  },
  UNAUTHORIZED: {
    status: 401,
    message: 'authentication required',
    remedy: 'send the key in the Auth-Key header or as the Basic password',
  },
  UNKNOWN_ERROR: { status: 500, message: 'Something went wrong' },
  SERVICE_UNAVAILABLE: { status: 503, message: '{what} is shutting down', retry: true },
})

export type Server = FastifyInstance<
  RawServerDefault,
  IncomingMessage,
  ServerResponse,
  Logger,
  TypeBoxTypeProvider
>

export type HttpdOptions = {
  readonly log: Logger
  readonly name: string
  /** Accepted keys; a function when they change. No authentication when absent. */
  readonly authKeys?: (() => readonly string[]) | undefined
  /** Requests that need no key. `/.well-known/status` and `/ping` are for the component to exempt. */
  readonly authExempt?: (req: FastifyRequest) => boolean
  /** What a 401 carries: the controller's contract wants an empty body. */
  readonly unauthorized?: 'empty' | 'json'
  /** Realm for WWW-Authenticate; no such header when absent. */
  readonly realm?: string
  readonly bodyBytesMax?: number
  /** `GET /.well-known/status`; throw to be unhealthy. Absent: the component defines the route itself. */
  readonly status?: () => unknown | Promise<unknown>
}

function sameKey(given: string, accepted: string): boolean {
  const a = Buffer.from(given)
  const b = Buffer.from(accepted)
  return a.length === b.length && timingSafeEqual(a, b)
}

/** The key a request carries: `Auth-Key`, or the Basic password. */
export function requestKey(req: { readonly headers: IncomingMessage['headers'] }): string | undefined {
  const header = req.headers['auth-key']
  if (typeof header === 'string' && header !== '') return header
  const basic = /^Basic\s+(.+)$/i.exec(req.headers.authorization ?? '')?.[1]
  if (basic === undefined) return undefined
  const text = Buffer.from(basic, 'base64').toString()
  return text.slice(text.indexOf(':') + 1)
}

/** Constant-time membership; every key is compared so that the time tells nothing. */
export function acceptsKey(given: string | undefined, keys: readonly string[]): boolean {
  let found = false
  for (const key of keys) if (given !== undefined && key !== '' && sameKey(given, key)) found = true
  return found
}

/** What a thrown value becomes on the wire: FlynnError as it is, validation as 400, the rest as a mute 500. */
export function toHttpError(e: unknown, bodyMax: number): FlynnError {
  if (e instanceof FlynnError) return e
  const f = e as Partial<FastifyError>
  if (f.code === 'FST_ERR_CTP_BODY_TOO_LARGE') return httpErrors.REQUEST_BODY_TOO_BIG({ max: bodyMax })
  if (f.code === 'FST_ERR_CTP_INVALID_MEDIA_TYPE') return httpErrors.CONTENT_TYPE()
  if (
    f.code === 'FST_ERR_CTP_EMPTY_JSON_BODY' ||
    f.code === 'FST_ERR_CTP_INVALID_JSON_BODY' ||
    e instanceof SyntaxError
  )
    return httpErrors.SYNTAX_ERROR({}, { cause: e })
  const first = f.validation?.[0]
  if (first) {
    const missing = (first.params as { requiredProperties?: string[] })?.requiredProperties?.[0]
    const field =
      [...first.instancePath.split('/').filter(Boolean), ...(missing ? [missing] : [])].join('.') || 'body'
    return httpErrors.VALIDATION_ERROR(
      { field, text: missing ? 'is required' : (first.message ?? 'is invalid') },
      { detail: { field } },
    )
  }
  return httpErrors.UNKNOWN_ERROR({}, { cause: e })
}

/** The registered form of an untidy path (trailing slash, `//`, dots), or undefined when it is tidy already. */
export function tidyPath(path: string): string | undefined {
  const tidy = path
    .replaceAll(/\/{2,}/g, '/')
    .replaceAll(/\/\.(?=\/|$)/g, '')
    .replace(/(.)\/+$/, '$1')
  return tidy === path || tidy === '' ? undefined : tidy
}

function notFound(req: FastifyRequest, reply: FastifyReply): void {
  const [path = '', query] = req.url.split('?')
  const tidy = tidyPath(path)
  if (tidy !== undefined) {
    void reply
      .code(req.method === 'GET' ? 301 : 307)
      .header('location', query === undefined ? tidy : `${tidy}?${query}`)
      .send()
    return
  }
  void reply.code(404).type('text/plain; charset=utf-8').send('404 page not found\n')
}

/**
 * Lets the client send the rest of a body that was refused. To close at once, as fastify would, is to reset the
 * connection under a client that still writes: it loses the answer that names its mistake.
 */
function readAway(req: FastifyRequest, reply: FastifyReply): void {
  void reply.removeHeader('connection')
  let left = refusedBodyBytesMax
  req.raw.on('data', (chunk: Buffer) => {
    left -= chunk.length
    if (left < 0) req.raw.destroy()
  })
}

/** Bodies are what they say they are; what comes in a URL or a header is text, and becomes what the schema wants. */
const validator: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const compiled = Compile(schema)
  return data => {
    const value = httpPart === 'body' ? data : Value.Convert(schema, data)
    return compiled.Check(value) ? { value } : { error: compiled.Errors(value) }
  }
}

type CompilersFactory = NonNullable<NonNullable<FastifyServerOptions['schemaController']>['compilersFactory']>

/**
 * Both are given from the start, and so fastify does not load those of its own, which are a third of it and stay
 * unused: 2 MB of each process.
 */
const compilersFactory: CompilersFactory = {
  // Its type is that of fastify's own.
  buildValidator: (() => validator) as unknown as NonNullable<CompilersFactory['buildValidator']>,
  buildSerializer: () => () => (data: unknown) => JSON.stringify(data),
}

/** A fastify server with our conventions; the caller adds routes and calls `listen`. */
export function httpd(options: HttpdOptions): Server {
  const bodyMax = options.bodyBytesMax ?? bodyBytesMax
  const server = fastify({
    loggerInstance: options.log,
    logController: new LogController({ disableRequestLogging: true }),
    bodyLimit: bodyMax,
    schemaController: { compilersFactory },
    keepAliveTimeout: keepAliveTimeoutMs,
    requestIdHeader: 'x-request-id',
    genReqId: () => uuid(),
    exposeHeadRoutes: false,
    forceCloseConnections: true,
    return503OnClosing: false,
    // Paths that fastify itself refuses, before any hook: answered in our form.
    frameworkErrors: (_e, _req, reply) => {
      const refusal = reply as unknown as FastifyReply
      void refusal.code(400).type('application/json').send(toErrorBody(httpErrors.BAD_URL()))
    },
  }).withTypeProvider<TypeBoxTypeProvider>() as unknown as Server
  server.removeContentTypeParser('text/plain')
  server.setErrorHandler((e, req, reply) => {
    const error = toHttpError(e, bodyMax)
    // Only what nobody foresaw is worth a stack; an entry of an error table says all there is to say.
    if (error.status >= 500) {
      const level = e instanceof FlynnError && e.retry ? 'debug' : e instanceof FlynnError ? 'warn' : 'error'
      const told = e instanceof FlynnError ? { reason: describeError(e) } : { err: e }
      req.log[level]({ ...told, method: req.method, url: req.url }, 'request failed')
    }
    if (reply.raw.headersSent) {
      reply.raw.destroy()
      return
    }
    if (error.code === 'request_body_too_big') readAway(req, reply)
    void reply.code(error.status).type('application/json').send(toErrorBody(error))
  })
  server.setNotFoundHandler((req, reply) => notFound(req, reply))
  const keys = options.authKeys
  if (keys) {
    server.addHook('onRequest', async (req, reply) => {
      if (options.authExempt?.(req) || acceptsKey(requestKey(req), keys())) return
      if (options.realm) void reply.header('www-authenticate', `Basic realm="${options.realm}"`)
      if (options.unauthorized === 'empty') return reply.code(401).send()
      throw httpErrors.UNAUTHORIZED()
    })
  }
  server.addHook('onResponse', async (req, reply) => {
    req.log.debug(
      { method: req.method, url: req.url, status: reply.statusCode, ms: Math.round(reply.elapsedTime) },
      'request',
    )
  })
  const status = options.status
  if (status) {
    server.get('/.well-known/status', async (_req, reply) => {
      try {
        return { data: { status: 'healthy', detail: await status() } }
      } catch (e) {
        void reply.code(500)
        return { data: { status: 'unhealthy', detail: e instanceof Error ? e.message : String(e) } }
      }
    })
  }
  return server
}

/** Answers a request as an event stream; the handler must return the reply right after. */
export function startSse(reply: FastifyReply, onClose: () => void): SseWriter {
  reply.hijack()
  return sseWriter(reply.raw, onClose)
}

export function wantsSse(req: FastifyRequest): boolean {
  return (req.headers.accept ?? '').includes('text/event-stream')
}
