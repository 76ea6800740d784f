// Automatic certificates (contract router.md 7): the cluster's account with a certificate authority, the rows that the
// worker orders and renews from, and how they follow routes. The account's key is made here and never shown.
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql, type UpdateObject } from 'kysely'
import { newKey, thumbprintOf } from '../../pkg/acme/client.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import type { Db, Write } from '../schema/write.ts'
import {
  type AcmeConfig,
  AcmeConfigInput,
  acmeDirectory,
  type ManagedCertificate,
  type Route,
  type RouteInput,
} from '../types.ts'
import { bodyOf, fieldError } from './body.ts'
import { linkCertificate } from './certificates.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { isUuid, omitEmpty } from './wire.ts'

type ConfigRow = Selectable<Tables['acme_config']>

/** The only row of the table. */
export const acmeConfigId = 1
const urlLengthMax = 2_000
const emailLengthMax = 254

export function toManagedCertificate(row: Selectable<Tables['managed_certificates']>): ManagedCertificate {
  return omitEmpty({
    id: row.id,
    domain: row.domain,
    route_id: row.route_id,
    status: row.status,
    expires_at: row.expires_at,
    last_error: row.last_error,
    last_error_at: row.last_error_at,
    next_attempt_at: row.next_attempt_at,
    created_at: row.created_at,
    updated_at: row.updated_at,
  })
}

export async function acmeConfig(db: Db): Promise<ConfigRow | undefined> {
  return db.selectFrom('acme_config').selectAll().where('id', '=', acmeConfigId).executeTakeFirst()
}

function toConfig(row: ConfigRow | undefined): AcmeConfig {
  return {
    enabled: row?.enabled ?? false,
    contact_email: row?.contact_email ?? '',
    directory_url: row?.directory_url || acmeDirectory,
    terms_of_service_agreed: row?.terms_of_service_agreed ?? false,
    has_account_key: Boolean(row?.account_key),
    ...(row ? { created_at: row.created_at, updated_at: row.updated_at } : {}),
  }
}

function checkDirectory(url: string): void {
  const parsed = URL.canParse(url) ? new URL(url) : undefined
  if (parsed?.protocol !== 'https:' || url.length > urlLengthMax)
    throw fieldError('directory_url', 'must be an https URL', 'send the URL of an ACME directory')
}

/** What is configured after the request, as it will be stored. */
function wantedConfig(input: AcmeConfigInput, row: ConfigRow | undefined) {
  const wanted = {
    enabled: input.enabled ?? row?.enabled ?? false,
    contact_email: input.contact_email ?? row?.contact_email ?? '',
    directory_url: input.directory_url || row?.directory_url || acmeDirectory,
    terms_of_service_agreed: input.terms_of_service_agreed ?? row?.terms_of_service_agreed ?? false,
  }
  const { contact_email: email } = wanted
  if (email !== '' && (!/^[^\s@,]+@[^\s@,]+$/.test(email) || email.length > emailLengthMax))
    throw fieldError('contact_email', 'must be one e-mail address')
  checkDirectory(wanted.directory_url)
  if (wanted.enabled && email === '')
    throw fieldError('contact_email', 'is required', 'the authority warns there of certificates that end')
  if (wanted.enabled && !wanted.terms_of_service_agreed)
    throw fieldError(
      'terms_of_service_agreed',
      'must be true',
      "read the authority's terms and agree to them",
    )
  return wanted
}

async function putConfig(ctx: Context, req: FastifyRequest): Promise<AcmeConfig> {
  const input = bodyOf(req, AcmeConfigInput)
  return write(ctx, async ({ tx, enqueue }) => {
    const row = await acmeConfig(tx)
    const wanted = wantedConfig(input, row)
    const account_key = row?.account_key || newKey()
    const moved = wanted.directory_url !== (row?.directory_url || acmeDirectory)
    const told = !moved && wanted.contact_email === row?.contact_email
    const values = {
      ...wanted,
      account_key,
      account_thumbprint: thumbprintOf(account_key),
      account_url: told ? (row?.account_url ?? null) : null,
    }
    const stored = await tx
      .insertInto('acme_config')
      .values({ id: acmeConfigId, ...values })
      .onConflict(conflict => conflict.column('id').doUpdateSet({ ...values, updated_at: sql`now()` }))
      .returningAll()
      .executeTakeFirstOrThrow()
    // Another authority issues all of them anew: a staging certificate is of no use to anybody.
    if (moved)
      await tx
        .updateTable('managed_certificates')
        .set({ attempts: 0, next_attempt_at: sql<string>`now()`, updated_at: sql<string>`now()` })
        .where('deleted_at', 'is', null)
        .execute()
    if (wanted.enabled) await enqueue('managed_certificates', {})
    return toConfig(stored)
  })
}

const domainPattern = /^([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])$/

