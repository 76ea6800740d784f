// The blobstore's HTTP surface (contract blobstore.md 1): any path is an object's name. Unauthenticated, within the
// cluster only. Bodies are streamed in both directions.
import type { FastifyReply, FastifyRequest } from 'fastify'
import { FlynnError } from '../pkg/errors/errors.ts'
import { httpd, type Server } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import { version } from '../pkg/version/version.ts'
import { answerGet, answerHead } from './answer.ts'
import type { RequestConditions } from './conditions.core.ts'
import { errors } from './errors.ts'
import type { FileStore } from './files.ts'
import { cleanName, toObjectName } from './names.core.ts'
import { copyFromHeader, offsetHeader } from './types.ts'

/** A transfer on which nothing moves for this long is ended, and its connection to the database freed. */
export const stallTimeoutMs = 50_000
const textType = 'text/plain; charset=utf-8'

const texts: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  404: 'NotFound',
  413: 'Request Entity Too Large',
  503: 'Service Unavailable',
}

function header(req: FastifyRequest, name: string): string | undefined {
  const value = req.headers[name]
  return Array.isArray(value) ? value[0] : value
}

function conditionsOf(req: FastifyRequest): RequestConditions {
  return {
    ifMatch: header(req, 'if-match'),
    ifNoneMatch: header(req, 'if-none-match'),
    ifModifiedSince: header(req, 'if-modified-since'),
    ifUnmodifiedSince: header(req, 'if-unmodified-since'),
    ifRange: header(req, 'if-range'),
    range: header(req, 'range'),
  }
}

function offsetOf(req: FastifyRequest): number {
  const text = header(req, offsetHeader)
  if (text === undefined) return 0
  const offset = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(offset)) throw errors.BAD_OFFSET({ offset: text })
  return offset
}

function answerError(e: unknown, req: FastifyRequest, reply: FastifyReply): void {
  const error = e instanceof FlynnError ? e : undefined
  const status = error?.status ?? 500
  if (status >= 500) req.log.error({ err: e, method: req.method, url: req.url }, 'request failed')
  if (reply.raw.headersSent) {
    reply.raw.destroy()
    return
  }
  if (error) void reply.header('blobstore-error', error.message.replaceAll(/[^\x20-\x7e]/g, '?'))
  void reply
    .code(status)
    // The rest of an upload is not worth reading.
    .header('connection', 'close')
    .header('x-content-type-options', 'nosniff')
    .type(textType)
    .send(`${texts[status] ?? 'Internal Server Error'}\n`)
}

async function get(store: FileStore, req: FastifyRequest, reply: FastifyReply, name: string) {
  const file = await store.open(name)
  if (!file) throw errors.NOT_FOUND({ name })
  reply.hijack()
  try {
    await answerGet(reply.raw, file, conditionsOf(req))
  } catch (err) {
    // A client that leaves early is nobody's fault; a database that does is told by the cut connection.
    req.log.warn({ err, name }, 'download broke off')
    reply.raw.destroy()
  } finally {
    file.abandon()
  }
}

async function put(store: FileStore, req: FastifyRequest, reply: FastifyReply, name: string) {
  const source = header(req, copyFromHeader)
  const type = header(req, 'content-type') ?? ''
  const offset = offsetOf(req)
  if (source !== undefined) await store.copy(source, name)
  else if (offset > 0) await store.append(name, type, offset, req.raw)
  else await store.replace(name, type, req.raw)
  return reply.code(200).send()
}

async function list(store: FileStore, req: FastifyRequest, reply: FastifyReply) {
  const dir = new URLSearchParams(req.url.split('?')[1] ?? '').get('dir') ?? ''
  const entries: string[] = []
  for await (const entry of store.list(dir.replace(/\/$/, ''))) entries.push(entry)
  return reply
    .code(200)
    .type(textType)
    .send(`${JSON.stringify(entries)}\n`)
}

async function handleRoot(store: FileStore, req: FastifyRequest, reply: FastifyReply) {
  if (req.method === 'GET') return list(store, req, reply)
  return reply.code(req.method === 'HEAD' ? 200 : 404).send()
}

async function handleObject(store: FileStore, req: FastifyRequest, reply: FastifyReply, name: string) {
  switch (req.method) {
    case 'GET':
      await get(store, req, reply, name)
      return reply
    case 'HEAD': {
      const info = await store.info(name)
      if (!info) throw errors.NOT_FOUND({ name })
      reply.hijack()
      answerHead(reply.raw, info, conditionsOf(req))
      return reply
    }
    case 'PUT':
      return put(store, req, reply, name)
    case 'DELETE':
      await store.remove(name)
      return reply.code(200).send()
    default:
      return reply.code(405).send()
  }
}

export function blobstoreApi(options: { readonly store: FileStore; readonly log: Logger }): Server {
  const { store, log } = options
  const server = httpd({
    log,
    name: 'blobstore',
    status: async () => {
      await store.ping()
      return { version }
    },
  })
  const handle = async (req: FastifyRequest, reply: FastifyReply) => {
    req.raw.setTimeout(stallTimeoutMs, () => req.raw.destroy())
    const [path = '/', query] = req.url.split('?')
    const clean = cleanName(path)
    if (clean !== path.replace(/(.)\/$/, '$1'))
      return reply.redirect(query === undefined ? clean : `${clean}?${query}`, 301)
    const name = toObjectName(clean)
    return name === '/' ? handleRoot(store, req, reply) : handleObject(store, req, reply, name)
  }
  void server.register(async scope => {
    scope.removeAllContentTypeParsers()
    // Bodies are read by the handler, as they come.
    scope.addContentTypeParser('*', (_req, _payload, done) => done(null))
    scope.setErrorHandler(answerError)
    scope.all('/*', handle)
  })
  return server
}
