// Retention: what the tables keep of the past (contract controller.md 7, item 10). Once an hour one worker deletes old
// events, ended jobs, finished scale requests and audit rows, a batch at a time, so that nobody waits for it. Called by
// main.ts.
import { sql } from 'kysely'
import { sleep } from '../../pkg/clock/clock.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { Db } from '../schema/write.ts'

const dayMs = 24 * 60 * 60_000

export const eventKeepMs = 30 * dayMs
/** Newest events that are kept at most, however young the others are. */
export const eventsMax = 500_000
export const jobKeepMs = 30 * dayMs
/** Ended jobs of one app that are kept at most: a process that crashes at its start makes many. */
export const jobsPerAppMax = 1_000
export const scaleKeepMs = 30 * dayMs
export const auditKeepMs = 365 * dayMs
/** Reports of the scheduler in the audit log. */
export const auditReportKeepMs = 7 * dayMs
export const retentionIntervalMs = 60 * 60_000
export const retentionBatchMax = 5_000
const retentionLock = 4_711_006

export type Removed = {
  readonly events: number
  readonly jobs: number
  readonly scales: number
  readonly audit: number
}

function cutoff(nowMs: number, keepMs: number): string {
  return new Date(nowMs - keepMs).toISOString()
}

/** Repeats a batch until it finds less than a whole one; returns how many rows went. */
async function batches(remove: () => Promise<number>, signal: AbortSignal): Promise<number> {
  let total = 0
  for (;;) {
    const removed = await remove()
    total += removed
    if (removed < retentionBatchMax || signal.aborted) return total
  }
}

/** The newest event of a deployment is its status (2.9) and stays as long as the deployment does. */
async function removeEvents(db: Db, nowMs: number): Promise<number> {
  const result = await sql`
    DELETE FROM events WHERE event_id IN (
      SELECT event_id FROM events AS old
      WHERE (created_at < ${cutoff(nowMs, eventKeepMs)}
          OR event_id <= (SELECT event_id FROM events ORDER BY event_id DESC OFFSET ${eventsMax} LIMIT 1))
        AND NOT (object_type = 'deployment' AND NOT EXISTS (
          SELECT FROM events AS newer WHERE newer.object_id = old.object_id
            AND newer.object_type = 'deployment' AND newer.event_id > old.event_id))
      ORDER BY event_id LIMIT ${retentionBatchMax})`.execute(db)
  return Number(result.numAffectedRows ?? 0)
}

const ended = sql`('down', 'crashed', 'failed')`

async function removeJobs(db: Db, nowMs: number): Promise<number> {
  return db.transaction().execute(async tx => {
    const { rows } = await sql<{ id: string }>`
      SELECT job_id AS id FROM (
        SELECT job_id, updated_at,
          row_number() OVER (PARTITION BY app_id ORDER BY created_at DESC) AS place
        FROM job_cache WHERE state IN ${ended}) AS jobs
      WHERE updated_at < ${cutoff(nowMs, jobKeepMs)} OR place > ${jobsPerAppMax}
      LIMIT ${retentionBatchMax}`.execute(tx)
    const ids = rows.map(row => row.id)
    if (ids.length === 0) return 0
    await sql`DELETE FROM job_volumes WHERE job_id = ANY (${ids}::uuid[])`.execute(tx)
    await sql`DELETE FROM job_cache WHERE job_id = ANY (${ids}::uuid[]) AND state IN ${ended}`.execute(tx)
    return ids.length
  })
}

async function removeScales(db: Db, nowMs: number): Promise<number> {
  const result = await sql`
    DELETE FROM scale_requests WHERE scale_request_id IN (
      SELECT scale_request_id FROM scale_requests
      WHERE state <> 'pending' AND updated_at < ${cutoff(nowMs, scaleKeepMs)}
      LIMIT ${retentionBatchMax})`.execute(db)
  return Number(result.numAffectedRows ?? 0)
}

async function removeAudit(db: Db, nowMs: number): Promise<number> {
  const result = await sql`
    DELETE FROM audit_log WHERE audit_id IN (
      SELECT audit_id FROM audit_log
      WHERE created_at < ${cutoff(nowMs, auditKeepMs)}
        OR (report AND created_at < ${cutoff(nowMs, auditReportKeepMs)})
      LIMIT ${retentionBatchMax})`.execute(db)
  return Number(result.numAffectedRows ?? 0)
}

/** Deletes what is too old at the given time. */
export async function removeOld(db: Db, nowMs: number, signal: AbortSignal): Promise<Removed> {
  return {
    events: await batches(() => removeEvents(db, nowMs), signal),
    jobs: await batches(() => removeJobs(db, nowMs), signal),
    scales: await batches(() => removeScales(db, nowMs), signal),
    audit: await batches(() => removeAudit(db, nowMs), signal),
  }
}

/** Once an hour until the signal aborts; of several workers one does it. */
export async function runRetention(db: Db, log: Logger, signal: AbortSignal): Promise<void> {
  while (!signal.aborted) {
    try {
      await db.connection().execute(async own => {
        const { rows } = await sql<{ held: boolean }>`
          SELECT pg_try_advisory_lock(${sql.lit(retentionLock)}) AS held`.execute(own)
        if (rows[0]?.held !== true) return
        try {
          const removed = await removeOld(db, Date.now(), signal)
          if (Object.values(removed).some(n => n > 0)) log.info(removed, 'old rows removed')
        } finally {
          await sql`SELECT pg_advisory_unlock(${sql.lit(retentionLock)})`.execute(own)
        }
      })
    } catch (err) {
      if (!signal.aborted) log.warn({ err }, 'old rows were not removed')
    }
    await sleep(retentionIntervalMs, signal).catch(() => undefined)
  }
}
