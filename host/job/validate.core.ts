// What a PUT of a job is refused for before anything is stored (contract host.md 2.1 and 11 "Host validation").
// Whatever needs the host to judge (partition, layers, volumes) fails the job later, with an event.
import { hostErrors } from '../errors.ts'
import type { Job, JobRequest } from '../types.ts'

/** containerd's rule for container ids, which job ids become. */
export const jobIdPattern = /^[A-Za-z0-9]+(?:[._-][A-Za-z0-9]+)*$/
export const jobIdCharsMax = 76

export function isJobId(id: string): boolean {
  return id.length <= jobIdCharsMax && jobIdPattern.test(id)
}

/** System jobs are those of partition `system`, and those of apps the controller marks as part of the platform. */
export function isSystemJob(job: JobRequest): boolean {
  return job.partition === 'system' || job.metadata?.['flynn-system-app'] === 'true'
}

function refuse(field: string, text: string): never {
  throw hostErrors.INVALID_JOB({ field, text }, { detail: { field } })
}

/** The job of a request; `urlId` counts when the body has no id. Throws 400 rows of host/errors.ts. */
export function acceptJob(urlId: string, body: JobRequest): Job {
  const id = body.id || urlId
  if (!isJobId(id))
    refuse('id', `must match ${jobIdPattern.source} and have at most ${jobIdCharsMax} characters`)
  if (!body.mountspecs || body.mountspecs.length === 0) throw hostErrors.MOUNTSPECS()
  const config = body.config ?? {}
  for (const [i, port] of (config.ports ?? []).entries())
    if (port.proto && port.proto !== 'tcp' && port.proto !== 'udp')
      refuse(`config.ports.${i}.proto`, 'must be tcp or udp')
  if (!isSystemJob(body)) {
    if (config.host_network) refuse('config.host_network', 'is for jobs of partition system only')
    if (config.host_pid_namespace) refuse('config.host_pid_namespace', 'is for jobs of partition system only')
    if (config.writeable_cgroups) refuse('config.writeable_cgroups', 'is for jobs of partition system only')
  }
  for (const [i, v] of (config.volumes ?? []).entries()) {
    if (v.volume === '') refuse(`config.volumes.${i}.volume`, 'must be set')
    if (!v.target.startsWith('/')) refuse(`config.volumes.${i}.target`, 'must be an absolute path')
  }
  return { ...body, id, config }
}
