// PUT /domain (contract controller.md 2.17): notes the wish and gives it to the worker. Private keys are taken in, kept in
// the row until the worker is done, and shown to nobody.
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import { type Db, jsonb } from '../schema/write.ts'
import { type DomainMigration, DomainMigrationInput, type TlsCert } from '../types.ts'
import { lookupApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { checkKeyPair } from './certificates.ts'
import { type Context, type Routes, write } from './context.ts'
import { lookupRelease } from './release-lookup.ts'
import { omitEmpty } from './wire.ts'

/** Key of the transaction advisory lock under which migrations are begun. */
const domainLock = 4_711_005

function publicCert(cert: TlsCert | null): TlsCert | undefined {
  if (cert === null) return undefined
  const { key: _secret, ...shown } = cert
  return shown
}

export function toDomainMigration(row: Selectable<Tables['domain_migrations']>): DomainMigration {
  return omitEmpty(
    {
      id: row.migration_id,
      old_domain: row.old_domain,
      domain: row.domain,
      old_tls_cert: publicCert(row.old_tls_cert),
      tls_cert: publicCert(row.tls_cert),
      created_at: row.created_at,
      finished_at: row.finished_at,
    },
    ['id', 'old_domain', 'domain'],
  )
}

/** The certificate that the router serves for the cluster's names now. */
async function currentCert(db: Db, caCert: string): Promise<TlsCert | undefined> {
  const router = await lookupApp(db, 'router')
  const release = router?.release_id ? await lookupRelease(db, router.release_id) : undefined
  const cert = release?.env?.['TLSCERT']
  return cert === undefined ? undefined : { ca_cert: caCert, cert }
}

async function migrateDomain(ctx: Context, req: FastifyRequest): Promise<DomainMigration> {
  const input = bodyOf(req, DomainMigrationInput)
  const current = ctx.config.routeDomain
  if (input.old_domain !== current) throw errors.WRONG_DOMAIN({ given: input.old_domain, current })
  if (input.domain === current) throw fieldError('domain', 'is the domain of the cluster already')
  const { cert, key } = input.tls_cert ?? {}
  if (cert || key) checkKeyPair({ cert: cert ?? '', key: key ?? '' })
  return write(ctx, async ({ tx, emit, enqueue }) => {
    await sql`SELECT pg_advisory_xact_lock(${sql.lit(domainLock)})`.execute(tx)
    const running = await tx
      .selectFrom('domain_migrations')
      .select('domain')
      .where('finished_at', 'is', null)
      .executeTakeFirst()
    if (running) throw errors.MIGRATION_RUNNING({ domain: running.domain })
    const row = await tx
      .insertInto('domain_migrations')
      .values({
        old_domain: input.old_domain,
        domain: input.domain,
        old_tls_cert: jsonb(await currentCert(tx, ctx.config.caCert)),
        tls_cert: jsonb(cert ? input.tls_cert : undefined),
      })
      .returningAll()
      .executeTakeFirstOrThrow()
    const migration = toDomainMigration(row)
    emit({
      type: 'domain_migration',
      objectId: migration.id,
      data: { domain_migration: migration },
      op: 'create',
    })
    await enqueue('domain_migration', { ID: migration.id })
    return migration
  })
}

export const domainRoutes: Routes = (server, ctx) => {
  server.put('/domain', req => migrateDomain(ctx, req))
}
