// Times and durations as the original prints them (contract cli.md 7, 8.2).
import { duration } from '../pkg/table/table.ts'

/** `2006-01-02 15:04:05.999999 +0000 UTC`, or `<nil>` for no time. */
export function goTime(time: string | undefined): string {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d+))?Z$/.exec(time ?? '')
  if (!match) return time ?? '<nil>'
  const fraction = (match[3] ?? '').slice(0, 6).replace(/0+$/, '')
  return `${match[1]} ${match[2]}${fraction === '' ? '' : `.${fraction}`} +0000 UTC`
}

/** `3 minutes ago`; empty for no time. */
export function ago(time: string | undefined): string {
  return time ? `${duration(Date.now() - Date.parse(time))} ago` : ''
}

/** A duration as Go prints it: 507.159389ms, 3.944629056s, 1m2.5s. */
export function goDuration(ms: number): string {
  const trim = (n: number, digits: number) => String(Number(n.toFixed(digits)))
  if (ms < 1000) return `${trim(ms, 6)}ms`
  const minutes = Math.floor(ms / 60_000)
  const seconds = `${trim((ms - minutes * 60_000) / 1000, 9)}s`
  return minutes > 0 ? `${minutes}m${seconds}` : seconds
}
