// What a host is asked to run, built from what the controller knows: one process of a formation, or a one-off job
// (contract controller.md 2.8, 4.10). Pure. Called by the scheduler and by the API's job endpoint.
import type {
  ContainerConfig,
  JobRequest as HostJobRequest,
  Resources,
  VolumeBinding,
} from '../host/types.ts'
import { mountspecs, resolveEntrypoint } from '../pkg/image/image.ts'
import type { App, Artifact, NewJob, ProcessType, Release } from './types.ts'

/** A host job with the id it is put under: `<host id>-<job uuid>`. */
export type HostJob = HostJobRequest & { readonly id: string; readonly config: ContainerConfig }

type AppPart = Pick<App, 'id' | 'name' | 'meta'>
type ReleasePart = Pick<Release, 'id' | 'env' | 'processes'>

/** Metadata keys that tie a host job to the controller's tables; hosts and the scheduler read them back. */
export const jobMetaKeys = {
  app: 'flynn-controller.app',
  appName: 'flynn-controller.app_name',
  release: 'flynn-controller.release',
  formation: 'flynn-controller.formation',
  type: 'flynn-controller.type',
} as const

export const volumeMetaKeys = {
  app: 'flynn-controller.app',
  release: 'flynn-controller.release',
  type: 'flynn-controller.type',
  path: 'flynn-controller.path',
  deleteOnStop: 'flynn-controller.delete_on_stop',
} as const

const controllerPrefix = 'flynn-controller.'

/** What a process or one-off job gets when its release says nothing: bytes, thousandths of a core, bytes, files. */
export const resourceLimitDefaults: Readonly<Record<string, number>> = {
  memory: 1024 ** 3,
  cpu: 1000,
  temp_disk: 100 * 1024 ** 2,
  max_fd: 10_000,
}

/** Fills in default limits; a missing request is the limit (2.5). */
export function withResourceDefaults(resources: Resources | undefined): Resources {
  const filled: Resources = {}
  for (const name of new Set([...Object.keys(resourceLimitDefaults), ...Object.keys(resources ?? {})])) {
    const given = resources?.[name]
    const limit = given?.limit ?? resourceLimitDefaults[name]
    const request = given?.request ?? limit
    if (limit !== undefined || request !== undefined)
      filled[name] = {
        ...(request === undefined ? {} : { request }),
        ...(limit === undefined ? {} : { limit }),
      }
  }
  return filled
}

/** The part of a host job's metadata that the controller stores as the job's `meta`. */
export function publicJobMeta(
  metadata: Readonly<Record<string, string>> | undefined,
): Record<string, string> {
  return Object.fromEntries(
    Object.entries(metadata ?? {}).filter(([key]) => !key.startsWith(controllerPrefix)),
  )
}

export type VolumeOwner = {
  readonly appId: string
  readonly releaseId: string
  readonly type: string
  readonly path: string
  readonly deleteOnStop: boolean
}

/** Metadata that a provisioned volume carries on its host (4.10). */
export function volumeMetadata(owner: VolumeOwner): Record<string, string> {
  return {
    [volumeMetaKeys.app]: owner.appId,
    [volumeMetaKeys.release]: owner.releaseId,
    [volumeMetaKeys.type]: owner.type,
    [volumeMetaKeys.path]: owner.path,
    [volumeMetaKeys.deleteOnStop]: String(owner.deleteOnStop),
  }
}

export type AssignedVolume = { readonly id: string; readonly path: string; readonly deleteOnStop: boolean }

function bindings(volumes: readonly AssignedVolume[]): VolumeBinding[] {
  return volumes.map(v => ({
    target: v.path,
    volume: v.id,
    writeable: true,
    delete_on_stop: v.deleteOnStop,
  }))
}

function partitionOf(app: AppPart): string | undefined {
  return app.meta['flynn-system-app'] === 'true' ? 'system' : undefined
}

/** Members without a value are left out: hosts tell absent and empty apart. */
function compact<T extends object>(value: T): { [K in keyof T]: Exclude<T[K], undefined> } {
  return Object.fromEntries(Object.entries(value).filter(([, v]) => v !== undefined)) as {
    [K in keyof T]: Exclude<T[K], undefined>
  }
}

function nonEmpty<T>(list: readonly T[] | undefined): T[] | undefined {
  return list === undefined || list.length === 0 ? undefined : [...list]
}

/** Paths that a process type wants volumes at; the deprecated `data` means one at /data (4.5). */
export function processVolumes(
  process: ProcessType,
): readonly { readonly path: string; readonly deleteOnStop: boolean }[] {
  const listed = (process.volumes ?? []).map(v => ({ path: v.path, deleteOnStop: v.delete_on_stop === true }))
  if (listed.length === 0 && process.data === true) return [{ path: '/data', deleteOnStop: false }]
  return listed
}

