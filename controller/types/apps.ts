// Wire types of apps, artifacts and releases (contract controller.md 2.3-2.5). `XInput` is what a client may send.
import { type Static, Type } from 'typebox'
import { Device, Mount, Port, Resources } from '../../host/types.ts'
import type { Manifest } from '../../pkg/image/types.ts'

export { Device, HealthCheck, Mount, Port } from '../../host/types.ts'

const Text = Type.String()
const StringMap = Type.Record(Type.String(), Type.String())
const optional = Type.Optional

export const appNamePattern = '^[a-z\\d]+(-[a-z\\d]+)*$'
export const appNameLengthMax = 100

export const strategies = [
  'all-at-once',
  'one-by-one',
  'one-down-one-up',
  'in-batches',
  'discoverd-meta',
  'sirenia',
] as const
export const Strategy = Type.Enum([...strategies])
export type Strategy = (typeof strategies)[number]

/** Strategies by which a release takes over the volumes of the one before it, one job at a time. */
export const handoverStrategies: readonly Strategy[] = ['discoverd-meta', 'sirenia']

// Apps (2.3) -------------------------------------------------------------------------------------------------------

export const AppInput = Type.Object({
  id: optional(Text),
  name: optional(
    Type.String({
      pattern: appNamePattern,
      minLength: 1,
      maxLength: appNameLengthMax,
      description: 'lower-case letters, digits and single dashes, such as my-app',
    }),
  ),
  meta: optional(StringMap),
  strategy: optional(Strategy),
  deploy_timeout: optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
})
export type AppInput = Static<typeof AppInput>

/** What `POST /apps/:id` looks at; the other known keys are accepted and ignored, unknown ones refused. */
export const AppUpdate = Type.Object({
  meta: optional(StringMap),
  strategy: optional(Strategy),
  deploy_timeout: optional(Type.Integer({ minimum: 0, maximum: 86_400 })),
})
export type AppUpdate = Static<typeof AppUpdate>

export const App = Type.Object({
  id: Text,
  name: Text,
  meta: StringMap,
  strategy: Strategy,
  /** Current release id. */
  release: optional(Text),
  /** Seconds. */
  deploy_timeout: Type.Integer(),
  created_at: Text,
  updated_at: Text,
})
export type App = Static<typeof App>

/** Meta keys that mean something to the platform. */
export const metaKeys = {
  systemApp: 'flynn-system-app',
  systemCritical: 'flynn-system-critical',
  deployBatchSize: 'flynn-deploy-batch-size',
  gcMaxInactive: 'gc.max_inactive_slug_releases',
} as const

type Named = { readonly name: string; readonly meta: Readonly<Record<string, string>> }

/**
 * Apps that the cluster cannot live without, and the API itself, which nobody could ask to bring anything back: none of
 * their process types goes to zero.
 */
export function isCriticalApp(app: Named): boolean {
  return app.meta[metaKeys.systemCritical] === 'true' || (isSystemApp(app) && app.name === 'controller')
}

/** Those, and the ones without which it is neither reached nor keeps its files: they are not deleted. */
export function isKeptApp(app: Named): boolean {
  return isCriticalApp(app) || (isSystemApp(app) && (app.name === 'router' || app.name === 'blobstore'))
}

export function isSystemApp(app: { readonly meta: Readonly<Record<string, string>> }): boolean {
  return app.meta[metaKeys.systemApp] === 'true'
}

// Artifacts (2.4; manifests: pkg/image) ----------------------------------------------------------------------------

export const artifactTypes = ['flynn', 'docker', 'file'] as const
export const ArtifactInput = Type.Object({
  id: optional(Text),
  type: Type.Enum([...artifactTypes]),
  uri: Type.String({ pattern: '^[a-z][a-z0-9+.-]*:', description: 'a whole URI, such as https://host/path' }),
  meta: optional(StringMap),
  /** Kept exactly as given, members unknown to us included. */
  manifest: optional(Type.Unknown()),
  hashes: optional(StringMap),
  /** Bytes of what is at `uri`. */
  size: optional(Type.Integer({ minimum: 0, maximum: 2 ** 31 - 1 })),
  layer_url_template: optional(Text),
})
export type ArtifactInput = Static<typeof ArtifactInput>

export type Artifact = {
  readonly id: string
  readonly type: (typeof artifactTypes)[number]
  readonly uri: string
  readonly meta?: Record<string, string>
  readonly manifest?: Manifest
  readonly hashes?: Record<string, string>
  readonly size?: number
  readonly layer_url_template?: string
  readonly created_at: string
}

// Releases and process types (2.5) ---------------------------------------------------------------------------------

/** memory (bytes), cpu (thousandths), temp_disk (bytes), max_fd, max_procs. */
export const JobResources = Resources
export type JobResources = Static<typeof JobResources>

export const VolumeReq = Type.Object({ path: Text, delete_on_stop: optional(Type.Boolean()) })
export type VolumeReq = Static<typeof VolumeReq>

export const ProcessType = Type.Object({
  args: optional(Type.Array(Text)),
  env: optional(StringMap),
  ports: optional(Type.Array(Port)),
  volumes: optional(Type.Array(VolumeReq)),
  omni: optional(Type.Boolean()),
  host_network: optional(Type.Boolean()),
  /**
   * With `host_network`: its programs listen beside those of another release (SO_REUSEPORT), so one may start while the other
   * stops. Ours.
   */
  shared_ports: optional(Type.Boolean()),
  host_pid_namespace: optional(Type.Boolean()),
  /** discoverd service that gates the job's `up` state (4.6). */
  service: optional(Text),
  resurrect: optional(Type.Boolean()),
  resources: optional(JobResources),
  mounts: optional(Type.Array(Mount)),
  profiles: optional(Type.Array(Text)),
  linux_capabilities: optional(Type.Array(Text)),
  allowed_devices: optional(Type.Array(Device)),
  writeable_cgroups: optional(Type.Boolean()),
  /** Deprecated inputs, kept in the stored value. */
  cmd: optional(Type.Array(Text)),
  entrypoint: optional(Type.Array(Text)),
  data: optional(Type.Boolean()),
})
export type ProcessType = Static<typeof ProcessType>

export const ReleaseInput = Type.Object({
  id: optional(Text),
  app_id: optional(Text),
  artifacts: optional(Type.Array(Text)),
  artifact: optional(Text),
  env: optional(StringMap),
  meta: optional(StringMap),
  processes: optional(Type.Record(Type.String(), ProcessType)),
})
export type ReleaseInput = Static<typeof ReleaseInput>

export type Release = {
  readonly id: string
  readonly app_id?: string
  readonly artifacts?: readonly string[]
  /** Legacy: the first of `artifacts`. */
  readonly artifact?: string
  readonly env?: Readonly<Record<string, string>>
  readonly meta?: Readonly<Record<string, string>>
  readonly processes?: Readonly<Record<string, ProcessType>>
  readonly created_at: string
}
