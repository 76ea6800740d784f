// Which hosts count as dead: gone from discoverd and silent for some probes in a row. Pure.
import type { Reach } from '../../pkg/net/reach.ts'

/** One lost packet is no death. */
export const silencesMin = 2

/** Probes in a row that brought no answer, by host; only of hosts that are gone from discoverd. */
export type Silences = ReadonlyMap<string, number>

/** A host that was not probed, because it is back in discoverd, is forgotten; one that answers begins anew. */
export function stepSilences(before: Silences, answers: ReadonlyMap<string, Reach>): Silences {
  const next = new Map<string, number>()
  for (const [host, answer] of answers)
    next.set(host, answer === 'silent' ? Math.min((before.get(host) ?? 0) + 1, silencesMin) : 0)
  return next
}

export function deadHosts(silences: Silences): readonly string[] {
  return [...silences].flatMap(([host, count]) => (count >= silencesMin ? [host] : [])).sort()
}
