// The log of one app: a file of framed records, rotated once (contract host.md 3.11). Appending and remembering how
// far each job's output has been taken over is one commit, so a killed daemon neither loses nor repeats a line.
import {
  closeSync,
  existsSync,
  fstatSync,
  ftruncateSync,
  openSync,
  readdirSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs'
import { join } from 'node:path'
import { type HostDatabase, transaction } from '../database.ts'

export const logRotateBytesMax = 100 * 1024 * 1024
/** Rotated files kept beside the live one. */
export const logBackupsMax = 1

/** How much of a job's output file has become records. */
export type OutputPosition = { readonly jobId: string; readonly stream: string; readonly position: number }

/** A file name for an app id; ids are UUIDs, anything else is made harmless. */
export function logFileName(app: string | undefined): string {
  return app && /^[A-Za-z0-9][A-Za-z0-9_-]{0,99}$/.test(app) ? app : 'no-app'
}

export function backupName(name: string, at: Date): string {
  return `${name}-${at.toISOString().slice(0, -1).replaceAll(':', '-')}.log`
}

const backupPattern = /-\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d\.\d{3}\.log$/

/** Every log file in a directory by app name, oldest file first, the live one last. */
export function logFiles(dir: string): ReadonlyMap<string, readonly string[]> {
  const byApp = new Map<string, string[]>()
  const files = existsSync(dir) ? readdirSync(dir).filter(f => f.endsWith('.log')) : []
  const backups = files.filter(f => backupPattern.test(f)).sort()
  const live = files.filter(f => !backupPattern.test(f))
  for (const file of [...backups, ...live]) {
    const app = file.replace(backupPattern, '').replace(/\.log$/, '')
    byApp.set(app, [...(byApp.get(app) ?? []), join(dir, file)])
  }
  return byApp
}

export type AppLogOptions = {
  readonly dir: string
  readonly name: string
  readonly database: HostDatabase
  /** After a power cut the database may be older than the file: then nothing is cut off it. */
  readonly trustDatabase: boolean
  readonly rotateBytesMax?: number
}

export class AppLog {
  readonly name: string
  readonly path: string
  readonly #options: AppLogOptions
  readonly #rotateBytesMax: number
  readonly #saveFile
  readonly #savePosition
  readonly #listeners = new Set<() => void>()
  #bytes: number
  /** Counts rotations, so that readers know that their file has become an old one. */
  generation = 0

  constructor(options: AppLogOptions) {
    this.#options = options
    this.name = options.name
    this.path = join(options.dir, `${options.name}.log`)
    this.#rotateBytesMax = options.rotateBytesMax ?? logRotateBytesMax
    const db = options.database.relaxed
    this.#saveFile = db.prepare(
      'INSERT INTO log_files (app, bytes) VALUES (?, ?) ON CONFLICT (app) DO UPDATE SET bytes = excluded.bytes',
    )
    this.#savePosition = db.prepare(
      `INSERT INTO log_positions (job_id, stream, position) VALUES (?, ?, ?)
       ON CONFLICT (job_id, stream) DO UPDATE SET position = excluded.position`,
    )
    const fd = openSync(this.path, 'a+', 0o640)
    this.#bytes = fstatSync(fd).size
    const row = db.prepare('SELECT bytes FROM log_files WHERE app = ?').get(options.name)
    const committed = row === undefined ? undefined : Number(row['bytes'])
    if (options.trustDatabase && committed !== undefined && this.#bytes > committed) {
      ftruncateSync(fd, committed)
      this.#bytes = committed
    }
    closeSync(fd)
  }

  /** Bytes of the live file that are committed. */
  get bytes(): number {
    return this.#bytes
  }

  /** Appends framed records and remembers the positions of the output they came from. Then tells the listeners. */
  append(records: readonly Uint8Array[], positions: readonly OutputPosition[]): void {
    if (records.length > 0) {
      if (this.#bytes >= this.#rotateBytesMax) this.#rotate()
      const data = Buffer.concat(records)
      // Opened for each batch: hundreds of quiet apps must not hold descriptors.
      const fd = openSync(this.path, 'a', 0o640)
      try {
        for (let at = 0; at < data.length; ) at += writeSync(fd, data, at)
      } finally {
        closeSync(fd)
      }
      this.#bytes += data.length
    }
    transaction(this.#options.database.relaxed, () => {
      this.#saveFile.run(this.name, this.#bytes)
      for (const p of positions) this.#savePosition.run(p.jobId, p.stream, p.position)
    })
    for (const listener of [...this.#listeners]) listener()
  }

  listen(listener: () => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  #rotate(): void {
    renameSync(this.path, join(this.#options.dir, backupName(this.name, new Date())))
    const files = logFiles(this.#options.dir).get(this.name) ?? []
    for (const old of files.slice(0, Math.max(0, files.length - logBackupsMax))) rmSync(old, { force: true })
    closeSync(openSync(this.path, 'a', 0o640))
    this.#bytes = 0
    this.generation++
  }
}
