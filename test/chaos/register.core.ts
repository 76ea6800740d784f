// Is a history of compare-and-set operations on one register linearizable? The search of Wing and Gong with the memory of
// Lowe, as in Porcupine: take any operation that could have come first, apply it, go on; go back where it does not fit.
// An operation whose answer never came may have happened at any time after it was sent, or never. Pure.

/** `refused` says that the register held something else; `unknown` that no answer came, or one that promises nothing. */
export type Outcome = 'ok' | 'refused' | 'unknown'

export type RegisterOperation = {
  /** Who did it: for people who read the evidence. */
  readonly client: string
  readonly calledAt: number
  /** Not looked at when the outcome is unknown. */
  readonly answeredAt: number
  readonly outcome: Outcome
} & (
  | { readonly kind: 'set'; readonly from: string; readonly to: string }
  | { readonly kind: 'read'; readonly value: string }
)

export type Verdict =
  | { readonly type: 'linearizable' }
  /** The longest order that fits, and the operations of which none fits after it. */
  | {
      readonly type: 'violation'
      readonly order: readonly RegisterOperation[]
      readonly stuck: readonly RegisterOperation[]
    }
  /** The search was given up: nothing is known. */
  | { readonly type: 'undecided' }

/** What a register holds before its first write. */
export const nothing = ''
export const searchStatesMax = 500_000

/** The register afterwards, or undefined when the operation cannot happen in this state with this outcome. */
function apply(state: string, op: RegisterOperation): string | undefined {
  if (op.kind === 'read') return op.value === state ? state : undefined
  if (op.outcome === 'refused') return op.from === state ? undefined : state
  return op.from === state ? op.to : undefined
}

/** An operation without an answer is never late, and one that changed nothing need not be placed at all. */
const endOf = (op: RegisterOperation) => (op.outcome === 'unknown' ? Number.POSITIVE_INFINITY : op.answeredAt)

type Frame = { readonly state: string; readonly candidates: readonly number[]; next: number }

export function checkRegister(history: readonly RegisterOperation[]): Verdict {
  // A read that was never answered tells nothing.
  const ops = history
    .filter(op => op.kind === 'set' || op.outcome === 'ok')
    .toSorted((a, b) => a.calledAt - b.calledAt)
  const must = ops.filter(op => op.outcome !== 'unknown').length
  const placed = new Uint8Array(ops.length)
  const order: number[] = []
  const seen = new Set<string>()
  let placedMust = 0
  let best: { readonly order: readonly number[]; readonly stuck: readonly number[] } = {
    order: [],
    stuck: [],
  }

  const candidates = (): number[] => {
    let firstEnd = Number.POSITIVE_INFINITY
    for (const [i, op] of ops.entries()) if (!placed[i]) firstEnd = Math.min(firstEnd, endOf(op))
    const found: number[] = []
    for (const [i, op] of ops.entries()) {
      if (op.calledAt > firstEnd) break
      if (!placed[i]) found.push(i)
    }
    return found
  }
  const key = (state: string) => `${Buffer.from(placed).toString('latin1')}${state}`
  const stack: Frame[] = [{ state: nothing, candidates: candidates(), next: 0 }]
  while (placedMust < must) {
    const frame = stack.at(-1)
    if (!frame) return violation(ops, best)
    const i = frame.candidates[frame.next++]
    const op = i === undefined ? undefined : ops[i]
    if (i === undefined || op === undefined) {
      if (order.length >= best.order.length) best = { order: [...order], stuck: frame.candidates }
      stack.pop()
      const undone = order.pop()
      if (undone === undefined) continue
      placed[undone] = 0
      if (ops[undone]?.outcome !== 'unknown') placedMust--
      continue
    }
    const state = apply(frame.state, op)
    if (state === undefined) continue
    placed[i] = 1
    const reached = key(state)
    if (seen.has(reached)) {
      placed[i] = 0
      continue
    }
    if (seen.size >= searchStatesMax) return { type: 'undecided' }
    seen.add(reached)
    order.push(i)
    if (op.outcome !== 'unknown') placedMust++
    stack.push({ state, candidates: candidates(), next: 0 })
  }
  return { type: 'linearizable' }
}

function violation(
  ops: readonly RegisterOperation[],
  best: { readonly order: readonly number[]; readonly stuck: readonly number[] },
): Verdict {
  const pick = (indexes: readonly number[]) => indexes.flatMap(i => ops[i] ?? [])
  return { type: 'violation', order: pick(best.order), stuck: pick(best.stuck) }
}

/** One line for people. */
export function tellOperation(op: RegisterOperation): string {
  const what =
    op.kind === 'read' ? `read ${op.value || 'nothing'}` : `set ${op.from || 'nothing'} to ${op.to}`
  const end = op.outcome === 'unknown' ? 'no answer' : `${op.outcome} at ${Math.round(op.answeredAt)} ms`
  return `${op.client}: ${what}, sent at ${Math.round(op.calledAt)} ms, ${end}`
}

/** What one daemon's memory showed, in the order in which it was asked. */
export type Glimpse = { readonly at: number; readonly value: string; readonly index: number }

/**
 * Reads come from the daemon's memory and may be behind; but they never go back, and an index belongs to one value.
 * Answers what is wrong, or undefined.
 */
export function glimpsesFault(glimpses: readonly Glimpse[]): string | undefined {
  let last: Glimpse | undefined
  for (const glimpse of glimpses) {
    if (last && glimpse.index < last.index)
      return `went back from index ${last.index} (${last.value}) to ${glimpse.index} (${glimpse.value}) at ${Math.round(glimpse.at)} ms`
    if (last && glimpse.index === last.index && glimpse.value !== last.value)
      return `index ${last.index} was ${last.value} and then ${glimpse.value} at ${Math.round(glimpse.at)} ms`
    last = glimpse
  }
  return undefined
}
