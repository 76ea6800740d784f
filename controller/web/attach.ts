// One-off jobs with the caller attached (contract controller.md 2.8). The upgrade never reaches fastify: body, answer
// and bytes are handled on the raw connection, because frames may follow the body in the same packet.
import type { IncomingMessage } from 'node:http'
import type { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { frameDecoder, type RawAttachment } from '../../host/client.ts'
import { attachFlags, attachProtocol } from '../../host/types.ts'
import { describeError, type FlynnError, toErrorBody } from '../../pkg/errors/errors.ts'
import { httpErrors, type Server, toHttpError } from '../../pkg/httpd/httpd.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import { errors } from '../errors.ts'
import { NewJob } from '../types.ts'
import { type AuditRow, auditPathBytesMax, clientAddress } from './audit.ts'
import { type Identity, identify } from './auth.ts'
import { bodyDepthMax, isTooDeep, parse } from './body.ts'
import { type Context, NotFound } from './context.ts'
import { redact } from './redact.core.ts'
import { type PlannedJob, planJob, startJob, undoPlan } from './run-job.ts'

export const attachBodyBytesMax = 4 * 1024 * 1024
export const attachBodyTimeoutMs = 30_000
/** From adding the job to its first sign of life; its image may have to be fetched. */
export const attachStartTimeoutMs = 300_000
/** Attached callers of one process. */
export const attachedMax = 500
/** After the job's end, how long a caller may take to close. */
const lingerMs = 10_000
const keepAliveDelayMs = 30_000

const path = /^\/apps\/([^/?]+)\/jobs\/?(?:\?.*)?$/

/** True for the requests that this module answers instead of fastify. */
export function isAttach(req: Pick<IncomingMessage, 'method' | 'url' | 'headers'>): boolean {
  const upgrade = req.headers.upgrade ?? ''
  return req.method === 'POST' && upgrade.includes(attachProtocol) && path.test(req.url ?? '')
}

/** Reads exactly the announced body; what came after it is given back to the connection. */
function readBody(req: IncomingMessage, socket: Duplex, head: Buffer): Promise<Buffer> {
  const length = Number(req.headers['content-length'] ?? Number.NaN)
  if (!Number.isInteger(length) || length < 0) return Promise.reject(httpErrors.SYNTAX_ERROR())
  if (length > attachBodyBytesMax)
    return Promise.reject(httpErrors.REQUEST_BODY_TOO_BIG({ max: attachBodyBytesMax }))
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let bytes = 0
    const settle = (fn: () => void) => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('end', onEnd)
      socket.off('close', onEnd)
      fn()
    }
    const onEnd = () => settle(() => reject(httpErrors.SYNTAX_ERROR()))
    const onData = (chunk: Buffer) => {
      chunks.push(chunk)
      bytes += chunk.length
      if (bytes < length) return
      socket.pause()
      settle(() => {
        const all = Buffer.concat(chunks)
        if (all.length > length) socket.unshift(all.subarray(length))
        resolve(all.subarray(0, length))
      })
    }
    const timer = setTimeout(onEnd, attachBodyTimeoutMs)
    socket.on('data', onData)
    socket.once('end', onEnd)
    socket.once('close', onEnd)
    onData(head)
    if (bytes < length) socket.resume()
  })
}

function answer(socket: Duplex, status: number, body: string): void {
  const reason = { 401: 'Unauthorized', 404: 'Not Found' }[status] ?? 'Error'
  const type = body === '' ? '' : 'Content-Type: application/json\r\n'
  const length = Buffer.byteLength(body)
  socket.end(
    `HTTP/1.1 ${status} ${reason}\r\n${type}Content-Length: ${length}\r\nConnection: close\r\n\r\n${body}`,
  )
}

function refuse(ctx: Context, socket: Duplex, e: unknown): void {
  if (e instanceof NotFound) {
    answer(socket, 404, '')
    return
  }
  const error: FlynnError = toHttpError(e, attachBodyBytesMax)
  if (error.status >= 500) ctx.log.error({ err: e }, 'attach failed')
  answer(socket, error.status, JSON.stringify(toErrorBody(error)))
}

