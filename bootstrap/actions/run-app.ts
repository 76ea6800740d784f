// Starts the jobs of an app directly on the hosts, for the parts that must run before a controller and scheduler do.
// Looks first at what runs already, so a second run starts only what is missing (contract host.md 7.3).
import { Type } from 'typebox'
import { formationHostJob, jobMetaKeys, processVolumes, volumeMetadata } from '../../controller/client.ts'
import type { ProcessType } from '../../controller/types.ts'
import { type ActiveJob, isActive, statusName } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { FlynnError } from '../../pkg/errors/errors.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import type { BootstrapContext, BootstrapHost } from '../context.ts'
import type { Action } from '../engine.ts'
import { errors } from '../errors.ts'
import { AppStep, type BootFormation, formationOf } from '../formation.ts'
import type { Step } from '../manifest.ts'

const jobPollMs = 50

async function activeJobs(
  host: BootstrapHost,
  formation: BootFormation,
  type: string,
): Promise<readonly ActiveJob[]> {
  const jobs = Object.values(await host.client.jobs({ active: true }))
  return jobs.filter(
    ({ job }) =>
      job.metadata?.[jobMetaKeys.app] === formation.app.id && job.metadata[jobMetaKeys.type] === type,
  )
}

/** Hosts to start a job of this type on, one entry a job, with what runs already taken off. */
async function missing(
  formation: BootFormation,
  type: string,
  count: number,
  context: BootstrapContext,
): Promise<readonly BootstrapHost[]> {
  const running = await Promise.all(context.hosts.map(h => activeJobs(h, formation, type)))
  const have = running.map(jobs => jobs.length)
  const omni = formation.release.processes[type]?.omni === true
  if (omni)
    return context.hosts.flatMap((h, i) => Array<BootstrapHost>(Math.max(0, count - (have[i] ?? 0))).fill(h))
  const wanted: BootstrapHost[] = []
  const load = [...have]
  for (let n = have.reduce((a, b) => a + b, 0); n < count; n++) {
    const least = load.indexOf(Math.min(...load))
    const host = context.hosts[least]
    if (!host) break
    load[least] = (load[least] ?? 0) + 1
    wanted.push(host)
  }
  return wanted
}

/** A volume that an earlier, failed attempt left behind is taken before a new one is made. */
async function volumeFor(
  host: BootstrapHost,
  formation: BootFormation,
  type: string,
  volume: { readonly path: string; readonly deleteOnStop: boolean },
): Promise<{ readonly id: string; readonly path: string; readonly deleteOnStop: boolean }> {
  const meta = volumeMetadata({
    appId: formation.app.id,
    releaseId: formation.release.id,
    type,
    path: volume.path,
    deleteOnStop: volume.deleteOnStop,
  })
  const used = new Set(
    Object.values(await host.client.jobs({ active: true })).flatMap(j =>
      (j.job.config.volumes ?? []).map(v => v.volume),
    ),
  )
  const same = (v: { readonly id: string; readonly meta?: Readonly<Record<string, string>> }) =>
    !used.has(v.id) && Object.entries(meta).every(([k, value]) => v.meta?.[k] === value)
  const found = (await host.client.volumes()).find(same)
  const { id } = found ?? (await host.client.createVolume({ type: 'data', meta }))
  return { id, ...volume }
}

async function startJob(
  host: BootstrapHost,
  formation: BootFormation,
  type: string,
  process: ProcessType,
  context: BootstrapContext,
): Promise<string> {
  const volumes = []
  for (const volume of processVolumes(process)) volumes.push(await volumeFor(host, formation, type, volume))
  const job = formationHostJob({
    hostId: host.id,
    jobUuid: uuid(),
    app: formation.app as { id: string; name: string; meta: Record<string, string> },
    release: formation.release,
    artifacts: formation.artifacts,
    type,
    process,
    volumes,
  })
  await host.client.addJob(job, { signal: context.options.signal })
  const failed = (reason: string, cause?: unknown) =>
    errors.JOB_FAILED({ app: formation.app.name, type, host: host.id, job: job.id, reason }, { cause })
  const started = async () => {
    const now = await host.client.job(job.id, { retryMs: 0 })
    if (statusName(now) === 'starting') return false
    if (!isActive(now)) throw failed(now.error ?? `it ended with status ${now.exit_status ?? 'unknown'}`)
    return true
  }
  const { jobTimeoutMs, signal } = context.options
  let outcome: FlynnError | undefined
  await poll(
    () =>
      started().catch(e => {
        if (!(e instanceof FlynnError) || e.code !== 'job_failed') throw e
        outcome = e
        return true
      }),
    { timeoutMs: jobTimeoutMs, intervalMs: jobPollMs, signal, what: `job ${job.id}` },
  ).catch(e => {
    throw failed(`it was not running after ${jobTimeoutMs / 1000} s`, e)
  })
  if (outcome) throw outcome
  return job.id
}

async function startMissing(formation: BootFormation, context: BootstrapContext): Promise<void> {
  for (const [type, count] of Object.entries(formation.processes)) {
    const process = formation.release.processes[type]
    if (!process) continue
    const hosts = await missing(formation, type, count, context)
    await Promise.all(hosts.map(host => startJob(host, formation, type, process, context)))
  }
}

function ofStep(step: Step, data: unknown, context: BootstrapContext): BootFormation {
  const formation = data as BootFormation
  const processes = step['processes'] as Record<string, number> | undefined
  return { ...formation, processes: context.clamp(processes ?? formation.processes) }
}

export const runApp: Action = {
  schema: Type.Union([
    AppStep,
    Type.Object({
      app_step: Type.String(),
      processes: Type.Record(Type.String(), Type.Integer({ minimum: 0 })),
    }),
  ]),
  async run(step, context) {
    const source = step['app_step']
    const formation =
      typeof source === 'string'
        ? ofStep(step, context.data<BootFormation>(step.id, source), context)
        : await formationOf(step, context)
    await startMissing(formation, context)
    return { data: formation }
  },
  async stillDone(data, step, context) {
    const formation = ofStep(step, data, context)
    for (const [type, count] of Object.entries(formation.processes)) {
      if ((await missing(formation, type, count, context)).length > 0) return false
    }
    return true
  },
}
