// What the scheduler says of a host's drain (`GET /drains/:host` of its own API): what is left and what becomes of it. For a
// host that is not being drained it is what would happen, which is how `flynn-host drain --plan` knows.

/** `replace`: another job first, then it ends. `move`: it goes with its data. `stay`: omni. `wait`: it must end itself. */
export type DrainAction = 'replace' | 'move' | 'stay' | 'wait'

export type DrainJob = {
  readonly uuid: string
  /** Name of its app, or its id. */
  readonly app: string
  /** Empty for a one-off job. */
  readonly type: string
  readonly action: DrainAction
  readonly state: string
  /** Why it is still there. */
  readonly note: string
}

export type DrainVolume = {
  readonly id: string
  readonly app: string
  readonly type: string
  readonly path: string
  /** The host that it moves to, or would. */
  readonly to?: string
  readonly stage: string
  /** Sent so far, all rounds together. */
  readonly bytes: number
  readonly note: string
}

export type DrainReport = {
  readonly host: string
  /** The scheduler knows the host and acts for the cluster. */
  readonly known: boolean
  readonly draining: boolean
  /** Nothing is left but what stays. */
  readonly done: boolean
  readonly jobs: readonly DrainJob[]
  readonly volumes: readonly DrainVolume[]
}