/** How the host words it (host/errors.ts). */
const programMissing =
  /^host: "(.*)"(?:: executable file not found in \$PATH| is not an executable file in the image)$/s

/** A job that asked for a program which its image does not have is its caller's fault, not the host's. */
function attachFailure(host: string, text: string): FlynnError {
  const [, program] = programMissing.exec(text) ?? []
  if (program !== undefined) return errors.PROGRAM_MISSING({ program })
  return errors.HOST_FAILED({ host, action: 'attach to the job', text })
}

/** Waits for the host's state byte; what follows it stays in the connection. */
function untilAttached(raw: RawAttachment, hostId: string): Promise<void> {
  const { socket, head } = raw
  return new Promise((resolve, reject) => {
    const settle = (failure?: string) => {
      clearTimeout(timer)
      socket.off('data', onData)
      socket.off('close', onClose)
      socket.pause()
      if (failure === undefined) resolve()
      else reject(attachFailure(hostId, failure))
    }
    let rest: Buffer = Buffer.alloc(0)
    const onData = (chunk: Buffer) => {
      rest = Buffer.concat([rest, chunk])
      while (rest[0] === 1) rest = rest.subarray(1)
      if (rest.length === 0) return
      if (rest[0] === 0) {
        settle()
        if (rest.length > 1) socket.unshift(rest.subarray(1))
        return
      }
      const frame = frameDecoder().push(rest)[0]
      if (frame) settle(frame.type === 'error' ? frame.message : `unexpected ${frame.type} frame`)
    }
    const onClose = () => settle('the connection ended before the job started')
    const timer = setTimeout(() => settle(`no start within ${attachStartTimeoutMs} ms`), attachStartTimeoutMs)
    socket.on('data', onData)
    socket.once('close', onClose)
    if (head.length > 0) onData(head)
  })
}

/** Bytes both ways until both sides are done. A half-closed side is passed on; the other direction goes on. */
function splice(client: Socket, host: Duplex): void {
  client.setTimeout(0)
  client.setNoDelay(true)
  client.setKeepAlive(true, keepAliveDelayMs)
  client.on('error', () => host.destroy())
  host.on('error', () => client.destroy())
  client.once('close', () => host.destroy())
  host.once('close', () => {
    if (!host.readableEnded) client.destroy()
    else setTimeout(() => client.destroy(), lingerMs).unref()
  })
  client.pipe(host)
  host.pipe(client)
}

/** Nobody would ever see the output of a job that its caller could not attach to. */
async function stopUnattached(ctx: Context, plan: PlannedJob): Promise<void> {
  try {
    await plan.host.client.stopJob(plan.job.id, { retryMs: 0 })
  } catch (err) {
    ctx.log.debug({ err, job: plan.job.id }, 'job without its caller was not stopped')
  }
}

async function connect(
  ctx: Context,
  plan: PlannedJob,
  request: NewJob,
  gone: AbortSignal,
): Promise<RawAttachment> {
  let raw: RawAttachment
  try {
    raw = await plan.host.client.attachRaw(
      {
        job_id: plan.job.id,
        flags: attachFlags.stdout | attachFlags.stderr | attachFlags.stdin | attachFlags.stream,
        ...(request.tty_lines === undefined ? {} : { height: request.tty_lines }),
        ...(request.tty_columns === undefined ? {} : { width: request.tty_columns }),
      },
      { signal: gone },
    )
  } catch (e) {
    await undoPlan(ctx, plan)
    throw errors.HOST_FAILED(
      { host: plan.host.id, action: 'attach to the job', text: describeError(e) },
      { cause: e },
    )
  }
  raw.socket.on('error', () => undefined)
  let started = false
  try {
    await startJob(ctx, plan)
    started = true
    await untilAttached(raw, plan.host.id)
    return raw
  } catch (e) {
    raw.socket.destroy()
    if (started) await stopUnattached(ctx, plan)
    throw e
  }
}

