// Sinks over HTTP (contract host.md 2.1): the scheduler of the controller puts and removes them.
import type { Server } from '../../pkg/httpd/httpd.ts'
import type { Sinks } from './sinks.ts'
import { SinkInput } from './types.ts'

type Id = { Params: { id: string } }

export function sinkRoutes(server: Server, sinks: Sinks): void {
  server.get('/sinks', () => sinks.list())
  server.put('/sinks/:id', { schema: { body: SinkInput } }, async req =>
    sinks.put((req.params as { id: string }).id, req.body),
  )
  server.delete<Id>('/sinks/:id', async req => {
    sinks.remove(req.params.id)
    return {}
  })
}
