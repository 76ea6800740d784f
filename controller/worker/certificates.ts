// Automatic certificates (contract router.md 7): orders what is due from the authority and gives it to the routes of its
// domain, which tells the routers. One worker at a time does it, under an advisory lock. An attempt is written down
// before it is made, so that a worker that dies in it does not make the authority count it twice.
import { randomBytes, X509Certificate } from 'node:crypto'
import { type Selectable, sql } from 'kysely'
import { AcmeClient, AcmeError } from '../../pkg/acme/client.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import { exchange } from '../../pkg/http/request.ts'
import { routerHttpService } from '../../router/types.ts'
import type { Tables } from '../schema/tables.ts'
import { type Write, writeTo } from '../schema/write.ts'
import { acmeDirectory } from '../types.ts'
import { acmeConfig, acmeConfigId, changeManaged } from '../web/acme.ts'
import { linkCertificate } from '../web/certificates.ts'
import { httpRoutes } from '../web/route-rows.ts'
import { dueNow, renewalAt, retryAt } from './certificates.core.ts'
import type { TaskContext } from './context.ts'
import { errors } from './errors.ts'

export const certificateLookMs = 60_000
const certificateLock = 4_711_008
/** How long a pass waits for another one to end. */
const passWaitMs = 600_000
/** How long the routers may take until all of them answer for a new domain. */
export const challengeWaitMs = 30_000
const challengeTimeoutMs = 2_000
const lastErrorLengthMax = 1_000

type Row = Selectable<Tables['managed_certificates']>
type Account = {
  readonly client: AcmeClient
  readonly thumbprint: string
  readonly directoryUrl: string
}

/** Looks each minute until the worker is told to stop. */
export async function runCertificates(ctx: TaskContext): Promise<void> {
  while (!ctx.signal.aborted) {
    try {
      await underLock(ctx)
    } catch (err) {
      if (!ctx.signal.aborted) ctx.log.warn({ err }, 'automatic certificates were not looked after')
    }
    await sleep(certificateLookMs, ctx.signal).catch(() => undefined)
  }
}

/** The task `managed_certificates`: something is due. Waits for a pass that is under way, which may not know of it. */
export async function runCertificatesNow(ctx: TaskContext): Promise<void> {
  const what = 'another pass over automatic certificates'
  const { signal } = ctx
  // A pass that fails is tried again by the queue; only a taken lock is waited for.
  let failure: unknown
  const attempt = async () => {
    try {
      return await underLock(ctx)
    } catch (e) {
      failure = e
      return true
    }
  }
  await poll(attempt, { timeoutMs: passWaitMs, intervalMs: 1_000, signal, what })
  if (failure !== undefined) throw failure
}

/** False when another worker has the lock. */
function underLock(ctx: TaskContext): Promise<boolean> {
  return ctx.db.connection().execute(async own => {
    const { rows } = await sql<{ held: boolean }>`
      SELECT pg_try_advisory_lock(${sql.lit(certificateLock)}) AS held`.execute(own)
    if (rows[0]?.held !== true) return false
    try {
      while (await pass(ctx)) ctx.signal.throwIfAborted()
      return true
    } finally {
      await sql`SELECT pg_advisory_unlock(${sql.lit(certificateLock)})`.execute(own)
    }
  })
}

/** Orders what is due; false when nothing was. */
async function pass(ctx: TaskContext): Promise<boolean> {
  // Rows first: those that a move to another authority made due must not meet the configuration of before.
  const rows = await ctx.db
    .selectFrom('managed_certificates')
    .selectAll()
    .where('deleted_at', 'is', null)
    .execute()
  const config = await acmeConfig(ctx.db)
  if (!config?.enabled || !config.account_key) return false
  const waiting = rows.map(row => ({
    id: row.id,
    nextMs: Date.parse(row.next_attempt_at),
    triedMs: row.tried_at === null ? undefined : Date.parse(row.tried_at),
  }))
  const due = dueNow(waiting, Date.now())
  if (due.length === 0) return false
  const directoryUrl = config.directory_url || acmeDirectory
  const client = new AcmeClient(
    { directoryUrl, accountKey: config.account_key, signal: ctx.signal },
    config.account_url ?? undefined,
  )
  if (!config.account_url) await register(ctx, client, config.contact_email ?? '')
  const account = { client, directoryUrl, thumbprint: config.account_thumbprint ?? '' }
  await Promise.all(rows.filter(row => due.includes(row.id)).map(row => order(ctx, account, row)))
  return true
}

async function register(ctx: TaskContext, client: AcmeClient, email: string): Promise<void> {
  const account_url = await client.register(email)
  await ctx.db.updateTable('acme_config').set({ account_url }).where('id', '=', acmeConfigId).execute()
  ctx.log.info({ account: account_url }, 'registered with the certificate authority')
}

