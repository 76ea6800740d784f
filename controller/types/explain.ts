// What `flynn explain` shows (`GET /apps/:app/jobs/:job/explanation`, ours): why a job is where it is, or why it is nowhere.
// The scheduler that leads makes it; `/jobs/:uuid/explanation` of its own API answers the same.

/** What keeps a host from taking a job. */
export type ObstacleKind =
  | 'leaving'
  | 'draining'
  | 'away'
  | 'unread'
  | 'tag'
  | 'memory'
  | 'cpu'
  | 'volume'
  | 'pinned'
  | 'port'
  | 'refused'
  | 'busy'

export type HostVerdict = {
  readonly host: string
  /** It may run the job. */
  readonly fits: boolean
  readonly obstacle?: ObstacleKind
  /** Words that follow the host's name. */
  readonly reason: string
}

export type JobExplanation = {
  readonly uuid: string
  /** `<host>-<uuid>`; absent while no host has been asked for it. */
  readonly id?: string
  readonly app: string
  readonly release: string
  /** Absent for one-off jobs. */
  readonly type?: string
  readonly state: string
  /** One sentence. */
  readonly summary: string
  readonly notes: readonly string[]
  readonly host?: string
  /** Of a job that waits: what speaks against each host. */
  readonly hosts?: readonly HostVerdict[]
  /** What it counts for on its host: bytes, and thousandths of a core. */
  readonly requests?: { readonly memory: number; readonly cpu: number }
  /** Not started before this time. */
  readonly run_at?: string
  readonly restarts?: number
  readonly exit_status?: number
  readonly host_error?: string
  /** False when the scheduler could not tell: this is what the controller has stored of the job. */
  readonly live: boolean
}
