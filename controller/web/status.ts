// Small endpoints: health, certificate authority, ping (contract controller.md 1.11).
import { sql } from 'kysely'
import type { Routes } from './context.ts'

export const statusRoutes: Routes = (server, ctx) => {
  for (const path of ['/.well-known/status', '/status'])
    server.get(path, async (req, reply) => {
      let status = 'healthy'
      try {
        await sql`SELECT 1`.execute(ctx.db)
      } catch (err) {
        req.log.warn({ err }, 'the database does not answer')
        status = 'unhealthy'
        void reply.code(500)
      }
      const body = { data: { status, version: ctx.config.version } }
      return reply.type('application/json').send(JSON.stringify(body, undefined, 2))
    })
  server.get('/ca-cert', (_req, reply) =>
    reply.type('application/x-x509-ca-cert').send(Buffer.from(ctx.config.caCert)),
  )
  server.get('/ping', (_req, reply) => reply.send())
}
