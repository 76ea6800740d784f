// HTTP surface of the log aggregator (contract system-apps.md 1.3): lines of an app, once or followed, cursors for the
// hosts, the snapshot for another aggregator. Cluster-internal; the controller checks who may read.
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'
import type { FastifyReply, FastifyRequest } from 'fastify'
import { httpd, type Server } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import { formatTimestampNano } from '../pkg/syslog/syslog.core.ts'
import { version } from '../pkg/version/version.ts'
import type { Aggregator, Follower } from './aggregator.ts'
import { type Entry, toMessage } from './buffers.core.ts'
import { fromSearchParams, isWanted, type LogQuery, toLogMessage } from './query.core.ts'
import { snapshotFrames, snapshotType } from './snapshot.ts'
import type { HostCursors } from './types.ts'

/** New lines are gathered for this long and sent together. */
export const flushIntervalMs = 50
/** Lines turned into JSON at a time, so that a long backlog does not hold the process up. */
const batchLines = 200

function toLines(query: LogQuery, entries: readonly Entry[]): string[] {
  const out: string[] = []
  for (const entry of entries) {
    const message = toMessage(entry)
    if (isWanted(query, message)) out.push(`${JSON.stringify(toLogMessage(message))}\n`)
  }
  return out
}

/** The last `lines` of those wanted. Goes through them from the end, so that few lines cost little. */
function lastWanted(query: LogQuery, entries: readonly Entry[]): readonly Entry[] {
  const out: Entry[] = []
  for (let i = entries.length - 1; i >= 0 && out.length < query.lines; i--) {
    const entry = entries[i] as Entry
    if (isWanted(query, toMessage(entry))) out.push(entry)
  }
  return out.reverse()
}

function backlog(query: LogQuery, past: readonly Entry[]): readonly Entry[] {
  if (query.lines > 0) return lastWanted(query, past)
  return query.follow ? [] : past
}

async function* body(
  query: LogQuery,
  past: readonly Entry[],
  follower: Follower | undefined,
  closed: () => boolean,
): AsyncGenerator<string> {
  const first = backlog(query, past)
  for (let at = 0; at < first.length; at += batchLines)
    yield toLines(query, first.slice(at, at + batchLines)).join('')
  while (follower && !closed()) {
    await follower.wait()
    await new Promise(resolve => setTimeout(resolve, flushIntervalMs))
    const lines = toLines(query, follower.take()).join('')
    if (lines !== '') yield lines
  }
}

async function sendLog(aggregator: Aggregator, req: FastifyRequest, reply: FastifyReply): Promise<void> {
  const { channel } = req.params as { channel: string }
  const query = fromSearchParams(new URLSearchParams(req.url.split('?')[1] ?? ''))
  const live = query.follow ? aggregator.follow(channel) : undefined
  const past = live?.past ?? aggregator.read(channel)
  const res = reply.hijack().raw
  res.once('close', () => live?.follower.close())
  res.writeHead(200, { 'content-type': 'text/plain; charset=utf-8' })
  res.flushHeaders()
  try {
    await pipeline(Readable.from(body(query, past, live?.follower, () => res.closed)), res)
  } catch (err) {
    // The reader left; for one that follows that is the only end there is.
    req.log.debug({ err, channel }, 'reader left')
  } finally {
    live?.follower.close()
  }
}

async function sendSnapshot(aggregator: Aggregator, req: FastifyRequest, reply: FastifyReply): Promise<void> {
  const res = reply.hijack().raw
  res.writeHead(200, { 'content-type': snapshotType })
  try {
    await pipeline(Readable.from(snapshotFrames(aggregator), { objectMode: false }), res)
  } catch (err) {
    req.log.warn({ err }, 'snapshot broke off')
  }
}

export function logAggregatorApi(options: { readonly aggregator: Aggregator; readonly log: Logger }): Server {
  const { aggregator, log } = options
  const server = httpd({ log, name: 'logaggregator', status: () => ({ version }) })
  server.get('/log/:channel', async (req, reply) => {
    await sendLog(aggregator, req, reply)
    return reply
  })
  server.get('/cursors', (): HostCursors => {
    const out: HostCursors = {}
    for (const [host, { timestampUs, seq }] of aggregator.cursors())
      out[host] = { time: formatTimestampNano(timestampUs), seq }
    return out
  })
  server.get('/snapshot', async (req, reply) => {
    await sendSnapshot(aggregator, req, reply)
    return reply
  })
  return server
}
