// Randomness as a value: a small generator (sfc32) seeded by the event, so that a replayed event makes the same
// choices. Used by the scheduler's core and by seeded tests; seeds have 128 bits so that job ids never collide.

/** Four 32-bit words. */
export type Seed = readonly [number, number, number, number]

export type Random = {
  /** The next 32 bits. */
  next(): number
  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number
  shuffle<T>(list: readonly T[]): T[]
  /** A version 4 UUID. */
  uuid(): string
  seed(): Seed
}

export function seededRandom(seed: Seed): Random {
  let [a, b, c, d] = seed
  function next(): number {
    const t = (a + b + d) >>> 0
    d = (d + 1) >>> 0
    a = (b ^ (b >>> 9)) >>> 0
    b = (c + (c << 3)) >>> 0
    c = ((c << 21) | (c >>> 11)) >>> 0
    c = (c + t) >>> 0
    return t
  }
  for (let i = 0; i < 12; i++) next()
  const below = (limit: number): number => Math.floor((next() / 2 ** 32) * limit)
  const hex = (value: number): string => value.toString(16).padStart(8, '0')
  return {
    next,
    below,
    shuffle(list) {
      const copy = [...list]
      for (let i = copy.length - 1; i > 0; i--) {
        const j = below(i + 1)
        const held = copy[i] as (typeof copy)[number]
        copy[i] = copy[j] as (typeof copy)[number]
        copy[j] = held
      }
      return copy
    },
    uuid() {
      const text = [next(), next(), next(), next()].map(hex).join('')
      const variant = (8 + (next() & 3)).toString(16)
      return [
        text.slice(0, 8),
        text.slice(8, 12),
        `4${text.slice(13, 16)}`,
        `${variant}${text.slice(17, 20)}`,
        text.slice(20),
      ].join('-')
    },
    seed: () => [next(), next(), next(), next()],
  }
}
