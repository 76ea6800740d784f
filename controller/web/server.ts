// The HTTP surface of the controller: every noun's routes on one server, with the rules that hold for all of them
// (contract controller.md 1.3-1.7, 1.10): exactly 200, the plain 404, the empty 401, CORS, bodies that may be absent.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { describeError, invariant, isFlynnError } from '../../pkg/errors/errors.ts'
import { httpd, httpErrors, type Server, tidyPath } from '../../pkg/httpd/httpd.ts'
import { isAmbiguousCommit, isConnectionError, sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import { acmeRoutes } from './acme.ts'
import { appRoutes } from './apps.ts'
import { artifactRoutes } from './artifacts.ts'
import { serveAttach } from './attach.ts'
import { auditCalls, auditRoutes } from './audit.ts'
import { type Identity, identify, isAnonymous } from './auth.ts'
import { bodyDepthMax, isTooDeep } from './body.ts'
import { type Context, NotFound } from './context.ts'
import { deploymentRoutes } from './deployments.ts'
import { domainRoutes } from './domain.ts'
import { endpointOf } from './endpoints.ts'
import { eventRoutes } from './events.ts'
import { formationRoutes } from './formations.ts'
import { jobRoutes } from './jobs.ts'
import { layerRoutes } from './layers.ts'
import { logRoutes } from './log.ts'
import { Metrics, metricsRoutes } from './metrics.ts'
import { openapiRoutes } from './openapi.ts'
import { providerRoutes } from './providers.ts'
import { releaseRoutes } from './releases.ts'
import { resourceRoutes } from './resources.ts'
import { routeStatsRoutes } from './route-stats.ts'
import { routeRoutes } from './routes.ts'
import { scaleRoutes } from './scales.ts'
import { sinkRoutes } from './sinks.ts'
import { statusRoutes } from './status.ts'
import { volumeRoutes } from './volumes.ts'

const nouns = [
  ...[appRoutes, artifactRoutes, releaseRoutes, formationRoutes, scaleRoutes, jobRoutes, deploymentRoutes],
  ...[routeRoutes, providerRoutes, resourceRoutes, eventRoutes, volumeRoutes, logRoutes, layerRoutes],
  ...[sinkRoutes, domainRoutes, routeStatsRoutes, acmeRoutes, auditRoutes, openapiRoutes, statusRoutes],
]

/** Requests that one process answers at a time, streams not counted. */
export const requestsMax = 1_000

const corsHeaders = {
  'access-control-allow-credentials': 'true',
  'access-control-allow-methods': 'GET,POST,PUT,PATCH,DELETE,HEAD',
  'access-control-allow-headers':
    'Auth-Key,Authorization,Accept,Content-Type,If-Match,If-None-Match,X-GRPC-Web',
  'access-control-expose-headers': 'ETag,Content-Disposition',
  'access-control-max-age': '3600',
} as const

/** Set on the raw response, so that answers which leave fastify (streams) carry them too. */
function setCors(req: FastifyRequest, reply: FastifyReply): void {
  const { origin } = req.headers
  if (origin === undefined) return
  reply.raw.setHeader('access-control-allow-origin', origin)
  for (const [name, value] of Object.entries(corsHeaders)) reply.raw.setHeader(name, value)
}

function isPreflight(req: FastifyRequest): boolean {
  return req.method === 'OPTIONS' && req.headers.origin !== undefined
}

function isFree(req: FastifyRequest): boolean {
  const path = req.url.split('?')[0]
  if (isPreflight(req) || path === '/ping') return true
  return path === '/ca-cert' && isAnonymous(req.headers)
}

/** Lets in who has a key or a token, and remembers who it was. The 401 is empty (contract 1.3). */
function authenticate(server: Server, ctx: Context): (req: FastifyRequest) => Identity | undefined {
  const identities = new WeakMap<object, Identity>()
  server.addHook('onRequest', async (req, reply) => {
    const identity = identify(req.headers, ctx.config.auth)
    if (identity !== undefined) identities.set(req, identity)
    else if (!isFree(req)) return reply.code(401).send()
  })
  return req => identities.get(req)
}

/** Counts requests that have been taken and not yet answered, and refuses those that are too many. */
function limitRequests(server: Server, ctx: Context): void {
  server.server.on('request', (_req, res) => {
    ctx.load.requests++
    res.once('close', () => {
      ctx.load.requests--
    })
  })
  server.addHook('onRequest', async () => {
    if (ctx.load.requests - ctx.load.streams > requestsMax)
      throw errors.TOO_MANY_REQUESTS({ max: requestsMax })
  })
}

/** A body may be absent, and may be empty although its type is named (clients always name it, contract 1.5). */
function acceptEmptyBodies(server: Server): void {
  server.removeContentTypeParser('application/json')
  server.addContentTypeParser('application/json', { parseAs: 'string' }, (_req, text, done) => {
    if (text.length === 0) {
      done(null, undefined)
      return
    }
    if (isTooDeep(String(text))) {
      done(errors.TOO_DEEP({ max: bodyDepthMax }))
      return
    }
    try {
      done(null, JSON.parse(String(text)))
    } catch (cause) {
      done(httpErrors.SYNTAX_ERROR({}, { cause }))
    }
  })
}

/** Values that pass our schemas and the database still cannot take, or that name what is not there. */
const valueRefusals: Readonly<Record<string, string>> = {
  [sqlStates.foreignKeyViolation]: 'the body names an object that does not exist',
  [sqlStates.checkViolation]: 'a rule of the database forbids it',
  [sqlStates.invalidText]: 'a value has the wrong form',
  '22003': 'a number is out of range',
  '22008': 'a time is out of range',
  '22007': 'a time has the wrong form',
  '22021': 'a text holds a character that cannot be stored',
  '22P05': 'a text holds a character that cannot be stored',
}

/** What the error handler of the factory should see instead. */
function asHttpError(e: unknown): unknown {
  if (isConnectionError(e) && !isAmbiguousCommit(e)) return errors.DATABASE_UNAVAILABLE({}, { cause: e })
  const refusal = valueRefusals[sqlState(e) ?? '']
  if (refusal === undefined) return e
  const text = `${refusal}: ${describeError(e)}`
  return errors.INVALID({ text, remedy: 'correct the value and send it again' }, { cause: e })
}

export function controllerServer(ctx: Context): Server {
  const server = httpd({ log: ctx.log, name: 'controller' })
  acceptEmptyBodies(server)
  const metrics = new Metrics()
  server.addHook('onResponse', async (req, reply) => metrics.observe(req, reply))
  limitRequests(server, ctx)
  const identityOf = authenticate(server, ctx)
  // Before the key is asked for: a refused request is answered to a browser, too.
  server.addHook('onSend', async (req, reply, payload) => {
    setCors(req, reply)
    // Without the charset that fastify adds (contract 1.6).
    if (String(reply.getHeader('content-type')).startsWith('application/json'))
      void reply.header('content-type', 'application/json')
    return payload
  })
  server.addHook('onRequest', async (req, reply) => {
    setCors(req, reply)
    if (isPreflight(req)) return reply.code(200).send()
    const [path = '', query] = req.url.split('?')
    const tidy = tidyPath(path)
    if (tidy !== undefined) {
      const location = query === undefined ? tidy : `${tidy}?${query}`
      return reply.redirect(location, req.method === 'GET' ? 301 : 307)
    }
    if (ctx.stopping.aborted) {
      void reply.header('connection', 'close')
      throw httpErrors.SERVICE_UNAVAILABLE({ what: 'the controller' })
    }
  })
  void server.register(async api => {
    api.setErrorHandler((e, req, reply) => {
      if (e instanceof NotFound) return reply.code(404).send()
      const error = asHttpError(e)
      if (isFlynnError(error) && error !== e) {
        const text = error.retry ? 'the database is away' : 'the database refused a value'
        req.log[error.retry ? 'warn' : 'info']({ reason: describeError(e), url: req.url }, text)
      }
      throw error
    })
    api.addHook('onRoute', ({ method, url }) => {
      for (const m of [method].flat()) invariant(endpointOf(m, url), 'endpoint_not_in_table', `${m} ${url}`)
    })
    auditCalls(api as unknown as Server, ctx.audit, identityOf)
    for (const routes of [...nouns, metricsRoutes(metrics)]) routes(api as unknown as Server, ctx)
  })
  serveAttach(server, ctx)
  return server
}
