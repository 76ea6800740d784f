// One-off jobs (contract controller.md 2.8): any live release, also of another app, on a host that takes new jobs.
import { randomInt } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import type { ClusterHost } from '../../host/client.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import { errors } from '../errors.ts'
import { type HostJob, oneOffHostJob, volumeMetadata } from '../hostjob.core.ts'
import { type App, type Artifact, type Job, NewJob, type Release } from '../types.ts'
import { findApp, toApp } from './app-lookup.ts'
import { artifactsByIds } from './artifacts.ts'
import { bodyOf, fieldError } from './body.ts'
import { type Context, found, param } from './context.ts'
import { lookupRelease } from './release-lookup.ts'
import { isUuid } from './wire.ts'

/** How long a start that the host refuses for the moment (429) is tried again. */
export const jobStartRetryMs = 30_000

export type PlannedJob = {
  readonly host: ClusterHost
  readonly job: HostJob
  readonly uuid: string
  /** Undone when the job cannot be added. */
  readonly dataVolumeId: string | undefined
}

/** A random host of those that take new jobs. */
export async function pickHost(ctx: Context): Promise<ClusterHost> {
  let hosts: readonly ClusterHost[]
  try {
    hosts = await ctx.hosts()
  } catch (e) {
    throw errors.NO_HOST({ text: `discoverd does not answer: ${describeError(e)}` }, { cause: e })
  }
  const open = hosts.filter(host => !host.shutdown && !host.draining)
  const host = open[open.length > 1 ? randomInt(open.length) : 0]
  if (host) return host
  throw errors.NO_HOST({
    text: hosts.length === 0 ? 'none is registered' : 'all are shutting down or being drained',
  })
}

async function artifactsOf(ctx: Context, release: Release, request: NewJob): Promise<readonly Artifact[]> {
  const ids = request.artifacts?.length ? request.artifacts : (release.artifacts ?? [])
  if (ids.length === 0)
    throw fieldError('release.ArtifactIDs', 'cannot be empty', 'name artifacts, or a release that has some')
  const bad = ids.find(id => !isUuid(id))
  if (bad !== undefined) throw fieldError('artifacts', `names no artifact: ${bad}`)
  const known = await artifactsByIds(ctx.db, ids)
  return ids.map(id => {
    const artifact = known.get(id)
    if (!artifact) throw fieldError('artifacts', `names no artifact: ${id}`)
    return artifact
  })
}

async function addDataVolume(host: ClusterHost, app: App, release: Release): Promise<string> {
  const meta = volumeMetadata({
    appId: app.id,
    releaseId: release.id,
    type: '',
    path: '/data',
    deleteOnStop: true,
  })
  try {
    return (await host.client.createVolume({ meta })).id
  } catch (e) {
    throw errors.HOST_FAILED(
      { host: host.id, action: 'create a volume', text: describeError(e) },
      { cause: e },
    )
  }
}

/** Everything about the job decided, nothing started but the volume it asked for. */
export async function planJob(
  ctx: Context,
  appName: string,
  request: NewJob,
  options: { readonly attach: boolean },
): Promise<PlannedJob> {
  const app = toApp(await findApp(ctx.db, appName))
  const release = found(await lookupRelease(ctx.db, request.release))
  const artifacts = await artifactsOf(ctx, release, request)
  const host = await pickHost(ctx)
  const jobUuid = uuid()
  const dataVolumeId = request.data ? await addDataVolume(host, app, release) : undefined
  const job = oneOffHostJob({
    hostId: host.id,
    jobUuid,
    app,
    release,
    artifacts,
    request,
    attach: options.attach,
    dataVolumeId,
  })
  return { host, job, uuid: jobUuid, dataVolumeId }
}

/** Takes back what planning made, when the job did not start. */
export async function undoPlan(ctx: Context, plan: PlannedJob): Promise<void> {
  if (plan.dataVolumeId === undefined) return
  try {
    await plan.host.client.destroyVolume(plan.dataVolumeId, { retryMs: 0 })
  } catch (err) {
    ctx.log.warn({ err, volume: plan.dataVolumeId, host: plan.host.id }, 'unused volume left behind')
  }
}

export async function startJob(ctx: Context, plan: PlannedJob): Promise<void> {
  try {
    await plan.host.client.addJob(plan.job, { retryMs: jobStartRetryMs })
  } catch (e) {
    await undoPlan(ctx, plan)
    throw errors.HOST_FAILED(
      { host: plan.host.id, action: 'start the job', text: describeError(e) },
      { cause: e },
    )
  }
}

/** `POST /apps/:app/jobs` without an upgrade: started and left alone. */
export async function runJob(ctx: Context, req: FastifyRequest): Promise<Job> {
  const request = bodyOf(req, NewJob)
  const plan = await planJob(ctx, param(req, 'app'), request, { attach: false })
  await startJob(ctx, plan)
  return {
    id: plan.job.id,
    uuid: plan.uuid,
    host_id: plan.host.id,
    release: request.release,
    ...(request.args?.length ? { args: request.args } : {}),
  }
}