/** Throws unless the domain can have an automatic certificate now. */
async function checkManaged(db: Db, domain: string, input: RouteInput): Promise<void> {
  const field = 'managed_certificate_domain'
  if (domain !== (input.domain ?? '').toLowerCase())
    throw fieldError(field, "must be the route's domain", 'leave it empty for a route without one')
  if (!domainPattern.test(domain))
    throw fieldError(
      field,
      `${domain} can have no automatic certificate`,
      'name one full domain, no wildcard',
    )
  if ((await acmeConfig(db))?.enabled !== true) throw errors.ACME_OFF()
}

/**
 * The automatic certificate's domain of an http route after a request; null for none. What the request does not name
 * stays, unless it brings a certificate of its own.
 */
export async function managedDomainOf(
  db: Db,
  input: RouteInput,
  ownPair: { readonly cert: string } | undefined,
  current?: Route,
): Promise<string | null> {
  const asked = input.managed_certificate_domain?.toLowerCase()
  const replaced = ownPair !== undefined && ownPair.cert !== current?.certificate?.cert
  if (asked === undefined) return replaced ? null : (current?.managed_certificate_domain ?? null)
  if (asked === '') return null
  if (replaced)
    throw fieldError(
      'managed_certificate_domain',
      'excludes a certificate of your own',
      'send one of the two',
    )
  if (asked !== current?.managed_certificate_domain) await checkManaged(db, asked, input)
  return asked
}

/** Keeps the row of a domain to its routes after one of them changed; `again`: somebody asked, so a failure is over. */
export async function settleManaged(w: Write, domain: string, again: boolean): Promise<void> {
  const routes = await w.tx
    .selectFrom('http_routes')
    .select('id')
    .where('managed_certificate_domain', '=', domain)
    .where('deleted_at', 'is', null)
    .orderBy('created_at')
    .execute()
  const row = await w.tx
    .selectFrom('managed_certificates')
    .selectAll()
    .where('domain', '=', domain)
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  const [first] = routes
  if (!first) {
    if (row) await changeManaged(w, row.id, { deleted_at: sql<string>`now()` })
    return
  }
  if (!row) {
    const made = await w.tx
      .insertInto('managed_certificates')
      .values({ domain, route_id: first.id, status: 'pending' })
      .returningAll()
      .executeTakeFirstOrThrow()
    w.emit({ type: 'managed_certificate', objectId: made.id, data: toManagedCertificate(made), op: 'create' })
    await w.enqueue('managed_certificates', {})
    return
  }
  if (!routes.some(r => r.id === row.route_id)) await changeManaged(w, row.id, { route_id: first.id })
  if (again && row.status === 'failed') {
    await changeManaged(w, row.id, { attempts: 0, next_attempt_at: sql<string>`now()` })
    await w.enqueue('managed_certificates', {})
  }
}

type Changes = UpdateObject<Tables, 'managed_certificates'>

/** Changes a row and tells of it. */
export async function changeManaged(w: Write, id: string, changes: Changes): Promise<void> {
  const row = await w.tx
    .updateTable('managed_certificates')
    .set({ ...changes, updated_at: sql<string>`now()` })
    .where('id', '=', id)
    .returningAll()
    .executeTakeFirstOrThrow()
  w.emit({ type: 'managed_certificate', objectId: id, data: toManagedCertificate(row), op: 'update' })
}

/** Gives a route the certificate that another one of its domain has got already. */
export async function shareManaged(w: Write, routeId: string, domain: string): Promise<void> {
  const pair = await w.tx
    .selectFrom('http_routes')
    .innerJoin('route_certificates', 'route_certificates.http_route_id', 'http_routes.id')
    .innerJoin('certificates', 'certificates.id', 'route_certificates.certificate_id')
    .select(['certificates.cert', 'certificates.key'])
    .where('http_routes.managed_certificate_domain', '=', domain)
    .where('http_routes.deleted_at', 'is', null)
    .where('http_routes.id', '<>', routeId)
    .limit(1)
    .executeTakeFirst()
  if (pair) await linkCertificate(w.tx, routeId, pair)
}

export const acmeRoutes: Routes = (server, ctx) => {
  const live = () => ctx.db.selectFrom('managed_certificates').selectAll().where('deleted_at', 'is', null)
  server.get('/acme/config', async () => toConfig(await acmeConfig(ctx.db)))
  server.put('/acme/config', req => putConfig(ctx, req))
  server.get('/managed-certificates', async () =>
    (await live().orderBy('created_at', 'desc').execute()).map(toManagedCertificate),
  )
  server.get('/managed-certificates/:id', async req => {
    const id = param(req, 'id')
    if (!isUuid(id)) notFound()
    return toManagedCertificate(found(await live().where('id', '=', id).executeTakeFirst()))
  })
}