export type FormationJobInput = {
  readonly hostId: string
  readonly jobUuid: string
  readonly app: AppPart
  readonly release: ReleasePart
  /** In release order. */
  readonly artifacts: readonly Artifact[]
  readonly type: string
  readonly process: ProcessType
  readonly volumes: readonly AssignedVolume[]
}

/** The host job of one process of a formation (4.10). */
export function formationHostJob(input: FormationJobInput): HostJob {
  const { app, release, process, type } = input
  const id = `${input.hostId}-${input.jobUuid}`
  const entrypoint = resolveEntrypoint(input.artifacts, type)
  const args = nonEmpty(process.args) ??
    nonEmpty(entrypoint?.args) ?? [...(process.entrypoint ?? []), ...(process.cmd ?? [])]
  const config: ContainerConfig = compact({
    args: nonEmpty(args),
    env: {
      ...entrypoint?.env,
      ...release.env,
      ...process.env,
      FLYNN_APP_ID: app.id,
      FLYNN_APP_NAME: app.name,
      FLYNN_RELEASE_ID: release.id,
      FLYNN_PROCESS_TYPE: type,
      FLYNN_JOB_ID: id,
    },
    working_dir: entrypoint?.cwd,
    uid: entrypoint?.uid,
    gid: entrypoint?.gid,
    ports: nonEmpty(process.ports),
    mounts: nonEmpty(process.mounts),
    volumes: nonEmpty(bindings(input.volumes)),
    host_network: process.host_network,
    host_pid_namespace: process.host_pid_namespace,
    linux_capabilities: nonEmpty(process.linux_capabilities) ?? nonEmpty(entrypoint?.linux_capabilities),
    allowed_devices: nonEmpty(process.allowed_devices),
    writeable_cgroups: process.writeable_cgroups,
  })
  return compact({
    id,
    mountspecs: [...mountspecs(input.artifacts)],
    metadata: {
      ...app.meta,
      [jobMetaKeys.app]: app.id,
      [jobMetaKeys.appName]: app.name,
      [jobMetaKeys.release]: release.id,
      [jobMetaKeys.formation]: 'true',
      [jobMetaKeys.type]: type,
    },
    resources: withResourceDefaults(process.resources),
    partition: partitionOf(app),
    config,
    resurrect: process.resurrect,
    profiles: nonEmpty(process.profiles),
  })
}

export type OneOffJobInput = {
  readonly hostId: string
  readonly jobUuid: string
  readonly app: AppPart
  /** May be of another app: `flynn pg psql` runs the appliance's release. */
  readonly release: ReleasePart
  /** The release's, or those that the request names instead. */
  readonly artifacts: readonly Artifact[]
  readonly request: NewJob
  /** Standard input is open only for a caller that attaches. */
  readonly attach: boolean
  /** Id of the volume at /data, when the request asks for one. */
  readonly dataVolumeId?: string | undefined
}

/** The host job of a one-off job (2.8): never restarted, and not part of a formation. */
export function oneOffHostJob(input: OneOffJobInput): HostJob {
  const { app, release, request } = input
  const id = `${input.hostId}-${input.jobUuid}`
  const entrypoint = resolveEntrypoint(input.artifacts, '')
  const volume = input.dataVolumeId
  const config: ContainerConfig = compact({
    args: nonEmpty(request.args) ?? nonEmpty(entrypoint?.args),
    env: {
      FLYNN_APP_ID: app.id,
      FLYNN_RELEASE_ID: release.id,
      FLYNN_PROCESS_TYPE: '',
      FLYNN_JOB_ID: id,
      ...entrypoint?.env,
      ...(request.release_env ? release.env : {}),
      ...request.env,
    },
    working_dir: entrypoint?.cwd,
    uid: entrypoint?.uid,
    gid: entrypoint?.gid,
    linux_capabilities: nonEmpty(entrypoint?.linux_capabilities),
    tty: request.tty,
    stdin: input.attach ? true : undefined,
    disable_log: request.disable_log,
    mounts: nonEmpty(
      request.mounts_from === undefined ? [] : release.processes?.[request.mounts_from]?.mounts,
    ),
    volumes: volume === undefined ? undefined : bindings([{ id: volume, path: '/data', deleteOnStop: true }]),
  })
  return compact({
    id,
    mountspecs: [...mountspecs(input.artifacts)],
    metadata: {
      ...request.meta,
      [jobMetaKeys.app]: app.id,
      [jobMetaKeys.appName]: app.name,
      [jobMetaKeys.release]: release.id,
    },
    resources: withResourceDefaults(request.resources),
    partition: request.partition ?? partitionOf(app),
    config,
    profiles: nonEmpty(request.profiles),
  })
}
