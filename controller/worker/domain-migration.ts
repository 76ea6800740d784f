// The task `domain_migration` (contract controller.md 5.5): a certificate for the new names, controller and router
// deployed with it, and every http route under the old domain made again under the new one. Old routes stay. Each step
// looks first whether it is done: the deployment of the controller replaces this worker, too.
import { sql } from 'kysely'
import { poll } from '../../pkg/clock/clock.ts'
import { describeError, isFlynnError } from '../../pkg/errors/errors.ts'
import { certificatePin, createClusterCertificate } from '../../pkg/tls/certificate.ts'
import { orUndefined } from '../client.ts'
import { jsonb, writeTo } from '../schema/write.ts'
import {
  type App,
  type Deployment,
  type DomainMigration,
  type Route,
  type RouteInput,
  RouteOptions,
  type TlsCert,
} from '../types.ts'
import type { TaskContext } from './context.ts'
import { errors } from './errors.ts'

/** A deployment that somebody else began is waited for so long. */
export const otherDeploymentTimeoutMs = 120_000
export const migrationDeployTimeoutMs = 300_000
const deploymentPollMs = 500

type Row = {
  readonly migration_id: string
  readonly old_domain: string
  readonly domain: string
  readonly old_tls_cert: TlsCert | null
  readonly tls_cert: TlsCert | null
  readonly created_at: string
  readonly finished_at: string | null
}

type WholeCert = {
  readonly ca_cert: string
  readonly cert: string
  readonly key: string
  readonly pin: string
}

export async function runDomainMigration(ctx: TaskContext, payload: { readonly ID: string }): Promise<void> {
  const row = await ctx.db
    .selectFrom('domain_migrations')
    .selectAll()
    .where('migration_id', '=', payload.ID)
    .executeTakeFirst()
  if (row === undefined || row.finished_at !== null) return
  ctx.log.info({ from: row.old_domain, to: row.domain }, 'domain migration begins')
  try {
    const cert = await certificateFor(ctx, row)
    await deployWith(ctx, 'controller', { DEFAULT_ROUTE_DOMAIN: row.domain, CA_CERT: cert.ca_cert })
    await deployWith(ctx, 'router', { TLSCERT: cert.cert, TLSKEY: cert.key })
    await migrateRoutes(ctx, row, cert)
  } catch (e) {
    if (ctx.signal.aborted) throw errors.WORKER_STOPPED({}, { cause: e })
    await tell(ctx, row, describeError(e))
    throw e
  }
  await finish(ctx, row)
  ctx.log.info({ domain: row.domain }, 'domain migration complete')
}

function withoutKey(cert: TlsCert | null): TlsCert | undefined {
  if (cert === null) return undefined
  const { key: _secret, ...shown } = cert
  return shown
}

function toMigration(row: Row): DomainMigration {
  const [old, fresh] = [withoutKey(row.old_tls_cert), withoutKey(row.tls_cert)]
  return {
    id: row.migration_id,
    old_domain: row.old_domain,
    domain: row.domain,
    ...(old === undefined ? {} : { old_tls_cert: old }),
    ...(fresh === undefined ? {} : { tls_cert: fresh }),
    created_at: row.created_at,
    ...(row.finished_at === null ? {} : { finished_at: row.finished_at }),
  }
}

async function tell(ctx: TaskContext, row: Row, error?: string): Promise<void> {
  await writeTo(ctx.db, async w =>
    w.emit({
      type: 'domain_migration',
      objectId: row.migration_id,
      data: { domain_migration: toMigration(row), ...(error === undefined ? {} : { error }) },
      op: 'update',
    }),
  )
}

/** The certificate that was sent along, or one that is made once and kept for the next attempt. */
async function certificateFor(ctx: TaskContext, row: Row): Promise<WholeCert> {
  const given = row.tls_cert
  if (given?.cert && given.key)
    return {
      ca_cert: given.ca_cert ?? '',
      cert: given.cert,
      key: given.key,
      pin: given.pin || certificatePin(given.cert),
    }
  const made = await createClusterCertificate([row.domain, `*.${row.domain}`], new Date())
  const cert = { ca_cert: made.ca_cert, cert: made.cert, key: made.private_key, pin: made.pin }
  await storeCertificate(ctx, row, cert)
  return cert
}

async function storeCertificate(ctx: TaskContext, row: Row, cert: TlsCert): Promise<void> {
  await ctx.db
    .updateTable('domain_migrations')
    .set({ tls_cert: jsonb(cert) })
    .where('migration_id', '=', row.migration_id)
    .execute()
}

async function unfinished(ctx: TaskContext, app: string): Promise<Deployment | undefined> {
  const list = await ctx.controller.deployments(app, { signal: ctx.signal })
  return list.find(d => d.finished_at === undefined)
}

