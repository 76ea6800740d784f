// What every handler of the API is given, and the two ways to say "not there": a plain empty 404 that clients tell
// apart from JSON errors (contract controller.md 1.7), and event streams that end when the process is told to stop.
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { ClusterHost } from '../../host/client.ts'
import { httpErrors, type Server, startSse } from '../../pkg/httpd/httpd.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { SseWriter } from '../../pkg/sse/sse.ts'
import type { SchedulerClient } from '../client/scheduler.ts'
import { type Db, type Write, writeTo } from '../schema/write.ts'
import type { AuditWriter } from './audit.ts'
import type { AuthConfig } from './auth.ts'
import type { EventHub } from './hub.ts'

/** Open event streams of one process; more are refused. */
export const streamsMax = 2_000

export type ControllerConfig = {
  readonly auth: AuthConfig
  /** PEM. */
  readonly caCert: string
  /** Domain of automatic routes; none are made when empty. */
  readonly routeDomain: string
  /** Hex key of the name generator. */
  readonly nameSeed: string
  readonly logaggregatorUrl: string
  readonly version: string
}

export type Context = {
  readonly db: Db
  readonly log: Logger
  readonly hub: EventHub
  readonly config: ControllerConfig
  /** Hosts of the cluster as discoverd lists them. */
  readonly hosts: () => Promise<readonly ClusterHost[]>
  /** The scheduler that leads; undefined when none does. */
  readonly scheduler: () => Promise<SchedulerClient | undefined>
  /** Addresses of the routers' APIs. */
  readonly routers: () => Promise<readonly string[]>
  /** Aborted when the process is told to stop. */
  readonly stopping: AbortSignal
  /** Connections that last: counted to be limited, and waited for at the end. */
  readonly load: { streams: number; attached: number; requests: number }
  readonly pool: () => { readonly total: number; readonly idle: number; readonly waiting: number }
  readonly audit: AuditWriter
}

export type Routes = (server: Server, ctx: Context) => void

export class NotFound extends Error {}

/** The plain 404. */
export function notFound(): never {
  throw new NotFound('not found')
}

export function found<T>(value: T | undefined | null): T {
  return value ?? notFound()
}

export function write<T>(ctx: Context, fn: (write: Write) => Promise<T>): Promise<T> {
  return writeTo(ctx.db, fn)
}

export function param(req: FastifyRequest, name: string): string {
  return (req.params as Readonly<Record<string, string>>)[name] ?? ''
}

/** The last value of a query parameter; undefined when absent. */
export function queryParam(req: FastifyRequest, name: string): string | undefined {
  const value = (req.query as Readonly<Record<string, string | readonly string[] | undefined>>)[name]
  return typeof value === 'string' || value === undefined ? value : value.at(-1)
}

/** Starts an event stream that ends with the connection or the process. `cleanup` runs once. */
export function openStream(ctx: Context, reply: FastifyReply, cleanup: () => void): SseWriter {
  if (ctx.stopping.aborted || ctx.load.streams >= streamsMax)
    throw httpErrors.SERVICE_UNAVAILABLE({ what: 'the controller' })
  ctx.load.streams++
  const end = () => stream.close()
  const stream = startSse(reply, () => {
    ctx.load.streams--
    ctx.stopping.removeEventListener('abort', end)
    cleanup()
  })
  ctx.stopping.addEventListener('abort', end, { once: true })
  return stream
}
