// Routes as rows and as wire objects (contracts controller.md 2.10, router.md 3.3).
import type { Selectable } from 'kysely'
import type { Tables } from '../schema/tables.ts'
import type { Db } from '../schema/write.ts'
import { type Certificate, type Route, routeParentRef } from '../types.ts'
import { certificatesOf } from './certificates.ts'
import { isUuid, omitEmpty } from './wire.ts'

export type HttpRow = Selectable<Tables['http_routes']>
export type TcpRow = Selectable<Tables['tcp_routes']>

const always = ['leader']

function httpRoute(row: HttpRow, certificate: Certificate | undefined, thumbprint: string | null): Route {
  return omitEmpty(
    {
      type: 'http',
      id: row.id,
      parent_ref: row.parent_ref,
      service: row.service,
      port: row.port,
      leader: row.leader,
      created_at: row.created_at,
      updated_at: row.updated_at,
      domain: row.domain,
      certificate,
      sticky: row.sticky,
      path: row.path,
      drain_backends: row.drain_backends,
      disable_keep_alives: row.disable_keep_alives,
      managed_certificate_domain: row.managed_certificate_domain,
      acme_thumbprint: row.managed_certificate_domain ? thumbprint : null,
      ...row.options,
    },
    always,
  )
}

/** Rows with what other tables hold of them, in the same order. */
export async function httpRoutes(db: Db, rows: readonly HttpRow[]): Promise<readonly Route[]> {
  const certificates = await certificatesOf(
    db,
    rows.map(row => row.id),
  )
  const account = rows.some(row => row.managed_certificate_domain)
    ? await db.selectFrom('acme_config').select('account_thumbprint').executeTakeFirst()
    : undefined
  const thumbprint = account?.account_thumbprint ?? null
  return rows.map(row => httpRoute(row, certificates.get(row.id), thumbprint))
}

export function tcpRoute(row: TcpRow): Route {
  return omitEmpty(
    {
      type: 'tcp',
      id: row.id,
      parent_ref: row.parent_ref,
      service: row.service,
      port: row.port,
      leader: row.leader,
      created_at: row.created_at,
      updated_at: row.updated_at,
      drain_backends: row.drain_backends,
      ...row.options,
    },
    always,
  )
}

/** Live routes of one app or of all, newest first. */
export async function listRoutes(db: Db, appId?: string): Promise<readonly Route[]> {
  let http = db.selectFrom('http_routes').selectAll().where('deleted_at', 'is', null)
  let tcp = db.selectFrom('tcp_routes').selectAll().where('deleted_at', 'is', null)
  if (appId !== undefined) {
    http = http.where('parent_ref', '=', routeParentRef(appId))
    tcp = tcp.where('parent_ref', '=', routeParentRef(appId))
  }
  const httpRows = await http.execute()
  const tcpRows = await tcp.execute()
  const at = (route: Route) => route.created_at.replace('Z', '').padEnd(26, '0')
  return [...(await httpRoutes(db, httpRows)), ...tcpRows.map(tcpRoute)].sort((a, b) =>
    at(a) < at(b) ? 1 : at(a) > at(b) ? -1 : 0,
  )
}

/** A live route of that app; undefined when it is another's or there is none. */
export async function lookupRoute(
  db: Db,
  appId: string,
  type: string,
  id: string,
): Promise<Route | undefined> {
  if (!isUuid(id)) return undefined
  if (type === 'http') {
    const row = await db
      .selectFrom('http_routes')
      .selectAll()
      .where('id', '=', id)
      .where('parent_ref', '=', routeParentRef(appId))
      .where('deleted_at', 'is', null)
      .executeTakeFirst()
    return row && (await httpRoutes(db, [row]))[0]
  }
  if (type !== 'tcp') return undefined
  const row = await db
    .selectFrom('tcp_routes')
    .selectAll()
    .where('id', '=', id)
    .where('parent_ref', '=', routeParentRef(appId))
    .where('deleted_at', 'is', null)
    .executeTakeFirst()
  return row && tcpRoute(row)
}
