// Counts per route: of the last minute for people, since the start for Prometheus. Pure: time comes in.

/** Upper bounds of response times in milliseconds, a quarter apart: the error of a percentile. */
export const boundsMs: readonly number[] = bounds(1, 1.25, 600_000)
const windowSeconds = 60
const slotSeconds = 10
const slots = windowSeconds / slotSeconds

function bounds(first: number, ratio: number, last: number): readonly number[] {
  const list = [first]
  for (let at = first; at < last; ) {
    at = Math.max(at + 1, Math.round(at * ratio))
    list.push(at)
  }
  return list
}

/** Index of the first bound that is not below. */
function boundIndex(ms: number): number {
  let [low, high] = [0, boundsMs.length - 1]
  while (low < high) {
    const middle = (low + high) >> 1
    if ((boundsMs[middle] ?? 0) < ms) low = middle + 1
    else high = middle
  }
  return low
}

type Slot = { epoch: number; requests: number; errors: number; readonly times: Uint32Array }

export type Totals = {
  /** By first digit of the status, 1 to 5; index 0 is TCP connections. */
  readonly classes: number[]
  bytesOut: number
  bytesIn: number
  durationMs: number
  readonly times: Uint32Array
}

type Counts = { readonly slots: Slot[]; readonly totals: Totals }

export type Minute = {
  readonly requests: number
  readonly requestsPerSecond: number
  /** Part of the requests that were answered with 500 or above. */
  readonly errorRate: number
  readonly p50Ms: number
  readonly p99Ms: number
}

export const quiet: Minute = { requests: 0, requestsPerSecond: 0, errorRate: 0, p50Ms: 0, p99Ms: 0 }

export type Sample = {
  readonly status: number
  readonly durationMs: number
  readonly bytesIn: number
  readonly bytesOut: number
}

export class Stats {
  readonly #routes = new Map<string, Counts>()

  record(route: string, nowSeconds: number, sample: Sample): void {
    let counts = this.#routes.get(route)
    if (!counts) {
      counts = { slots: [], totals: emptyTotals() }
      this.#routes.set(route, counts)
    }
    const { totals } = counts
    const klass = Math.floor(sample.status / 100)
    totals.classes[klass] = (totals.classes[klass] ?? 0) + 1
    totals.bytesIn += sample.bytesIn
    totals.bytesOut += sample.bytesOut
    totals.durationMs += sample.durationMs
    const at = boundIndex(sample.durationMs)
    totals.times[at] = (totals.times[at] ?? 0) + 1
    const slot = slotFor(counts, Math.floor(nowSeconds / slotSeconds))
    slot.requests++
    if (klass >= 5) slot.errors++
    slot.times[at] = (slot.times[at] ?? 0) + 1
  }

  /** The last 50 to 60 seconds. */
  minute(route: string, nowSeconds: number): Minute {
    const epoch = Math.floor(nowSeconds / slotSeconds)
    const recent = (this.#routes.get(route)?.slots ?? []).filter(s => s.epoch > epoch - slots)
    const requests = recent.reduce((sum, s) => sum + s.requests, 0)
    if (requests === 0) return quiet
    const errors = recent.reduce((sum, s) => sum + s.errors, 0)
    const seconds = (slots - 1) * slotSeconds + (nowSeconds % slotSeconds)
    const times = boundsMs.map((_, i) => recent.reduce((sum, s) => sum + (s.times[i] ?? 0), 0))
    return {
      requests,
      requestsPerSecond: requests / seconds,
      errorRate: errors / requests,
      p50Ms: percentile(times, requests, 0.5),
      p99Ms: percentile(times, requests, 0.99),
    }
  }

  totals(): ReadonlyMap<string, Totals> {
    return new Map([...this.#routes].map(([route, { totals }]) => [route, totals]))
  }

  /** Forgets routes that are no more. */
  keepOnly(routes: ReadonlySet<string>): void {
    for (const route of this.#routes.keys()) if (!routes.has(route)) this.#routes.delete(route)
  }
}

function emptyTotals(): Totals {
  return {
    classes: [0, 0, 0, 0, 0, 0],
    bytesOut: 0,
    bytesIn: 0,
    durationMs: 0,
    times: new Uint32Array(boundsMs.length),
  }
}

function slotFor(counts: Counts, epoch: number): Slot {
  const index = epoch % slots
  const slot = counts.slots[index]
  if (slot?.epoch === epoch) return slot
  const fresh = { epoch, requests: 0, errors: 0, times: new Uint32Array(boundsMs.length) }
  counts.slots[index] = fresh
  return fresh
}

function percentile(times: readonly number[], total: number, part: number): number {
  let left = Math.ceil(total * part)
  for (const [i, count] of times.entries()) {
    left -= count
    if (left <= 0) return boundsMs[i] ?? 0
  }
  return boundsMs.at(-1) ?? 0
}
