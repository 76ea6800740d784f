// What a bench says of its samples: median, 95th percentile, least and most. Pure.

export type Summary = {
  readonly count: number
  readonly median: number
  readonly p95: number
  readonly min: number
  readonly max: number
}

/** Nearest-rank percentile, `share` from 0 to 1; throws without samples. */
export function percentile(samples: readonly number[], share: number): number {
  const sorted = samples.toSorted((a, b) => a - b)
  const value = sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]
  if (value === undefined) throw new Error('no samples')
  return value
}

/** The mean of the two middle samples where there is no single one. */
export function median(samples: readonly number[]): number {
  const sorted = samples.toSorted((a, b) => a - b)
  const low = sorted[Math.floor((sorted.length - 1) / 2)]
  const high = sorted[Math.floor(sorted.length / 2)]
  if (low === undefined || high === undefined) throw new Error('no samples')
  return (low + high) / 2
}

export function summary(samples: readonly number[]): Summary {
  return {
    count: samples.length,
    median: median(samples),
    p95: percentile(samples, 0.95),
    min: percentile(samples, 0),
    max: percentile(samples, 1),
  }
}

/** Cells of a table row: label, then the figures with three digits or so. */
export function summaryRow(label: string, s: Summary): string[] {
  const digits = (ms: number) => ms.toFixed(ms < 10 ? 2 : 1)
  return [label, String(s.count), ...[s.median, s.p95, s.min, s.max].map(digits)]
}

export const summaryHeader = ['', 'samples', 'median', 'p95', 'min', 'max'] as const
