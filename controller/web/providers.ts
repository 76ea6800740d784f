// Providers: create, list, get (contract controller.md 2.11).
import type { FastifyRequest } from 'fastify'
import type { Selectable } from 'kysely'
import { constraintOf, sqlState, sqlStates } from '../../pkg/pg/pg.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import type { Db } from '../schema/write.ts'
import { type Provider, ProviderInput } from '../types.ts'
import { checkId } from './app-lookup.ts'
import { bodyOf } from './body.ts'
import { type Context, found, param, type Routes, write } from './context.ts'
import { maybeUuid } from './wire.ts'

export function toProvider(row: Selectable<Tables['providers']>): Provider {
  return {
    id: row.provider_id,
    url: row.url,
    name: row.name,
    created_at: row.created_at,
    updated_at: row.updated_at,
  }
}

/** A live provider by id or name, or the plain 404. */
export async function findProvider(db: Db, idOrName: string): Promise<Provider> {
  const row = await db
    .selectFrom('providers')
    .selectAll()
    .where('deleted_at', 'is', null)
    .where(eb =>
      eb.or([eb('name', '=', idOrName), ...(maybeUuid(idOrName) ? [eb('provider_id', '=', idOrName)] : [])]),
    )
    .executeTakeFirst()
  return toProvider(found(row))
}

async function createProvider(ctx: Context, req: FastifyRequest): Promise<Provider> {
  const input = bodyOf(req, ProviderInput)
  checkId(input.id)
  try {
    return await write(ctx, async ({ tx, emit }) => {
      const row = await tx
        .insertInto('providers')
        .values({ ...(input.id ? { provider_id: input.id } : {}), name: input.name, url: input.url })
        .returningAll()
        .executeTakeFirstOrThrow()
      const provider = toProvider(row)
      emit({ type: 'provider', objectId: provider.id, data: provider, op: 'create' })
      return provider
    })
  } catch (e) {
    if (sqlState(e) !== sqlStates.uniqueViolation) throw e
    const field = /url|name/.exec(constraintOf(e) ?? '')?.[0] ?? 'id'
    const name = { url: input.url, name: input.name }[field] ?? input.id ?? ''
    throw errors.OBJECT_EXISTS({ kind: field === 'url' ? 'provider with URL' : 'provider', name, field })
  }
}

export const providerRoutes: Routes = (server, ctx) => {
  server.post('/providers', req => createProvider(ctx, req))
  server.get('/providers', async () => {
    const rows = await ctx.db
      .selectFrom('providers')
      .selectAll()
      .where('deleted_at', 'is', null)
      .orderBy('created_at', 'desc')
      .execute()
    return rows.map(toProvider)
  })
  server.get('/providers/:provider', req => findProvider(ctx.db, param(req, 'provider')))
}
