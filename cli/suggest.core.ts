// Which of the known words somebody may have meant. Used for mistyped commands and unknown apps.

/** Levenshtein's distance, with two neighbours swapped counted as one change. */
export function distance(a: string, b: string): number {
  let before: number[] = []
  let row = Array.from({ length: b.length + 1 }, (_, i) => i)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1] ? 0 : 1
      let least = Math.min((row[j] ?? 0) + 1, (next[j - 1] ?? 0) + 1, (row[j - 1] ?? 0) + same)
      if (i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1])
        least = Math.min(least, (before[j - 2] ?? 0) + 1)
      next.push(least)
    }
    before = row
    row = next
  }
  return row[b.length] ?? 0
}

export const suggestionsMax = 3

/** The nearest known words, best first: a third of the letters may be wrong, or the word may be a beginning. */
export function nearest(word: string, known: readonly string[]): readonly string[] {
  const limit = Math.max(1, Math.floor(word.length / 3))
  return known
    .map(candidate => {
      const begins = word.length >= 2 && candidate.startsWith(word)
      return { candidate, rank: begins ? 0.5 : distance(word, candidate) }
    })
    .filter(({ rank }) => rank <= limit)
    .sort((a, b) => a.rank - b.rank || (a.candidate < b.candidate ? -1 : 1))
    .slice(0, suggestionsMax)
    .map(({ candidate }) => candidate)
}

/** `a`, `a or b`, `a, b or c`. */
export function orList(words: readonly string[]): string {
  const last = words.at(-1) ?? ''
  return words.length < 2 ? last : `${words.slice(0, -1).join(', ')} or ${last}`
}
