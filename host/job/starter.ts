// One start of one job (contract host.md 3.3): from its record to a running container, step by step, and the way back:
// the release of everything a job holds. Decides nothing about states; job/runner.ts does.
import { mkdir, stat } from 'node:fs/promises'
import { describeError } from '../../pkg/errors/errors.ts'
import type { Logger } from '../../pkg/log/log.ts'
import type { ContainerMount } from '../container/types.ts'
import type { Engines } from '../engines.ts'
import { hostErrors } from '../errors.ts'
import { verifyChecks } from '../health/services.ts'
import type { LogJob } from '../log/mux.ts'
import type { ActiveJob, Job, VolumeFence } from '../types.ts'
import { fenceText } from '../volume/fences.ts'
import type { Partitions } from './defaults.core.ts'
import { profileParts } from './profiles.ts'
import { verifyProgram } from './program.ts'
import { containerSpec } from './spec.core.ts'

export type TerminalSize = { readonly rows: number; readonly columns: number }

export type StartContext = {
  readonly engines: Engines
  readonly partitions: Partitions
  readonly externalIp: string
  readonly listenIp: string
  readonly authKey: string
  /** Resolves with the value for DISCOVERD once discoverd answers on this host. */
  readonly discoverd: (signal: AbortSignal) => Promise<string>
  /** Why no job may have a volume now. */
  readonly fence: (volume: string) => VolumeFence | undefined
  readonly log: Logger
}

/** Rejects a volume that is on its way between hosts: another copy of it may be in use. */
export function refuseFenced(fence: VolumeFence | undefined, volume: string): void {
  if (fence !== undefined) throw hostErrors.VOLUME_FENCED({ volume, how: fenceText(fence) })
}

/** Whose log the job writes to. */
export function logJobOf(job: Job): LogJob {
  return {
    jobId: job.id,
    app: job.metadata?.['flynn-controller.app'],
    processType: job.metadata?.['flynn-controller.type'],
  }
}

export function isLogged(job: Job): boolean {
  return !job.config.tty && !job.config.disable_log
}

function verify(job: Job, partitions: Partitions): void {
  if (!Object.hasOwn(partitions, job.partition ?? ''))
    throw hostErrors.INVALID_PARTITION({ partition: job.partition ?? '' })
  if (!job.config.args?.length) throw hostErrors.NO_COMMAND()
  for (const m of job.mountspecs ?? [])
    if (m.type !== 'squashfs') throw hostErrors.INVALID_MOUNTSPEC({ type: m.type, id: m.id })
  verifyChecks(job.config.ports ?? [])
}

async function acquireLayers(c: StartContext, job: Job, signal: AbortSignal): Promise<readonly string[]> {
  const results = await Promise.allSettled(
    (job.mountspecs ?? []).map(m =>
      c.engines.layers.acquire(
        {
          id: m.id,
          sizeBytes: m.size ?? 0,
          hashes: m.hashes ?? {},
          ...(m.url ? { url: m.url } : {}),
          ...(m.meta ? { meta: m.meta } : {}),
        },
        job.id,
        signal,
      ),
    ),
  )
  // All have settled, so a release after a failure finds none still on its way.
  return results.map(r => {
    if (r.status === 'rejected') throw r.reason
    return r.value
  })
}

/** A directory of the host that jobs keep their state in is made by the first job that may write there. */
async function createSources(mounts: readonly ContainerMount[]): Promise<void> {
  for (const { source, writeable, device } of mounts) {
    if (device !== undefined || !writeable) continue
    const there = await stat(source).catch(() => undefined)
    if (!there) await mkdir(source, { recursive: true, mode: 0o700 })
  }
}

/** Needs of a start that only the runner can meet. */
export type StartHooks = {
  /** While the start waits for something that is not its own work, others may start. */
  readonly waiting: <T>(work: () => Promise<T>) => Promise<T>
  readonly addressed: (address: string) => void
  readonly size: () => TerminalSize | undefined
  /** The container is there and has not run: output is connected and attachments are let in. */
  readonly created: () => Promise<void>
}

/**
 * Makes and starts the container; answers its pid. Rejects with the reason, or the signal's, when it did not come to
 * that; the caller then calls `releaseJob`.
 */
export async function startJob(
  c: StartContext,
  active: ActiveJob,
  hooks: StartHooks,
  signal: AbortSignal,
): Promise<number> {
  const { job } = active
  const { runtime, volumes, network } = c.engines
  verify(job, c.partitions)
  const profiles = await profileParts(job.profiles ?? [])
  const discoverd =
    job.config.env?.['DISCOVERD'] === undefined ? await hooks.waiting(() => c.discoverd(signal)) : undefined
  const volumePaths: Record<string, string> = {}
  for (const { volume } of job.config.volumes ?? []) {
    refuseFenced(c.fence(volume), volume)
    const found = volumes.get(volume)
    if (!found) throw hostErrors.MISSING_VOLUME({ volume })
    if (found.type === 'snapshot') throw hostErrors.SNAPSHOT_BOUND({ volume })
    volumePaths[volume] = found.path
  }
  signal.throwIfAborted()
  const layers = await acquireLayers(c, job, signal)
  signal.throwIfAborted()
  const address = job.config.host_network ? undefined : network.allocate(job.id)
  if (address !== undefined) hooks.addressed(address)
  const spec = containerSpec(job, {
    externalIp: c.externalIp,
    listenIp: c.listenIp,
    authKey: c.authKey,
    discoverd,
    address,
    layers,
    volumePaths,
    profiles,
    size: hooks.size(),
  })
  await createSources(spec.mounts)
  const { pid } = await runtime.create(spec)
  signal.throwIfAborted()
  await verifyProgram({ pid, program: spec.args[0] ?? '', path: spec.env['PATH'] ?? '', cwd: spec.cwd })
  if (address !== undefined) {
    await network.attach(job.id, pid, address)
    if (job.partition === 'system') await network.allowSystem(address, true)
  }
  await hooks.created()
  signal.throwIfAborted()
  await runtime.start(job.id)
  return pid
}

export type ReleaseOptions = {
  readonly engines: Engines
  readonly job: ActiveJob
  /** True for a volume that another job has in use: its successor goes on with it. */
  readonly inUse: (volume: string) => boolean
  readonly log: Logger
}

/**
 * Gives back everything a down job held. Each part is tried whatever became of the others; rejects with the first
 * failure, and may be repeated.
 */
export async function releaseJob(options: ReleaseOptions): Promise<void> {
  const { engines, log } = options
  const { job, internal_ip: address } = options.job
  const failures: unknown[] = []
  const attempt = async (what: string, work: () => Promise<unknown>) => {
    try {
      await work()
    } catch (err) {
      failures.push(err)
      log.warn({ job: job.id, what, reason: describeError(err) }, 'release failed')
    }
  }
  await attempt('container', () => engines.runtime.remove(job.id))
  await attempt('layers', () => engines.layers.release(job.id))
  if (address !== undefined && job.partition === 'system')
    await attempt('rules', () => engines.network.allowSystem(address, false))
  await attempt('address', () => engines.network.release(job.id))
  for (const { volume, delete_on_stop } of job.config.volumes ?? [])
    if (delete_on_stop && !options.inUse(volume) && engines.volumes.get(volume))
      await attempt('volume', () => engines.volumes.destroy(volume))
  if (failures.length > 0) throw failures[0]
}
