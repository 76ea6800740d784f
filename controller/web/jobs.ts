// Jobs as the scheduler reports them: put, list, get, active ones, kill (contract controller.md 2.8).
import type { FastifyRequest } from 'fastify'
import { type Selectable, sql } from 'kysely'
import { hostOfJob } from '../../host/client.ts'
import { sleep } from '../../pkg/clock/clock.ts'
import { describeError, isFlynnError } from '../../pkg/errors/errors.ts'
import { errors } from '../errors.ts'
import type { Tables } from '../schema/tables.ts'
import { type Db, jsonb, type Tx } from '../schema/write.ts'
import { Job, type JobExplanation } from '../types.ts'
import { findApp } from './app-lookup.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, notFound, param, type Routes, write } from './context.ts'
import { runJob } from './run-job.ts'
import { isUuid, omitNull } from './wire.ts'

/** How long the answer to a kill waits for the host to refuse; the stop itself may take longer. */
export const killAnswerMs = 1_000
const schedulerTimeoutMs = 3_000
const activeStates = ['pending', 'starting', 'up', 'stopping'] as const

type Row = Selectable<Tables['job_cache']> & { readonly volume_ids: readonly string[] }

export function toJob(row: Row): Job {
  return omitNull({
    id: row.cluster_id || null,
    uuid: row.job_id,
    host_id: row.host_id || null,
    app: row.app_id,
    release: row.release_id,
    type: row.process_type || null,
    state: row.state,
    args: row.args?.length ? row.args : null,
    volumes: row.volume_ids.length > 0 ? row.volume_ids : null,
    meta: Object.keys(row.meta ?? {}).length > 0 ? row.meta : null,
    exit_status: row.exit_status,
    host_error: row.host_error,
    run_at: row.run_at,
    restarts: row.restarts,
    created_at: row.created_at,
    updated_at: row.updated_at,
  })
}

function selectJobs(db: Db) {
  const ids = sql<string[]>`coalesce((
    SELECT array_agg(volume_id::text ORDER BY index) FROM job_volumes
    WHERE job_id = job_cache.job_id), '{}')`
  return db.selectFrom('job_cache').selectAll().select(ids.as('volume_ids'))
}

/** A job by `<host>-<uuid>` or bare uuid, or the plain 404. */
async function findJob(db: Db, id: string): Promise<Job> {
  const uuid = id.slice(-36)
  if (!isUuid(uuid) || (id !== uuid && id[id.length - 37] !== '-')) notFound()
  const row = found(await selectJobs(db).where('job_id', '=', uuid).executeTakeFirst())
  if (id !== uuid && row.cluster_id !== id) notFound()
  return toJob(row)
}

/** Volumes are put before the jobs that hold them. */
async function checkVolumes(tx: Tx, volumes: readonly string[]): Promise<void> {
  if (volumes.length === 0) return
  const rows = await tx
    .selectFrom('volumes')
    .select('volume_id')
    .where('volume_id', '=', sql<string>`ANY (${volumes}::uuid[])`)
    .execute()
  const known = new Set(rows.map(row => row.volume_id))
  const missing = volumes.find(id => !known.has(id))
  if (missing !== undefined)
    throw fieldError(
      'volumes',
      `names the volume ${missing}, which is not known`,
      `register it first: PUT /volumes/${missing}`,
    )
}

async function putVolumes(tx: Tx, jobId: string, volumes: readonly string[]): Promise<void> {
  await checkVolumes(tx, volumes)
  for (const [index, volumeId] of volumes.entries())
    await tx
      .insertInto('job_volumes')
      .values({ job_id: jobId, volume_id: volumeId, index })
      .onConflict(conflict => conflict.columns(['job_id', 'volume_id']).doUpdateSet({ index }))
      .execute()
}

function checkJob(job: Job): Job & { app: string; release: string; state: NonNullable<Job['state']> } {
  const { app, release, state } = job
  if (!isUuid(job.uuid)) throw fieldError('uuid', 'must be a UUID')
  if (!app || !isUuid(app)) throw fieldError('app', 'must be the UUID of an app')
  if (!release || !isUuid(release)) throw fieldError('release', 'must be the UUID of a release')
  if (!state) throw fieldError('state', 'is required')
  const badVolume = job.volumes?.find(id => !isUuid(id))
  if (badVolume !== undefined) throw fieldError('volumes', `holds ${badVolume}, which is not a UUID`)
  return { ...job, app, release, state }
}

