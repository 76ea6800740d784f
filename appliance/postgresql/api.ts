// The provider API of the postgres appliance (contract system-apps.md 6): the controller asks it for databases.
// Cluster-internal and without a key, as the original's clients expect.
import type { Pool } from 'pg'
import { Type } from 'typebox'
import { httpd, type Server } from '../../pkg/httpd/httpd.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { version } from '../../pkg/version/version.ts'
import { createDatabase, dropDatabase, fromResourceId, pingDatabase } from './databases.ts'
import { Resource } from './types.ts'

export type ApiOptions = { readonly pool: Pool; readonly service: string; readonly log: Logger }

const DropQuery = Type.Object({ id: Type.Optional(Type.String()) })

export function postgresApi(options: ApiOptions): Server {
  const { pool, service, log } = options
  const server = httpd({
    log,
    name: 'postgres-api',
    status: async () => {
      await pingDatabase(pool)
      return { version }
    },
  })
  // Providers are called with whatever the user configured; a database has nothing to configure (contract 6).
  server.removeAllContentTypeParsers()
  server.addContentTypeParser('*', (_req, payload, done) => {
    payload.resume()
    done(null)
  })
  server.post('/databases', { schema: { response: { 200: Resource } } }, () =>
    createDatabase(pool, service, log),
  )
  server.delete('/databases', { schema: { querystring: DropQuery } }, async (req, reply) => {
    await dropDatabase(pool, fromResourceId(req.query.id ?? ''))
    return reply.code(200).send()
  })
  server.get('/ping', async (_req, reply) => {
    await pingDatabase(pool)
    return reply.code(200).send()
  })
  return server
}