type Caller = { readonly identity: Identity; readonly requestId: string }

async function attach(
  ctx: Context,
  req: IncomingMessage,
  socket: Socket,
  head: Buffer,
  caller: Caller,
): Promise<void> {
  const told = (body: unknown, status: number, error?: string) =>
    ctx.audit.write(auditRow(req, caller, { body, status, error }))
  let body: unknown
  let raw: RawAttachment
  try {
    const text = await readBody(req, socket, head)
    body = jsonOf(req, text)
    raw = await plannedAttach(ctx, req, socket, body)
  } catch (e) {
    const status = e instanceof NotFound ? 404 : toHttpError(e, attachBodyBytesMax).status
    await told(body, status, e instanceof NotFound ? 'not found' : describeError(e))
    throw e
  }
  await told(body, 101)
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: ${attachProtocol}\r\n\r\n`,
  )
  splice(socket, raw.socket)
}

function jsonOf(req: IncomingMessage, text: Buffer): unknown {
  if (!(req.headers['content-type'] ?? '').includes('application/json')) throw httpErrors.CONTENT_TYPE()
  if (isTooDeep(text.toString())) throw errors.TOO_DEEP({ max: bodyDepthMax })
  try {
    return JSON.parse(text.toString())
  } catch (cause) {
    throw httpErrors.SYNTAX_ERROR({}, { cause })
  }
}

function appOf(req: IncomingMessage): string {
  try {
    return decodeURIComponent(path.exec(req.url ?? '')?.[1] ?? '')
  } catch {
    // A name with a broken percent sequence is the name of no app.
    throw new NotFound('not found')
  }
}

async function plannedAttach(
  ctx: Context,
  req: IncomingMessage,
  socket: Socket,
  body: unknown,
): Promise<RawAttachment> {
  const gone = new AbortController()
  socket.once('close', () => gone.abort())
  const request = parse(NewJob, body)
  const plan = await planJob(ctx, appOf(req), request, { attach: true })
  return connect(ctx, plan, request, gone.signal)
}

function auditRow(
  req: IncomingMessage,
  caller: Caller,
  result: { readonly body: unknown; readonly status: number; readonly error?: string | undefined },
): AuditRow {
  const [url = ''] = (req.url ?? '').split('?')
  const { identity } = caller
  return {
    actor: identity.id,
    ...(identity.user === undefined ? {} : { user: identity.user }),
    address: clientAddress(req),
    request_id: caller.requestId,
    method: 'POST',
    path: url.slice(0, auditPathBytesMax),
    app: path.exec(url)?.[1] ?? '',
    ...(result.body === undefined ? {} : { body: redact(result.body) }),
    status: result.status,
    ...(result.error === undefined ? {} : { error: result.error }),
  }
}

/** Takes attach requests off the server's hands. Call once, before it listens. */
export function serveAttach(server: Server, ctx: Context): void {
  const http = server.server as typeof server.server & {
    shouldUpgradeCallback: (req: IncomingMessage) => boolean
  }
  http.shouldUpgradeCallback = isAttach
  http.on('upgrade', (req: IncomingMessage, stream: Duplex, head: Buffer) => {
    const socket = stream as Socket
    socket.on('error', () => undefined)
    const identity = identify(req.headers, ctx.config.auth)
    if (identity === undefined) {
      answer(socket, 401, '')
      return
    }
    if (ctx.stopping.aborted || ctx.load.attached >= attachedMax) {
      refuse(ctx, socket, httpErrors.SERVICE_UNAVAILABLE({ what: 'the controller' }))
      return
    }
    ctx.load.attached++
    socket.once('close', () => {
      ctx.load.attached--
    })
    const caller = { identity, requestId: uuid() }
    attach(ctx, req, socket, head, caller).catch((e: unknown) => refuse(ctx, socket, e))
  })
}
