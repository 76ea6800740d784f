// Counts the bytes of a dump or restore and shows how it goes, on standard error when that is a terminal (contract
// cli.md 7). Nothing of it ever reaches standard output, where the data are.
import { Transform } from 'node:stream'

export const refreshMs = 200
const units = ['B', 'KB', 'MB', 'GB', 'TB']
const barWidth = 30

export function size(bytes: number): string {
  let [rest, unit] = [bytes, 0]
  while (rest >= 1024 && unit < units.length - 1) [rest, unit] = [rest / 1024, unit + 1]
  return `${rest.toFixed(2)} ${units[unit]}`
}

function span(seconds: number): string {
  const whole = Math.max(0, Math.round(seconds))
  return whole < 60 ? `${whole}s` : `${Math.floor(whole / 60)}m${whole % 60}s`
}

/** One line: how much, how fast, how long; with a known total also how far. */
export function meterLine(bytes: number, elapsedMs: number, total: number | undefined): string {
  const seconds = elapsedMs / 1000
  const speed = seconds > 0 ? bytes / seconds : 0
  if (total === undefined || total === 0) return `${size(bytes)} ${size(speed)}/s ${span(seconds)}`
  const part = Math.min(1, bytes / total)
  const filled = Math.round(part * barWidth)
  const bar = `[${'='.repeat(Math.max(0, filled - 1))}${filled > 0 ? '>' : ''}${'-'.repeat(barWidth - filled)}]`
  const rest = speed > 0 ? span((total - bytes) / speed) : ''
  return `${size(bytes)} / ${size(total)} ${bar} ${(part * 100).toFixed(2)} % ${size(speed)}/s ${rest}`.trimEnd()
}

export type MeterOptions = { readonly quiet: boolean; readonly total?: number | undefined }
export type Meter = { readonly stream: Transform; close(): void }

/** A stream that lets everything through and counts it. `close` ends the line. */
export function meter({ quiet, total }: MeterOptions): Meter {
  let bytes = 0
  const began = performance.now()
  const shown = !quiet && process.stderr.isTTY === true
  const draw = () => {
    const line = meterLine(bytes, performance.now() - began, total)
    process.stderr.write(`\r\x1b[K${line.slice(0, (process.stderr.columns || 80) - 1)}`)
  }
  const timer = shown ? setInterval(draw, refreshMs) : undefined
  const stream = new Transform({
    transform(chunk: Buffer, _encoding, done) {
      bytes += chunk.length
      done(null, chunk)
    },
  })
  return {
    stream,
    close() {
      if (timer === undefined) return
      clearInterval(timer)
      draw()
      process.stderr.write('\n')
    },
  }
}
