// The audit log: each call that changes something is written down before it is answered, with who, what, from where
// and the result. Rows that wait at the same moment are written together. While the database is away the row goes to
// the process's log instead, marked `audit`: the answer does not wait for it.
import type { IncomingMessage } from 'node:http'
import type { FastifyReply, FastifyRequest } from 'fastify'
import type { Selectable } from 'kysely'
import type { Server } from '../../pkg/httpd/httpd.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { Tables } from '../schema/tables.ts'
import { type Db, jsonb } from '../schema/write.ts'
import type { AuditEntry } from '../types.ts'
import type { Identity } from './auth.ts'
import { fieldError } from './body.ts'
import { type Context, param, queryParam, type Routes } from './context.ts'
import { endpointOf } from './endpoints.ts'
import { sinceOf } from './formations.ts'
import { redact } from './redact.core.ts'
import { omitEmpty } from './wire.ts'

export const auditListDefault = 100
export const auditListMax = 1_000
/** A row that cannot be written within this goes to the log. */
export const auditWriteTimeoutMs = 2_000
export const auditBatchMax = 200
export const auditPathBytesMax = 1_000
export const auditErrorBytesMax = 1_000
/** Rows that may wait; more go to the log at once. */
export const auditWaitingMax = 2_000

export type AuditRow = Omit<AuditEntry, 'id' | 'created_at'>

type Waiting = { readonly row: AuditRow; readonly done: () => void }

/** Writes rows one batch after the other. */
export class AuditWriter {
  readonly #db: Db
  readonly #log: Logger
  readonly #waiting: Waiting[] = []
  #writing = false

  constructor(db: Db, log: Logger) {
    this.#db = db
    this.#log = log
  }

  /** Resolves when the row is in the table, or in the log because the table did not take it in time. */
  write(row: AuditRow): Promise<void> {
    return new Promise(resolve => {
      let settled = false
      const settle = (kept: boolean): void => {
        if (settled) return
        settled = true
        clearTimeout(timer)
        if (!kept) this.#log.warn({ audit: { ...row, body: undefined } }, 'audit')
        resolve()
      }
      const timer = setTimeout(() => settle(false), auditWriteTimeoutMs)
      if (this.#waiting.length >= auditWaitingMax) {
        settle(false)
        return
      }
      this.#waiting.push({ row, done: () => settle(true) })
      if (!this.#writing) void this.#drain()
    })
  }

  async #drain(): Promise<void> {
    this.#writing = true
    try {
      while (this.#waiting.length > 0) {
        const batch = this.#waiting.splice(0, auditBatchMax)
        await this.#insert(batch.map(w => w.row))
        for (const w of batch) w.done()
      }
    } catch (err) {
      // What waits goes to the log when its time is over; the next call tries the table again.
      this.#log.warn({ err }, 'audit rows were not written')
    } finally {
      this.#writing = false
    }
  }

  async #insert(rows: readonly AuditRow[]): Promise<void> {
    await this.#db
      .insertInto('audit_log')
      .values(
        rows.map(row => ({
          actor: row.actor,
          user_email: row.user ?? null,
          address: row.address,
          request_id: row.request_id,
          method: row.method,
          path: row.path,
          app: row.app ?? null,
          report: row.report ?? false,
          body: jsonb(row.body),
          status: row.status,
          error: row.error ?? null,
        })),
      )
      .execute()
  }
}

/** The client as the router saw it; inside the cluster the connection's own address. */
export function clientAddress(req: Pick<IncomingMessage, 'headers' | 'socket'>): string {
  const forwarded = req.headers['x-forwarded-for']
  const last = (Array.isArray(forwarded) ? forwarded.join(',') : (forwarded ?? '')).split(',').at(-1)?.trim()
  const peer = req.socket.remoteAddress?.replace(/^::ffff:/, '') ?? ''
  return last && last.length <= 45 ? last : peer
}

/** Text that a column can hold. */
function storable(text: string, max: number): string {
  return text.replaceAll('\u0000', '').slice(0, max)
}

const isMutation = (method: string): boolean => method !== 'GET' && method !== 'OPTIONS' && method !== 'HEAD'

/** JSON without the one character that PostgreSQL's jsonb cannot hold. */
function bodyFor(body: unknown): unknown {
  if (typeof body !== 'object' || body === null || 'pipe' in body) return undefined
  return JSON.parse(JSON.stringify(redact(body)).replaceAll('\\u0000', ''))
}

