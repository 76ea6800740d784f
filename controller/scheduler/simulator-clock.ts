// Time of a simulated world: a number that moves to the next thing to happen. Used by the simulator only.

type Item = { readonly atMs: number; readonly order: number; readonly run: () => void }

/** Things at the same time happen in the order in which they were planned. */
const before = (a: Item, b: Item): boolean => a.atMs < b.atMs || (a.atMs === b.atMs && a.order < b.order)

export class SimClock {
  nowMs = 1_000_000
  #sequence = 0
  /** A binary heap. */
  readonly #heap: Item[] = []

  /** Things that are to happen. */
  get planned(): number {
    return this.#heap.length
  }

  at(delayMs: number, run: () => void): void {
    const heap = this.#heap
    const item = { atMs: this.nowMs + delayMs, order: this.#sequence++, run }
    let n = heap.push(item) - 1
    while (n > 0) {
      const above = (n - 1) >> 1
      const other = heap[above]
      if (other === undefined || !before(item, other)) break
      heap[n] = other
      n = above
    }
    heap[n] = item
  }

  #take(): Item | undefined {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (heap.length === 0 || last === undefined) return first
    let n = 0
    for (;;) {
      const [left, right] = [heap[2 * n + 1], heap[2 * n + 2]]
      const least = left && right ? (before(right, left) ? right : left) : left
      if (least === undefined || !before(least, last)) break
      heap[n] = least
      n = least === left ? 2 * n + 1 : 2 * n + 2
    }
    heap[n] = last
    return first
  }

  /** Lets everything happen that is due in the next `forMs`. */
  run(forMs: number): void {
    const end = this.nowMs + forMs
    for (;;) {
      const next = this.#heap[0]
      if (next === undefined || next.atMs > end) break
      this.#take()
      this.nowMs = next.atMs
      next.run()
    }
    this.nowMs = end
  }
}