/** Records a job. One event for each state it comes to, ever; members that are absent keep nothing but meta. */
async function putJob(ctx: Context, req: FastifyRequest): Promise<Job> {
  const job = checkJob(bodyOf(req, Job))
  const changing = {
    cluster_id: job.id ?? '',
    host_id: job.host_id ?? null,
    state: job.state,
    exit_status: job.exit_status ?? null,
    host_error: job.host_error ?? null,
    run_at: job.run_at ?? null,
    restarts: job.restarts ?? null,
    args: jsonb(job.args),
  }
  return write(ctx, async ({ tx, emit }) => {
    await tx
      .insertInto('job_cache')
      .values({
        job_id: job.uuid,
        app_id: job.app,
        release_id: job.release,
        process_type: job.type ?? '',
        meta: jsonb(job.meta),
        ...changing,
      })
      .onConflict(conflict =>
        conflict.column('job_id').doUpdateSet({
          ...changing,
          ...(job.meta === undefined ? {} : { meta: jsonb(job.meta) }),
          updated_at: sql`clock_timestamp()`,
        }),
      )
      .execute()
    await putVolumes(tx, job.uuid, job.volumes ?? [])
    const stored = toJob(await selectJobs(tx).where('job_id', '=', job.uuid).executeTakeFirstOrThrow())
    emit({
      app: job.app,
      type: 'job',
      objectId: job.uuid,
      uniqueId: `${job.uuid}|${job.state}`,
      data: stored,
    })
    return stored
  })
}

/** Asks the job's host to stop it; the answer does not wait for its end. */
async function killJob(ctx: Context, id: string): Promise<void> {
  const job = await findJob(ctx.db, id)
  const jobId = job.id
  if (!jobId)
    throw errors.INVALID({
      text: 'cannot kill a job which has not been placed on a host',
      remedy: 'wait until it is placed, or scale its process type down',
    })
  const host = hostOfJob(jobId, await ctx.hosts())
  if (!host)
    throw errors.HOST_FAILED({ host: job.host_id ?? jobId, action: 'stop the job', text: 'unknown host' })
  const stopped = host.client.stopJob(jobId, { retryMs: 0 }).then(
    () => undefined,
    (e: unknown) => e,
  )
  const failure = await Promise.race([stopped, sleep(killAnswerMs)])
  if (failure !== undefined)
    throw errors.HOST_FAILED(
      { host: host.id, action: 'stop the job', text: describeError(failure) },
      { cause: failure },
    )
  void stopped.then(e => {
    if (e !== undefined) ctx.log.warn({ err: e, job: jobId }, 'job was not stopped')
  })
}

/** What the controller has stored of the job, when the scheduler cannot tell. */
function storedExplanation(job: Job, why: string): JobExplanation {
  const { id, uuid, app = '', release = '', type, host_id: host, state = '', restarts, run_at } = job
  const over = state === 'down' || state === 'crashed' || state === 'failed'
  const status = job.exit_status === undefined ? '' : ` with status ${job.exit_status}`
  const error = job.host_error === undefined ? '' : `: ${job.host_error}`
  const on = host === undefined ? '' : ` on ${host}`
  const at = over && job.updated_at !== undefined ? ` at ${job.updated_at}` : ''
  return omitNull({
    ...{ uuid, app, release, state },
    id: id ?? null,
    type: type ?? null,
    host: host ?? null,
    summary: over ? `it ended${at}${on}${status}${error}` : `it is ${state}${on}`,
    notes: [why],
    run_at: run_at ?? null,
    restarts: restarts ?? null,
    exit_status: job.exit_status ?? null,
    host_error: job.host_error ?? null,
    live: false,
  })
}

async function explain(ctx: Context, id: string): Promise<JobExplanation> {
  const job = await findJob(ctx.db, id)
  let why = 'the scheduler no longer remembers it'
  try {
    const scheduler = await ctx.scheduler()
    if (scheduler !== undefined)
      return await scheduler.explainJob(job.uuid, { timeoutMs: schedulerTimeoutMs, retryMs: 0 })
    why = 'no scheduler leads now: nothing new is placed until one does'
  } catch (e) {
    if (!isFlynnError(e) || e.status !== 404) {
      ctx.log.warn({ err: e, job: job.uuid }, 'the scheduler does not explain')
      why = `the scheduler does not answer: ${describeError(e)}`
    }
  }
  return storedExplanation(job, why)
}

export const jobRoutes: Routes = (server, ctx) => {
  server.post('/apps/:app/jobs', req => runJob(ctx, req))
  server.get('/apps/:app/jobs', async req => {
    const { app_id } = await findApp(ctx.db, param(req, 'app'))
    const rows = await selectJobs(ctx.db).where('app_id', '=', app_id).orderBy('created_at', 'desc').execute()
    return rows.map(toJob)
  })
  server.get('/apps/:app/jobs/:job', req => findJob(ctx.db, param(req, 'job')))
  server.get('/apps/:app/jobs/:job/explanation', req => explain(ctx, param(req, 'job')))
  server.put('/apps/:app/jobs/:job', req => putJob(ctx, req))
  server.delete('/apps/:app/jobs/:job', async (req, reply) => {
    await killJob(ctx, param(req, 'job'))
    return reply.send()
  })
  server.get('/active-jobs', async () => {
    const rows = await selectJobs(ctx.db)
      .where('state', 'in', [...activeStates])
      .orderBy('updated_at', 'desc')
      .execute()
    return rows.map(toJob)
  })
}
