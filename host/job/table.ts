// The job table: every change goes through the pure machine, is on disk before anyone hears of it, and is told to
// listeners in order. Down jobs beyond the listed ones stay readable by id (contract host.md 3.2).
import type { DatabaseSync } from 'node:sqlite'
import { type HostDatabase, transaction } from '../database.ts'
import { type ActiveJob, isActive, type Job, type JobEvent, type JobEventName } from '../types.ts'
import { changeJob, type JobChange, jobsToUnlist, newJob } from './job.core.ts'

/** Down jobs that are kept for reading by id; the oldest beyond are forgotten. */
export const unlistedJobsMax = 5_000

export type JobListener = (event: JobEvent) => void

export class JobTable {
  readonly #db: DatabaseSync
  readonly #hostId: string
  /** Active and listed jobs; the rest is read from disk. */
  readonly #jobs = new Map<string, ActiveJob>()
  /** Jobs whose resources are released. */
  readonly #cleaned = new Set<string>()
  readonly #listeners = new Set<JobListener>()
  readonly #insert
  readonly #update
  readonly #unlist
  readonly #select

  readonly #onFatal: (error: unknown) => void

  /** `onFatal` is called when the disk refuses a write: the daemon must end then, its jobs live on. */
  constructor(database: HostDatabase, hostId: string, onFatal: (error: unknown) => void) {
    this.#db = database.durable
    this.#hostId = hostId
    this.#onFatal = onFatal
    this.#insert = this.#db.prepare('INSERT INTO jobs (id, record, listed, created_at) VALUES (?, ?, 1, ?)')
    this.#update = this.#db.prepare('UPDATE jobs SET record = ?, cleaned = ? WHERE id = ?')
    this.#unlist = this.#db.prepare('UPDATE jobs SET listed = 0 WHERE id = ?')
    this.#select = this.#db.prepare('SELECT record, cleaned FROM jobs WHERE id = ?')
    const listed = this.#db.prepare(
      'SELECT id, record, cleaned FROM jobs WHERE listed = 1 ORDER BY created_at',
    )
    for (const row of listed.all()) {
      const job = JSON.parse(String(row['record'])) as ActiveJob
      this.#jobs.set(job.job.id, job)
      if (row['cleaned'] === 1) this.#cleaned.add(job.job.id)
    }
  }

  /** Listed jobs, oldest first. */
  list(): readonly ActiveJob[] {
    return [...this.#jobs.values()]
  }

  active(): readonly ActiveJob[] {
    return this.list().filter(isActive)
  }

  /** Any job this host still knows, listed or not. */
  get(id: string): ActiveJob | undefined {
    const known = this.#jobs.get(id)
    if (known) return known
    const row = this.#select.get(id)
    return row === undefined ? undefined : (JSON.parse(String(row['record'])) as ActiveJob)
  }

  /** True once the resources of a down job are released. */
  isCleaned(id: string): boolean {
    return this.#cleaned.has(id) || (!this.#jobs.has(id) && this.get(id) !== undefined)
  }

  /** The active job that a volume is bound to. */
  boundTo(volume: string): ActiveJob | undefined {
    return this.active().find(a => a.job.config.volumes?.some(v => v.volume === volume))
  }

  /** Stores a new job and tells `create`. The id must be free. */
  add(job: Job): ActiveJob {
    const active = newJob(job, this.#hostId, new Date())
    this.#write(() => this.#insert.run(job.id, JSON.stringify(active), active.created_at))
    this.#jobs.set(job.id, active)
    this.#emit('create', active)
    return active
  }

  /** Ends `id` with `change` and stores its successor in the same step: neither happens without the other. */
  replace(id: string, change: JobChange, successor: Job): void {
    const old = this.#require(id)
    const step = changeJob(old, change)
    const next = newJob(successor, this.#hostId, new Date())
    this.#write(() => {
      this.#update.run(JSON.stringify(step.job), 0, id)
      this.#insert.run(successor.id, JSON.stringify(next), next.created_at)
    })
    this.#jobs.set(id, step.job)
    this.#jobs.set(successor.id, next)
    if (step.event) this.#emit(step.event, step.job)
    this.#emit('create', next)
  }

  /** Applies a change. Answers the record after it, which is the one before when the change came too late. */
  change(id: string, change: JobChange): ActiveJob {
    const before = this.#require(id)
    const step = changeJob(before, change)
    const cleaned = step.event === 'cleanup'
    if (step.job === before && !cleaned) return before
    this.#write(() => this.#update.run(JSON.stringify(step.job), cleaned ? 1 : 0, id))
    this.#jobs.set(id, step.job)
    if (cleaned) this.#cleaned.add(id)
    if (step.event) this.#emit(step.event, step.job)
    if (cleaned) this.#prune()
    return step.job
  }

  /** Events from now on, in order. Returns the function that ends it. */
  listen(listener: JobListener): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #require(id: string): ActiveJob {
    const job = this.#jobs.get(id)
    if (!job) throw new Error(`job ${id} is not in the table`)
    return job
  }

  /** The table on disk is the truth about the node: a write that fails is the end of this daemon. */
  #write(work: () => unknown): void {
    try {
      transaction(this.#db, work)
    } catch (e) {
      this.#onFatal(e)
      throw e
    }
  }

  #emit(event: JobEventName, job: ActiveJob): void {
    const value: JobEvent = { event, job_id: job.job.id, job }
    for (const listener of [...this.#listeners]) listener(value)
  }

  #prune(): void {
    // A job whose resources are not released yet stays: somebody is still at work on it.
    const over = jobsToUnlist(
      [...this.#jobs.values()].filter(j => isActive(j) || this.#cleaned.has(j.job.id)),
    )
    if (over.length === 0) return
    this.#write(() => {
      for (const id of over) this.#unlist.run(id)
      this.#db
        .prepare(
          `DELETE FROM jobs WHERE listed = 0 AND id NOT IN
             (SELECT id FROM jobs WHERE listed = 0 ORDER BY created_at DESC LIMIT ?)`,
        )
        .run(unlistedJobsMax)
    })
    for (const id of over) {
      this.#jobs.delete(id)
      this.#cleaned.delete(id)
    }
  }
}