function errorOf(payload: unknown, status: number): string | undefined {
  if (status < 400) return undefined
  if (typeof payload !== 'string') return status === 404 ? 'not found' : `status ${status}`
  try {
    const { message } = JSON.parse(payload) as { readonly message?: unknown }
    if (typeof message === 'string') return storable(message, auditErrorBytesMax)
  } catch {
    // No JSON: the plain answers of the contract.
  }
  return status === 404 ? 'not found' : `status ${status}`
}

/** The row of a call that fastify answers. */
function rowOf(req: FastifyRequest, reply: FastifyReply, identity: Identity, payload: unknown): AuditRow {
  const endpoint = endpointOf(req.method, req.routeOptions.url)
  const [path = ''] = req.url.split('?')
  const app = param(req, 'app')
  const error = errorOf(payload, reply.statusCode)
  const body = bodyFor(req.body)
  return {
    actor: identity.id,
    ...(identity.user === undefined ? {} : { user: storable(identity.user, 320) }),
    address: clientAddress(req.raw),
    request_id: storable(req.id, 100),
    method: req.method,
    path: storable(path, auditPathBytesMax),
    ...(app === '' ? {} : { app: storable(app, 200) }),
    ...(isReport(req, endpoint?.report === true) ? { report: true } : {}),
    ...(body === undefined ? {} : { body }),
    status: reply.statusCode,
    ...(error === undefined ? {} : { error }),
  }
}

/** The end of a scale request is told by the scheduler; its beginning is somebody's wish. */
function isReport(req: FastifyRequest, report: boolean): boolean {
  if (report) return true
  if (req.routeOptions.url !== '/apps/:app/scale/:release') return false
  const state = (req.body as { readonly state?: unknown } | null | undefined)?.state
  return state === 'complete' || state === 'cancelled'
}

/** Writes each mutating call down before it is answered. `identityOf` knows who it was; strangers are not recorded. */
export function auditCalls(
  server: Server,
  writer: AuditWriter,
  identityOf: (req: FastifyRequest) => Identity | undefined,
): void {
  server.addHook('onSend', async (req, reply, payload) => {
    const identity = identityOf(req)
    if (identity !== undefined && isMutation(req.method) && req.routeOptions.url !== undefined)
      await writer.write(rowOf(req, reply, identity, payload))
    return payload
  })
}

function toEntry(row: Selectable<Tables['audit_log']>): AuditEntry {
  return omitEmpty({
    id: row.audit_id,
    created_at: row.created_at,
    actor: row.actor,
    user: row.user_email,
    address: row.address,
    request_id: row.request_id,
    method: row.method,
    path: row.path,
    app: row.app,
    report: row.report,
    body: row.body,
    status: row.status,
    error: row.error,
  })
}

function wholeNumber(text: string, field: string, max: number): number {
  const value = Number(text)
  if (!/^\d{1,15}$/.test(text) || value < 1 || value > max)
    throw fieldError(field, `must be a whole number from 1 to ${max}`)
  return value
}

async function listAudit(ctx: Context, req: FastifyRequest): Promise<AuditEntry[]> {
  const text = (name: string): string | undefined => queryParam(req, name) || undefined
  const [app, actor, method] = [text('app'), text('actor'), text('method')]
  const [since, until, before] = [text('since'), text('until'), text('before_id')]
  const result = text('result')
  const count = wholeNumber(text('count') ?? String(auditListDefault), 'count', auditListMax)
  if (result !== undefined && result !== 'ok' && result !== 'failed')
    throw fieldError('result', 'must be one of ok, failed')
  let query = ctx.db.selectFrom('audit_log').selectAll().orderBy('audit_id', 'desc').limit(count)
  if (app !== undefined) query = query.where('app', '=', app)
  if (actor !== undefined) query = query.where('actor', '=', actor)
  if (method !== undefined) query = query.where('method', '=', method.toUpperCase())
  if (since !== undefined) query = query.where('created_at', '>=', sinceOf(since))
  if (until !== undefined) query = query.where('created_at', '<', sinceOf(until, 'until'))
  if (before !== undefined)
    query = query.where('audit_id', '<', wholeNumber(before, 'before_id', Number.MAX_SAFE_INTEGER))
  if (result !== undefined) query = query.where('status', result === 'ok' ? '<' : '>=', 400)
  if (queryParam(req, 'reports') !== 'true') query = query.where('report', '=', false)
  return (await query.execute()).map(toEntry)
}

export const auditRoutes: Routes = (server, ctx) => {
  server.get('/audit-log', req => listAudit(ctx, req))
}
