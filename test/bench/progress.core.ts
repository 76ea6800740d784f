// Times of steps out of the installer's progress lines, such as `  17.9s  ok  guestbook`. Pure.

export type StepTime = { readonly step: string; readonly tookSeconds: number }
/** A name, and the lines between which the step lies; from the very start without the first. */
export type StepBorders = readonly [step: string, from: string | undefined, to: string]

/** Throws when a line is missing: the installer says something else now. The last line that fits counts. */
export function stepSeconds(progress: string, borders: readonly StepBorders[]): readonly StepTime[] {
  const lines = progress.split('\n').flatMap(line => {
    const match = /^\s*(\d+\.\d)s\s+(.*)$/.exec(line)
    return match ? [{ atSeconds: Number(match[1]), text: (match[2] ?? '').replaceAll(/\s+/g, ' ') }] : []
  })
  const at = (text: string | undefined) => {
    if (text === undefined) return 0
    const found = lines.findLast(line => line.text.startsWith(text))
    if (!found) throw new Error(`the installer printed no line "${text}":\n${progress}`)
    return found.atSeconds
  }
  return borders.map(([step, from, to]) => ({ step, tookSeconds: at(to) - at(from) }))
}