async function order(ctx: TaskContext, account: Account, row: Row): Promise<void> {
  const attempts = row.attempts + 1
  const nowMs = Date.now()
  await writeTo(ctx.db, w =>
    changeManaged(w, row.id, {
      attempts,
      status: row.expires_at === null ? 'pending' : 'renewing',
      tried_at: new Date(nowMs).toISOString(),
      next_attempt_at: new Date(retryAt(row.id, attempts, nowMs, undefined)).toISOString(),
    }),
  )
  try {
    await routersAnswer(ctx, row.domain, account.thumbprint)
    const pair = await account.client.issue(row.domain)
    await writeTo(ctx.db, w => install(w, account, row, pair))
    ctx.log.info({ domain: row.domain }, 'certificate issued')
  } catch (err) {
    ctx.signal.throwIfAborted()
    ctx.log.warn({ err, domain: row.domain }, 'certificate not issued')
    await failed(ctx, account, row, attempts, err)
  }
}

/** The cluster has gone to another authority since this one was asked: what it said counts for nothing. */
async function left(w: Write, { directoryUrl }: Account): Promise<boolean> {
  return ((await acmeConfig(w.tx))?.directory_url || acmeDirectory) !== directoryUrl
}

async function failed(
  ctx: TaskContext,
  account: Account,
  row: Row,
  attempts: number,
  err: unknown,
): Promise<void> {
  const now = Date.now()
  const retryAfterMs = err instanceof AcmeError ? err.retryAfterMs : undefined
  await writeTo(ctx.db, async w => {
    if (await left(w, account)) return
    await changeManaged(w, row.id, {
      status: 'failed',
      last_error: describeError(err).slice(0, lastErrorLengthMax),
      last_error_at: new Date(now).toISOString(),
      next_attempt_at: new Date(retryAt(row.id, attempts, now, retryAfterMs)).toISOString(),
    })
  })
}

/**
 * Rejects unless every router answers a challenge of the domain. The authority may ask any of them and counts what fails;
 * asking ourselves first costs nothing.
 */
async function routersAnswer(ctx: TaskContext, domain: string, thumbprint: string): Promise<void> {
  const token = randomBytes(16).toString('base64url')
  const { signal } = ctx
  const answers = async (addr: string): Promise<boolean> => {
    const url = new URL(`http://${addr}/.well-known/acme-challenge/${token}`)
    const response = await exchange(url, {
      headers: { host: domain },
      signal: AbortSignal.any([signal, AbortSignal.timeout(challengeTimeoutMs)]),
    })
    return (await response.body.text()) === `${token}.${thumbprint}`
  }
  let silent = ''
  const all = async (): Promise<boolean> => {
    const addrs = (await ctx.instances(routerHttpService)).map(i => i.addr)
    const right = await Promise.all(addrs.map(addr => answers(addr).catch(() => false)))
    silent = addrs.filter((_, n) => !right[n]).join(', ')
    return addrs.length > 0 && silent === ''
  }
  try {
    await poll(all, { timeoutMs: challengeWaitMs, intervalMs: 200, signal, what: 'the routers' })
  } catch {
    signal.throwIfAborted()
    throw errors.CHALLENGE_UNANSWERED({ domain, routers: silent || 'none is registered' })
  }
}

/** The certificate goes to every route of the domain; none is left when they were removed meanwhile. */
async function install(
  w: Write,
  account: Account,
  row: Row,
  pair: { readonly cert: string; readonly key: string },
): Promise<void> {
  if (await left(w, account)) return
  const trimmed = { cert: pair.cert.trim(), key: pair.key.trim() }
  const { validFromDate, validToDate } = new X509Certificate(trimmed.cert)
  await changeManaged(w, row.id, {
    status: 'issued',
    attempts: 0,
    last_error: null,
    last_error_at: null,
    expires_at: validToDate.toISOString(),
    next_attempt_at: new Date(
      renewalAt(row.id, validFromDate.getTime(), validToDate.getTime()),
    ).toISOString(),
  })
  const routes = await w.tx
    .selectFrom('http_routes')
    .selectAll()
    .where('managed_certificate_domain', '=', row.domain)
    .where('deleted_at', 'is', null)
    .forUpdate()
    .execute()
  for (const route of routes) await linkCertificate(w.tx, route.id, trimmed)
  for (const route of await httpRoutes(w.tx, routes)) {
    const app = route.parent_ref?.split('/').at(-1)
    w.emit({ app, type: 'route', objectId: route.id, data: route, op: 'update' })
  }
}
