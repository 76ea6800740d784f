// What people and machines are shown of a drain: one line for each thing that is left, and which of them are news. Pure;
// used by drain.ts.
import type { DrainReport } from '../../controller/types.ts'

export type DrainLine = {
  readonly key: string
  readonly what: string
  readonly action: string
  readonly text: string
}

/** A job that the controller knows nothing of. */
export type ForeignJob = { readonly id: string; readonly program: string }

const idChars = 8

/** What has to go before the host is empty; what stays has `action` `stay`. */
export function drainLines(report: DrainReport, foreign: readonly ForeignJob[]): readonly DrainLine[] {
  return [
    ...report.jobs.map(job => ({
      key: `job ${job.uuid}`,
      what: `${job.app}${job.type === '' ? '' : `/${job.type}`} ${job.uuid.slice(0, idChars)}`,
      action: job.action,
      text: job.note,
    })),
    ...report.volumes.map(volume => ({
      key: `volume ${volume.id}`,
      what: `volume ${volume.id.slice(0, idChars)} of ${volume.app}/${volume.type} ${volume.path}`,
      action: 'copy',
      text: volume.note,
    })),
    ...foreign.map(job => ({
      key: `job ${job.id}`,
      what: `${job.program} ${job.id}`,
      action: 'wait',
      text: 'not of the controller: it ends by itself, or stop it with flynn-host stop',
    })),
  ]
}

/** The lines that say something new, and the things that are gone. */
export function drainNews(
  before: ReadonlyMap<string, DrainLine>,
  now: readonly DrainLine[],
): readonly DrainLine[] {
  const keys = new Set(now.map(line => line.key))
  const fresh = now.filter(line => before.get(line.key)?.text !== line.text)
  const gone = [...before.values()]
    .filter(line => !keys.has(line.key))
    .map(line => ({ ...line, text: 'gone from this host' }))
  return [...gone, ...fresh]
}

const units: Readonly<Record<string, number>> = { s: 1_000, m: 60_000, h: 3_600_000 }

/** Milliseconds of `90s`, `10m`, `1h` or a number of seconds; undefined for anything else. */
export function parseDuration(text: string): number | undefined {
  const match = /^(\d{1,6})([smh]?)$/.exec(text.trim())
  if (!match) return undefined
  const ms = Number(match[1]) * (units[match[2] || 's'] ?? 0)
  return ms > 0 ? ms : undefined
}
