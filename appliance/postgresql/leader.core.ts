// Decides whether discoverd's idea of the primary needs correcting. Pure; `leader.ts` looks and acts. The callback is
// the fast path at every change of role; this repairs what it cannot see, such as a discoverd that lost its state.

export type Observation = {
  /** Instance ids whose Patroni says that it holds the leader key. */
  readonly primaries: readonly string[]
  /** Instance id that discoverd names, if any. */
  readonly leader: string | undefined
}

export type WatchState = {
  /** The primary that discoverd did not name when last looked. */
  readonly suspect: string | undefined
}

export const initialState: WatchState = { suspect: undefined }

/**
 * One look. A correction is made only when two looks in a row agree, so that a look taken during a change of role
 * does not undo what the callback has just set; none is made while there is no primary, or more than one answer.
 */
export function look(
  state: WatchState,
  seen: Observation,
): { readonly state: WatchState; readonly setLeader: string | undefined } {
  const [primary] = seen.primaries
  if (primary === undefined || seen.primaries.length > 1 || primary === seen.leader)
    return { state: initialState, setLeader: undefined }
  if (state.suspect !== primary) return { state: { suspect: primary }, setLeader: undefined }
  return { state: initialState, setLeader: primary }
}