/** Deploys a copy of the app's release with these variables, unless it has them. */
async function deployWith(
  ctx: TaskContext,
  app: string,
  variables: Readonly<Record<string, string>>,
): Promise<void> {
  const call = { signal: ctx.signal }
  const done = async () => (await unfinished(ctx, app)) === undefined
  const wait = (timeoutMs: number) =>
    poll(done, {
      timeoutMs,
      intervalMs: deploymentPollMs,
      signal: ctx.signal,
      what: `the deployment of ${app}`,
    })
  await wait(otherDeploymentTimeoutMs)
  const current = await ctx.controller.appRelease(app, call)
  if (Object.entries(variables).every(([name, value]) => current.env?.[name] === value)) return
  const { id: _id, created_at: _at, artifact: _first, artifacts, processes, ...rest } = current
  const release = await ctx.controller.createRelease(
    {
      ...(rest.app_id === undefined ? {} : { app_id: rest.app_id }),
      artifacts: [...(artifacts ?? [])],
      ...(processes === undefined ? {} : { processes: { ...processes } }),
      ...(rest.meta === undefined ? {} : { meta: { ...rest.meta } }),
      env: { ...rest.env, ...variables },
    },
    call,
  )
  const { id } = await ctx.controller.createDeployment(app, release.id, call)
  await wait(migrationDeployTimeoutMs)
  const { status } = await ctx.controller.deployment(id, call)
  if (status !== 'complete') throw errors.DEPLOYMENT_FAILED({ app, deployment: id })
}

/** The same name under the other domain; undefined for a route of another domain. */
export function movedName(name: string, from: string, to: string): string | undefined {
  if (name === from) return to
  return name.endsWith(`.${from}`) ? `${name.slice(0, -from.length)}${to}` : undefined
}

/** Routes at `/` come first: those under a path depend on them. */
async function migrateRoutes(ctx: TaskContext, row: Row, cert: WholeCert): Promise<void> {
  const routes = await ctx.controller.routes({ signal: ctx.signal })
  const ours = routes.filter(r => r.type === 'http')
  const { enabled: acme } = await ctx.controller.acmeConfig({ signal: ctx.signal })
  for (const route of ours.toSorted((a, b) => (a.path?.length ?? 0) - (b.path?.length ?? 0))) {
    const domain = movedName(route.domain ?? '', row.old_domain, row.domain)
    const app = /^controller\/apps\/(.+)$/.exec(route.parent_ref ?? '')?.[1]
    if (domain === undefined || app === undefined) continue
    if ((await orUndefined(ctx.controller.app(app, { signal: ctx.signal }))) === undefined) continue
    await createMoved(ctx, app, movedRoute(route, domain, row, cert, acme))
  }
}

/**
 * The cluster's own certificate is replaced; others are for the old name and of no use under the new one. Automatic ones
 * are ordered for the new name while there is an account (`acme`).
 */
export function movedRoute(
  route: Route,
  domain: string,
  row: Pick<Row, 'old_tls_cert'>,
  cert: Pick<WholeCert, 'cert' | 'key'>,
  acme: boolean,
): RouteInput {
  const options = Object.keys(RouteOptions.properties) as readonly (keyof RouteOptions)[]
  const own = route.certificate?.cert?.trim() === row.old_tls_cert?.cert?.trim()
  return {
    type: 'http',
    service: route.service,
    domain,
    leader: route.leader,
    sticky: route.sticky ?? false,
    path: route.path ?? '/',
    drain_backends: route.drain_backends ?? false,
    disable_keep_alives: route.disable_keep_alives ?? false,
    ...Object.fromEntries(options.flatMap(name => (route[name] ? [[name, route[name]]] : []))),
    ...(acme && route.managed_certificate_domain ? { managed_certificate_domain: domain.toLowerCase() } : {}),
    ...(route.certificate && own ? { certificate: { cert: cert.cert, key: cert.key } } : {}),
  }
}

async function createMoved(ctx: TaskContext, app: App['id'], input: RouteInput): Promise<void> {
  try {
    await ctx.controller.createRoute(app, input, { signal: ctx.signal })
  } catch (e) {
    // Made by an earlier attempt, or by hand.
    if (!isFlynnError(e, 'conflict')) throw e
  }
}

/** The private key leaves the table: the router's release has it. */
async function finish(ctx: TaskContext, row: Row): Promise<void> {
  await writeTo(ctx.db, async w => {
    const finished = await w.tx
      .updateTable('domain_migrations')
      .set({
        finished_at: sql<string>`clock_timestamp()`,
        tls_cert: sql<string>`tls_cert - 'key'`,
      })
      .where('migration_id', '=', row.migration_id)
      .where('finished_at', 'is', null)
      .returningAll()
      .executeTakeFirst()
    if (finished === undefined) return
    w.emit({
      type: 'domain_migration',
      objectId: row.migration_id,
      data: { domain_migration: toMigration(finished) },
      op: 'update',
    })
  })
}
