// Wire types of formations, scale requests, jobs and deployments (contract controller.md 2.6-2.9).
import { type Static, Type } from 'typebox'
import { type App, type Artifact, JobResources, type Release, type Strategy } from './apps.ts'

const Text = Type.String()
const StringMap = Type.Record(Type.String(), Type.String())
export const processCountMax = 10_000
const Counts = Type.Record(Type.String(), Type.Integer({ minimum: 0, maximum: processCountMax }))
const Tags = Type.Record(Type.String(), StringMap)
const optional = Type.Optional

// Formations (2.6) and scale requests (2.7) ------------------------------------------------------------------------

export const FormationInput = Type.Object({ processes: optional(Counts), tags: optional(Tags) })
export type FormationInput = Static<typeof FormationInput>

export type Processes = Readonly<Record<string, number>>
export type ProcessTags = Readonly<Record<string, Readonly<Record<string, string>>>>

export type Formation = {
  readonly app: string
  readonly release: string
  readonly processes?: Processes
  readonly tags?: ProcessTags
  readonly created_at: string
  readonly updated_at: string
}

export type ExpandedFormation = {
  readonly app: App
  readonly release: Release
  /** In release order; later ones overlay earlier. */
  readonly artifacts: readonly Artifact[]
  readonly processes?: Processes
  readonly tags?: ProcessTags
  readonly deleted?: boolean
  readonly pending_scale_request?: ScaleRequest
  readonly updated_at: string
}

export const scaleStates = ['pending', 'cancelled', 'complete'] as const
export const ScaleRequestInput = Type.Object({
  id: optional(Text),
  app: optional(Text),
  release: optional(Text),
  state: optional(Type.Enum([...scaleStates])),
  old_processes: optional(Counts),
  new_processes: optional(Counts),
  old_tags: optional(Tags),
  new_tags: optional(Tags),
})
export type ScaleRequestInput = Static<typeof ScaleRequestInput>

export type ScaleRequest = {
  readonly id: string
  readonly app: string
  readonly release: string
  readonly state: (typeof scaleStates)[number]
  readonly old_processes?: Processes
  readonly new_processes?: Processes
  readonly old_tags?: ProcessTags
  readonly new_tags?: ProcessTags
  readonly created_at: string
  readonly updated_at: string
}

// Jobs (2.8) -------------------------------------------------------------------------------------------------------

export const jobStates = [
  'pending',
  'blocked',
  'starting',
  'up',
  'stopping',
  'down',
  'crashed',
  'failed',
] as const
export type JobState = (typeof jobStates)[number]

export const Job = Type.Object({
  /** `<host id>-<uuid>`; absent while unplaced. */
  id: optional(Text),
  uuid: Text,
  host_id: optional(Text),
  app: optional(Text),
  release: optional(Text),
  type: optional(Text),
  state: optional(Type.Enum([...jobStates])),
  args: optional(Type.Array(Text)),
  /** Volume ids. */
  volumes: optional(Type.Array(Text)),
  meta: optional(StringMap),
  exit_status: optional(Type.Integer()),
  host_error: optional(Text),
  run_at: optional(Text),
  restarts: optional(Type.Integer()),
  created_at: optional(Text),
  updated_at: optional(Text),
})
export type Job = Static<typeof Job>

export const jobPartitions = ['background', 'user', 'system'] as const
export const NewJob = Type.Object({
  release: Type.String({ minLength: 1 }),
  /** Instead of the release's. */
  artifacts: optional(Type.Array(Text)),
  release_env: optional(Type.Boolean()),
  args: optional(Type.Array(Text)),
  env: optional(StringMap),
  meta: optional(StringMap),
  tty: optional(Type.Boolean()),
  tty_columns: optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
  tty_lines: optional(Type.Integer({ minimum: 0, maximum: 65_535 })),
  disable_log: optional(Type.Boolean()),
  resources: optional(JobResources),
  data: optional(Type.Boolean()),
  partition: optional(Type.Enum([...jobPartitions])),
  profiles: optional(Type.Array(Text)),
  /** Process type whose mounts are copied. */
  mounts_from: optional(Text),
})
export type NewJob = Static<typeof NewJob>

// Deployments (2.9) ------------------------------------------------------------------------------------------------

export type DeploymentStatus = 'pending' | 'running' | 'complete' | 'failed'

export type Deployment = {
  readonly id: string
  readonly app: string
  readonly old_release?: string
  readonly new_release: string
  readonly strategy: Strategy
  readonly status?: DeploymentStatus
  /** Of the old formation when the deployment was created. */
  readonly processes?: Processes
  readonly tags?: ProcessTags
  /** Seconds, for each step. */
  readonly deploy_timeout: number
  readonly deploy_batch_size?: number
  readonly created_at: string
  readonly finished_at?: string
  /** Ours: somebody asked for its end; the worker rolls it back. */
  readonly cancelled_at?: string
}

/** Data of a `deployment` event; its object id is the deployment's. */
export type DeploymentEvent = {
  readonly app?: string
  readonly deployment?: string
  readonly release?: string
  readonly status?: DeploymentStatus
  readonly job_type?: string
  readonly job_state?: string
  readonly error?: string
}

export const IdInput = Type.Object({ id: Type.String({ minLength: 1 }) })
