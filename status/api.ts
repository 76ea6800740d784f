// The status app's HTTP surface: every path and method answers the cluster's status (contract system-apps.md 3).
import type { FastifyReply, FastifyRequest } from 'fastify'
import { acceptsKey, httpd, requestKey, type Server } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import { clientAddress, isTrusted } from './access.core.ts'
import type { ClusterStatus } from './types.ts'

const corsMaxAgeSeconds = 3_600
const corsMethods = 'GET, POST, PUT, PATCH, DELETE, HEAD'

export type StatusApiOptions = {
  readonly log: Logger
  /** Asked of clients from elsewhere; nobody is asked when it is empty. */
  readonly authKey: string | undefined
  readonly status: () => Promise<ClusterStatus>
}

function allowOrigins(req: FastifyRequest, reply: FastifyReply): void {
  const { origin } = req.headers
  if (origin === undefined) return
  void reply
    .header('access-control-allow-origin', origin)
    .header('access-control-allow-credentials', 'true')
    .header('vary', 'Origin')
  if (req.method !== 'OPTIONS') return
  void reply
    .header('access-control-allow-methods', corsMethods)
    .header('access-control-allow-headers', req.headers['access-control-request-headers'] ?? '')
    .header('access-control-max-age', corsMaxAgeSeconds)
}

function mayRead(req: FastifyRequest, authKey: string | undefined): boolean {
  if (!authKey) return true
  const forwarded = req.headers['x-forwarded-for']
  const last = Array.isArray(forwarded) ? forwarded.at(-1) : forwarded
  if (isTrusted(clientAddress(last, req.socket.remoteAddress ?? ''))) return true
  const inQuery = new URLSearchParams(req.url.split('?')[1] ?? '').get('key') ?? undefined
  return acceptsKey(requestKey(req), [authKey]) || acceptsKey(inQuery, [authKey])
}

export function statusApi(options: StatusApiOptions): Server {
  const server = httpd({ log: options.log, name: 'status' })
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', (_req, payload, done) => {
    payload.resume()
    done(null)
  })
  server.all('/*', async (req, reply) => {
    allowOrigins(req, reply)
    const isPreflight = req.method === 'OPTIONS' && req.headers['access-control-request-method'] !== undefined
    if (isPreflight) return reply.code(200).send()
    if (!mayRead(req, options.authKey)) return reply.code(401).send()
    const status = await options.status()
    return reply
      .code(status.data.status === 'healthy' ? 200 : 500)
      .type('application/json; charset=utf-8')
      .send(`${JSON.stringify(status, undefined, 2)}\n`)
  })
  return server
}
