// GET /apps/:app/log (contract controller.md 2.15): the aggregator's lines by app id, as they come or as an event
// stream. Nothing is held back: a slow reader slows the aggregator's answer down.
import { pipeline } from 'node:stream/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { describeError, FlynnError } from '../../pkg/errors/errors.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import { errors } from '../errors.ts'
import { findApp } from './app-lookup.ts'
import { fieldError } from './body.ts'
import { type Context, openStream, param, queryParam, type Routes } from './context.ts'

export const logLinesMax = 10_000
/** A line of the aggregator is at most a syslog message; one far longer is not a line. */
export const logLineBytesMax = 1024 * 1024

function linesOf(req: FastifyRequest): string | undefined {
  const text = queryParam(req, 'lines')
  if (text === undefined || text === '') return undefined
  if (/^\d{1,5}$/.test(text) && Number(text) <= logLinesMax) return text
  throw fieldError('lines', `lines must be an integer between 0 and ${logLinesMax}`)
}

function logQuery(req: FastifyRequest): Record<string, string | undefined> {
  return {
    follow: queryParam(req, 'follow'),
    job_id: queryParam(req, 'job_id'),
    lines: linesOf(req),
    process_type: queryParam(req, 'process_type'),
    stream_types: queryParam(req, 'stream_types'),
  }
}

async function openLog(ctx: Context, appId: string, req: FastifyRequest, signal: AbortSignal) {
  try {
    return await new HttpClient({ url: ctx.config.logaggregatorUrl }).raw('GET', `/log/${appId}`, {
      query: logQuery(req),
      timeoutMs: 0,
      retryMs: 3_000,
      signal,
    })
  } catch (e) {
    if (e instanceof FlynnError && e.status === 400) throw e
    throw errors.LOG_UNAVAILABLE({ text: describeError(e) }, { cause: e })
  }
}

async function* jsonLines(body: AsyncIterable<Buffer>): AsyncGenerator<unknown> {
  let rest = ''
  const decoder = new TextDecoder()
  for await (const chunk of body) {
    rest += decoder.decode(chunk, { stream: true })
    const lines = rest.split('\n')
    rest = lines.pop() ?? ''
    if (rest.length > logLineBytesMax) throw new Error('a log line is too long')
    for (const line of lines) if (line !== '') yield JSON.parse(line)
  }
  if (rest !== '') yield JSON.parse(rest)
}

async function sendEvents(
  ctx: Context,
  reply: FastifyReply,
  body: AsyncIterable<Buffer>,
  stop: AbortController,
): Promise<void> {
  const stream = openStream(ctx, reply, () => stop.abort())
  try {
    for await (const data of jsonLines(body)) {
      stream.send({ event: 'message', data })
      await stream.drained()
    }
    stream.send({ event: 'eof' })
  } catch (err) {
    if (!stop.signal.aborted) {
      ctx.log.warn({ err }, 'log stream ended early')
      stream.error('the log stream ended early')
    }
  }
  stream.close()
}

async function getLog(ctx: Context, req: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const stop = new AbortController()
  const signal = AbortSignal.any([stop.signal, ctx.stopping])
  const res = await openLog(ctx, app_id, req, signal)
  if ((req.headers.accept ?? '').includes('text/event-stream')) {
    await sendEvents(ctx, reply, res.body, stop)
    return
  }
  reply.hijack()
  reply.raw.writeHead(200, { 'content-type': 'text/plain' })
  reply.raw.flushHeaders()
  try {
    await pipeline(res.body, reply.raw, { signal })
  } catch (err) {
    // The reader went away, or the aggregator did: the connection has told it by ending.
    req.log.debug({ err }, 'log ended early')
  }
}

export const logRoutes: Routes = (server, ctx) => {
  server.get('/apps/:app/log', async (req, reply) => {
    await getLog(ctx, req, reply)
    return reply
  })
}
