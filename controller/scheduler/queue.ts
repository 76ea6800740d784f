// Work in order per key and limited overall: records of one job are written one after the other, those of different
// jobs side by side. Used by the scheduler's effects.

/** Runs of one key follow each other; at most `limit` runs of all keys are under way. */
export class KeyedQueue {
  readonly #limit: number
  readonly #tails = new Map<string, Promise<void>>()
  readonly #waiting: (() => void)[] = []
  #running = 0

  constructor(limit: number) {
    this.#limit = limit
  }

  /** Keys with work waiting or under way. */
  get size(): number {
    return this.#tails.size
  }

  /**
   * Runs `work` after what is queued for its own key and for the keys in `after` now. An error is handed to the caller
   * and stops nothing else.
   */
  run(key: string, work: () => Promise<void>, after: Iterable<string> = []): Promise<void> {
    const before = [key, ...after].flatMap(k => this.#tails.get(k) ?? [])
    const mine = Promise.allSettled(before).then(() => this.#limited(work))
    this.#tails.set(key, mine)
    const clear = (): void => {
      if (this.#tails.get(key) === mine) this.#tails.delete(key)
    }
    mine.then(clear, clear)
    return mine
  }

  async #limited(work: () => Promise<void>): Promise<void> {
    // A slot is handed over, not given back and fought for: `running` counts it all the while.
    if (this.#running >= this.#limit) await new Promise<void>(resolve => this.#waiting.push(resolve))
    else this.#running++
    try {
      await work()
    } finally {
      const next = this.#waiting.shift()
      if (next) next()
      else this.#running--
    }
  }
}
