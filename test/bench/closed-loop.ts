// A closed loop: so many callers, each asking again when it has its answer, for a while. Used by the benches of the
// controller for its API and for the bare database alike.
import { percentile } from './stats.core.ts'

export type Rate = { readonly perSecond: number; readonly p50Ms: number; readonly p99Ms: number }

/** `call` is given a number that counts up over all callers. The first part of the time warms up and is not counted. */
export async function closedLoop(
  callers: number,
  durationMs: number,
  call: (n: number) => Promise<unknown>,
): Promise<Rate> {
  const warmMs = durationMs / 5
  const began = performance.now()
  const end = began + warmMs + durationMs
  const samples: number[] = []
  let n = 0
  const caller = async () => {
    for (let at = performance.now(); at < end; at = performance.now()) {
      await call(n++)
      if (at >= began + warmMs) samples.push(performance.now() - at)
    }
  }
  await Promise.all(Array.from({ length: callers }, caller))
  return {
    perSecond: Math.round((samples.length / durationMs) * 1_000),
    p50Ms: percentile(samples, 0.5),
    p99Ms: percentile(samples, 0.99),
  }
}
