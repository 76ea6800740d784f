// The router's own API (contract router.md 3): status, events, statistics, metrics. No authentication, as in the
// original; it only tells.
import { Type } from 'typebox'
import { httpd, type Server, startSse } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { SseWriter } from '../pkg/sse/sse.ts'
import { errors } from './errors.ts'
import type { EventHub } from './events.ts'
import type { Telemetry } from './telemetry.ts'
import { type RouterEventType, routerEventTypes } from './types.ts'

export type ApiOptions = {
  readonly log: Logger
  readonly hub: EventHub
  readonly telemetry: Telemetry
  /** Throws while the router does not serve. */
  readonly status: () => unknown
}

function eventTypes(text: string | undefined): ReadonlySet<RouterEventType> {
  const types = (text ?? '').split(',').filter(t => t !== '')
  for (const type of types) {
    if (!routerEventTypes.includes(type as RouterEventType)) throw errors.EVENT_TYPES({ type })
  }
  return new Set(types as RouterEventType[])
}

export function routerApi(options: ApiOptions): Server {
  const { hub, telemetry } = options
  const server = httpd({ log: options.log, name: 'router', status: options.status })
  server.get(
    '/events',
    { schema: { querystring: Type.Object({ types: Type.Optional(Type.String()) }) } },
    (req, reply) => {
      const types = eventTypes(req.query.types)
      const writer: SseWriter = startSse(reply, () => hub.unsubscribe(writer))
      hub.subscribe(writer, types)
    },
  )
  server.get('/routes/stats', () => telemetry.stats())
  server.get('/metrics', async (_req, reply) => {
    const text = await telemetry.metrics()
    return reply.type('text/plain; version=0.0.4; charset=utf-8').send(text)
  })
  return server
}
