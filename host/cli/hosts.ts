// How commands find the cluster (contract host.md 0.4): hosts from discoverd, a job's host from its id.
import { readFileSync } from 'node:fs'
import { errorTable, isFlynnError } from '../../pkg/errors/errors.ts'
import { parseJobId } from '../../pkg/ids/ids.ts'
import { type ClusterHost, HostClient, hostOfJob, hostUrl, listHosts } from '../client.ts'
import { hostPaths } from '../paths.ts'
import { type ActiveJob, hostApiPort } from '../types.ts'
import type { Context } from './command.ts'

export const discoverdTimeoutMs = 1_500
const localTimeoutMs = 2_000

export const cliErrors = errorTable({
  NO_HOSTS: {
    status: 404,
    message: 'no hosts found',
    remedy: 'is the daemon running? start it with: flynn-host daemon',
  },
  UNKNOWN_HOST: {
    status: 404,
    message: 'cluster: unknown host "{id}"',
    remedy: 'see the hosts with: flynn-host list',
  },
  INVALID_ID: {
    status: 400,
    message: 'invalid job ID "{id}"',
    remedy: 'job IDs look like HOST-UUID, see them with: flynn-host ps -a',
  },
  NO_SUCH_JOB: { status: 404, message: 'no such job', remedy: 'see the jobs with: flynn-host ps -a' },
  NO_KEY: {
    status: 401,
    message: 'the key of the host API is not known',
    remedy: 'run as root on a host, or set FLYNN_HOST_AUTH_KEY',
  },
})

/** From the environment, else from the key file of this host. */
export function readAuthKey(env: Context['env']): string | undefined {
  const given = env['FLYNN_HOST_AUTH_KEY']
  if (given) return given
  try {
    return readFileSync(hostPaths().authKeyFile, 'utf8').trim() || undefined
  } catch {
    // Not a host, or not root: the host's 401 says what to do.
    return undefined
  }
}

/** Hosts from discoverd; before there is one, this machine's daemon alone. */
export async function findHosts(
  env: Context['env'],
  authKey: string | undefined,
  note: (text: string) => void,
): Promise<readonly ClusterHost[]> {
  let failure: unknown
  try {
    const hosts = await listHosts({
      discoverd: env['DISCOVERD'],
      authKey,
      timeoutMs: discoverdTimeoutMs,
    })
    if (hosts.length > 0) return hosts
  } catch (e) {
    failure = e
  }
  const client = new HostClient({ url: hostUrl('127.0.0.1'), authKey })
  try {
    const status = await client.status({ retryMs: 0, timeoutMs: localTimeoutMs })
    note('discoverd does not answer, showing this host only')
    const draining = status.draining_since !== undefined
    const addr = `127.0.0.1:${hostApiPort}`
    return [{ id: status.id, addr, tags: status.tags ?? {}, shutdown: false, draining, client }]
  } catch (e) {
    throw cliErrors.NO_HOSTS({}, { cause: failure ?? e })
  }
}

/** The client of the host that a job id names. */
export async function hostForJob(context: Context, id: string): Promise<ClusterHost> {
  const parsed = parseJobId(id)
  if (!parsed) throw cliErrors.INVALID_ID({ id })
  const host = hostOfJob(id, await context.hosts())
  if (!host) throw cliErrors.UNKNOWN_HOST({ id: parsed.hostId })
  return host
}

/** A job, or NO_SUCH_JOB. */
export async function findJob(context: Context, id: string): Promise<{ host: ClusterHost; job: ActiveJob }> {
  const host = await hostForJob(context, id)
  try {
    return { host, job: await host.client.job(id) }
  } catch (e) {
    if (isFlynnError(e, 'object_not_found')) throw cliErrors.NO_SUCH_JOB()
    throw e
  }
}
