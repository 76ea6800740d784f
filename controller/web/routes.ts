// Routes: create, list, get, update, delete (contract controller.md 2.10). Every change is an event that routers follow
// (router.md 2). Rules that span rows are held by the database under a lock, so that two requests cannot break them.
import type { FastifyRequest } from 'fastify'
import { type SelectQueryBuilder, sql } from 'kysely'
import { constraintOf, sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import type { Tx, Write } from '../schema/write.ts'
import { type Route, RouteInput, routeParentRef, tcpPortMax, tcpPortMin } from '../types.ts'
import { managedDomainOf, settleManaged, shareManaged } from './acme.ts'
import { findApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type KeyPair, keyPairOf, linkCertificate, unlinkCertificate } from './certificates.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { optionsOf } from './route-options.ts'
import { type HttpRow, httpRoutes, listRoutes, lookupRoute, tcpRoute } from './route-rows.ts'

/** Key of the transaction advisory lock that route changes take. */
const routeLock = 4_711_003
const portMax = 65_534
const nameLengthMax = 255
/** Ports of the platform itself on every host: a tcp route there could never be opened. */
export const platformPorts: readonly number[] = [53, 1111, 1113, 2379, 2380, 5000]

/** What was submitted, for the error's detail, without private keys. */
function submitted(input: RouteInput): unknown {
  const { tls_key: _key, certificate, ...rest } = input
  const { key: _certificateKey, ...certificateRest } = certificate ?? {}
  return certificate ? { ...rest, certificate: certificateRest } : rest
}

function invalidRoute(input: RouteInput, reason: string): never {
  throw errors.INVALID({ text: 'Invalid route', remedy: reason }, { detail: submitted(input) })
}

/** What the database refused, as the contract names it. */
function refused(e: unknown, input: RouteInput): unknown {
  const detail = submitted(input)
  if (sqlState(e) === sqlStates.uniqueViolation) {
    const field = constraintOf(e) === 'tcp_routes_port_key' ? 'port' : 'domain or path'
    return errors.DUPLICATE_ROUTE({ field }, { detail })
  }
  if (sqlState(e) === sqlStates.raised && e instanceof Error)
    return errors.INVALID({ text: 'Invalid route', remedy: e.message }, { detail })
  return e
}

function checkCommon(input: RouteInput): void {
  const { service = '' } = input
  if (service === '') throw fieldError('service', 'is required', 'name the discoverd service to route to')
  if (service.length > nameLengthMax)
    throw fieldError('service', `must not be over ${nameLengthMax} characters`)
}

function checkHttp(input: RouteInput): void {
  checkCommon(input)
  const { domain = '', path = '/', port = 0 } = input
  if (domain === '') throw fieldError('domain', 'is required for an http route')
  if (domain.length > nameLengthMax || /[\s/:]/.test(domain))
    throw fieldError('domain', 'must be a host name', 'leave out scheme, port and path')
  if (port !== 0) invalidRoute(input, 'http routes have no port of their own: leave it out')
  if (path !== '' && !path.startsWith('/')) invalidRoute(input, 'path must start with a slash')
}

function checkTcpPort(input: RouteInput): void {
  const { port = 0 } = input
  if (port === 80 || port === 443) throw errors.RESERVED_PORT({}, { detail: submitted(input) })
  if (port < 0 || port > portMax)
    throw fieldError('port', `must be from 1 to ${portMax}, or 0 for a free one`)
  if (platformPorts.includes(port)) throw fieldError('port', `${port} is used by the platform itself`)
}

async function lockRoutes(tx: Tx): Promise<void> {
  await sql`SELECT pg_advisory_xact_lock(${sql.lit(routeLock)})`.execute(tx)
}

async function freePort(tx: Tx): Promise<number> {
  const { rows } = await sql<{ port: number }>`
    SELECT port FROM generate_series(${tcpPortMin}::integer, ${tcpPortMax}::integer) AS port
    WHERE NOT EXISTS (SELECT 1 FROM tcp_routes WHERE tcp_routes.port = port.port AND deleted_at IS NULL)
    ORDER BY port LIMIT 1`.execute(tx)
  const port = rows[0]?.port
  if (port === undefined) throw errors.NO_FREE_PORT({ min: tcpPortMin, max: tcpPortMax })
  return port
}

function emitRoute(w: Write, appId: string, route: Route, op: 'create' | 'update'): void {
  w.emit({ app: appId, type: 'route', objectId: route.id, data: route, op })
}

async function insertHttp(
  w: Write,
  appId: string,
  input: RouteInput,
  pair: KeyPair | undefined,
): Promise<Route> {
  const managed = await managedDomainOf(w.tx, input, pair)
  const row = await w.tx
    .insertInto('http_routes')
    .values({
      parent_ref: routeParentRef(appId),
      service: input.service ?? '',
      domain: input.domain ?? '',
      sticky: input.sticky ?? false,
      path: input.path ?? '/',
      leader: input.leader ?? false,
      drain_backends: input.drain_backends ?? false,
      port: 0,
      disable_keep_alives: input.disable_keep_alives ?? false,
      managed_certificate_domain: managed,
      options: JSON.stringify(optionsOf('http', input)),
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  if (pair) await linkCertificate(w.tx, row.id, pair)
  return managed === null ? wholeRoute(w, row) : manage(w, row, managed, false)
}

async function wholeRoute(w: Write, row: HttpRow): Promise<Route> {
  const [route] = await httpRoutes(w.tx, [row])
  return found(route)
}

/** The route as part of an automatic certificate. */
async function manage(w: Write, row: HttpRow, domain: string, again: boolean): Promise<Route> {
  await shareManaged(w, row.id, domain)
  await settleManaged(w, domain, again)
  return wholeRoute(w, row)
}

async function insertTcp(w: Write, appId: string, input: RouteInput): Promise<Route> {
  const row = await w.tx
    .insertInto('tcp_routes')
    .values({
      parent_ref: routeParentRef(appId),
      service: input.service ?? '',
      port: input.port || (await freePort(w.tx)),
      leader: input.leader ?? false,
      drain_backends: input.drain_backends ?? false,
      options: JSON.stringify(optionsOf('tcp', input)),
    })
    .returningAll()
    .executeTakeFirstOrThrow()
  return tcpRoute(row)
}

/** Creates a route of an app; rejects with the contract's errors. Also used for the automatic route of a new app. */
export async function createRoute(ctx: Context, appId: string, input: RouteInput): Promise<Route> {
  if (input.type === undefined) invalidRoute(input, 'type must be http or tcp')
  if (input.type === 'http') checkHttp(input)
  else {
    checkCommon(input)
    checkTcpPort(input)
  }
  const pair = input.type === 'http' ? keyPairOf(input) : undefined
  try {
    const route = await write(ctx, async w => {
      await lockRoutes(w.tx)
      const created =
        input.type === 'http' ? await insertHttp(w, appId, input, pair) : await insertTcp(w, appId, input)
      emitRoute(w, appId, created, 'create')
      return created
    })
    // Deprecated members are echoed (contract 2.10).
    return {
      ...route,
      ...(input.tls_cert ? { tls_cert: input.tls_cert } : {}),
      ...(input.tls_key ? { tls_key: input.tls_key } : {}),
    }
  } catch (e) {
    throw refused(e, input)
  }
}

async function updateHttp(
  w: Write,
  current: Route,
  input: RouteInput,
  pair: KeyPair | undefined,
): Promise<Route> {
  const managed = await managedDomainOf(w.tx, input, pair, current)
  const before = current.managed_certificate_domain
  const row = await w.tx
    .updateTable('http_routes')
    .set({
      service: input.service ?? current.service,
      leader: input.leader ?? false,
      sticky: input.sticky ?? false,
      path: input.path || (current.path ?? '/'),
      disable_keep_alives: input.disable_keep_alives ?? false,
      managed_certificate_domain: managed,
      options: JSON.stringify(optionsOf('http', input, current)),
    })
    .where('id', '=', current.id)
    .returningAll()
    .executeTakeFirstOrThrow()
  if (pair) await linkCertificate(w.tx, row.id, pair)
  else if (managed === null && before !== undefined) await unlinkCertificate(w.tx, row.id)
  if (managed === null && before !== undefined) await settleManaged(w, before, false)
  if (managed === null) return wholeRoute(w, row)
  return manage(w, row, managed, Boolean(input.managed_certificate_domain))
}

async function updateTcp(w: Write, current: Route, input: RouteInput): Promise<Route> {
  const row = await w.tx
    .updateTable('tcp_routes')
    .set({
      service: input.service ?? current.service,
      leader: input.leader ?? false,
      port: input.port || (current.port ?? 0),
      options: JSON.stringify(optionsOf('tcp', input, current)),
    })
    .where('id', '=', current.id)
    .returningAll()
    .executeTakeFirstOrThrow()
  return tcpRoute(row)
}

async function updateRoute(ctx: Context, req: FastifyRequest): Promise<Route> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const [type, id] = [param(req, 'type'), param(req, 'id')]
  found(await lookupRoute(ctx.db, app_id, type, id))
  const input = bodyOf(req, RouteInput)
  if (type === 'http') checkHttp(input)
  else {
    checkCommon(input)
    checkTcpPort(input)
  }
  const pair = type === 'http' ? keyPairOf(input) : undefined
  try {
    return await write(ctx, async w => {
      await lockRoutes(w.tx)
      const current = found(await lookupRoute(w.tx, app_id, type, id))
      // The domain of a route never changes: another one names a route that is not there.
      if (type === 'http' && current.domain !== input.domain) notFound()
      const route =
        type === 'http' ? await updateHttp(w, current, input, pair) : await updateTcp(w, current, input)
      emitRoute(w, app_id, route, 'update')
      return route
    })
  } catch (e) {
    throw refused(e, input)
  }
}

async function hasDependents(tx: Tx, route: Route): Promise<boolean> {
  if (route.type !== 'http' || route.path !== '/') return false
  const others = (
    query: SelectQueryBuilder<Tables, 'http_routes', { id: string }>,
  ): SelectQueryBuilder<Tables, 'http_routes', { id: string }> =>
    query
      .where('domain', '=', route.domain ?? '')
      .where('deleted_at', 'is', null)
      .where('id', '<>', route.id)
      .limit(1)
  const rows = tx.selectFrom('http_routes').select('id')
  const dependent = await others(rows.where('path', '<>', '/')).executeTakeFirst()
  return (
    dependent !== undefined && (await others(rows.where('path', '=', '/')).executeTakeFirst()) === undefined
  )
}

async function deleteRoute(ctx: Context, req: FastifyRequest): Promise<void> {
  const { app_id } = await findApp(ctx.db, param(req, 'app'))
  const [type, id] = [param(req, 'type'), param(req, 'id')]
  await write(ctx, async w => {
    await lockRoutes(w.tx)
    const route = found(await lookupRoute(w.tx, app_id, type, id))
    if (await hasDependents(w.tx, route))
      throw errors.INVALID({
        text: 'Route has dependent routes',
        remedy: `remove the routes of ${route.domain} that have a path first`,
      })
    await w.tx
      .updateTable(route.type === 'http' ? 'http_routes' : 'tcp_routes')
      .set({ deleted_at: sql<string>`now()` })
      .where('id', '=', id)
      .execute()
    if (route.managed_certificate_domain) await settleManaged(w, route.managed_certificate_domain, false)
    w.emit({ app: app_id, type: 'route_deletion', objectId: id, data: route })
  })
}

export const routeRoutes: Routes = (server, ctx) => {
  server.post('/apps/:app/routes', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    return createRoute(ctx, app_id, bodyOf(req, RouteInput))
  })
  server.get('/apps/:app/routes', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    return listRoutes(ctx.db, app_id)
  })
  server.get('/routes', () => listRoutes(ctx.db))
  server.get('/apps/:app/routes/:type/:id', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    return found(await lookupRoute(ctx.db, app_id, param(req, 'type'), param(req, 'id')))
  })
  server.put('/apps/:app/routes/:type/:id', req => updateRoute(ctx, req))
  server.delete('/apps/:app/routes/:type/:id', async (req, reply) => {
    await deleteRoute(ctx, req)
    return reply.send()
  })
}
