// Text tables for terminals: columns padded with spaces, two between cells, last column unpadded
// (contract host.md 0.5), and elapsed times in words as the original prints them.

/** Rows of cells as aligned lines, each ending in a newline; empty input gives an empty string. */
export function table(rows: readonly (readonly string[])[]): string {
  const widths: number[] = []
  for (const row of rows)
    row.forEach((cell, i) => {
      widths[i] = Math.max(widths[i] ?? 0, cell.length)
    })
  return rows
    .map(row => row.map((cell, i) => (i === row.length - 1 ? cell : cell.padEnd(widths[i] ?? 0))).join('  '))
    .map(line => `${line}\n`)
    .join('')
}

const secondMs = 1000
const minuteMs = 60 * secondMs
const hourMs = 60 * minuteMs
const dayMs = 24 * hourMs

/** An elapsed time in words, without "ago" (contract host.md 0.5). */
export function duration(ms: number): string {
  const seconds = Math.floor(ms / secondMs)
  const minutes = Math.floor(ms / minuteMs)
  const hours = Math.floor(ms / hourMs)
  const days = Math.floor(ms / dayMs)
  if (seconds < 1) return 'Less than a second'
  if (seconds < 60) return `${seconds} seconds`
  if (minutes === 1) return 'About a minute'
  if (minutes < 60) return `${minutes} minutes`
  if (hours === 1) return 'About an hour'
  if (hours < 48) return `${hours} hours`
  if (days < 14) return `${days} days`
  if (days < 90) return `${Math.floor(days / 7)} weeks`
  if (days < 730) return `${Math.floor(days / 30)} months`
  return `${Math.floor(days / 365)} years`
}
