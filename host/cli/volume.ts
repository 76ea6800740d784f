// `flynn-host volume`: list, create, delete, gc (contract host.md 1.5).
import { describeError, errorTable, isFlynnError } from '../../pkg/errors/errors.ts'
import { table } from '../../pkg/table/table.ts'
import type { ClusterHost } from '../client.ts'
import { type ActiveJob, isActive, type VolumeInfo } from '../types.ts'
import { type Arguments, type Command, type Context, text, UsageError } from './command.ts'
import { cliErrors } from './hosts.ts'
import { ago } from './ps.ts'

const errors = errorTable({
  NO_SUCH_VOLUME: {
    status: 404,
    message: 'no such volume',
    remedy: 'see the volumes with: flynn-host volume list',
  },
  INCOMPLETE: {
    status: 503,
    message: 'the jobs of host {host} are not known, nothing was deleted',
    remedy: 'bring that host back, or remove it from the cluster first',
  },
})

type Located = { readonly host: ClusterHost; readonly volume: VolumeInfo }

async function allVolumes(hosts: readonly ClusterHost[]): Promise<readonly Located[]> {
  const lists = await Promise.all(
    hosts.map(async host => (await host.client.volumes()).map(volume => ({ host, volume }))),
  )
  return lists.flat().sort((a, b) => (a.volume.created_at < b.volume.created_at ? -1 : 1))
}

async function listVolumes(context: Context): Promise<number> {
  const volumes = await allVolumes(await context.hosts())
  const rows = volumes.map(({ host, volume }) => [
    volume.id,
    volume.type,
    host.id,
    ago(volume.created_at, Date.now()),
    Object.entries(volume.meta ?? {})
      .map(([k, v]) => `${k}=${v}`)
      .join(' '),
  ])
  context.stdout.write(table([['ID', 'TYPE', 'HOST', 'CREATED', 'META'], ...rows]))
  return 0
}

async function createVolume(context: Context, id: string, provider: string): Promise<number> {
  const host = (await context.hosts()).find(h => h.id === id)
  if (!host) throw cliErrors.UNKNOWN_HOST({ id })
  const volume = await host.client.createVolume({}, { provider })
  context.stdout.write(`created volume ${volume.id} on ${host.id}\n`)
  return 0
}

async function deleteVolumes(context: Context, ids: readonly string[]): Promise<number> {
  const volumes = await allVolumes(await context.hosts())
  let code = 0
  for (const id of ids) {
    try {
      const found = volumes.find(v => v.volume.id === id)
      if (!found) throw errors.NO_SUCH_VOLUME()
      await found.host.client.destroyVolume(id)
      context.stdout.write(`${id} deleted\n`)
    } catch (e) {
      code = 1
      context.stdout.write(`could not delete volume ${id}: ${describeError(e)}\n`)
    }
  }
  return code
}

/** Ids that jobs in life hold on to (contract host.md 1.5). */
export function volumesInUse(jobs: readonly ActiveJob[]): ReadonlySet<string> {
  return new Set(
    jobs
      .filter(isActive)
      .flatMap(({ job }) => [
        job.id,
        ...(job.config.volumes ?? []).map(v => v.volume),
        ...(job.mountspecs ?? []).map(m => m.id),
      ]),
  )
}

async function collectGarbage(context: Context): Promise<number> {
  const hosts = await context.hosts()
  // A host whose jobs are not known could be using any of them (contract host.md 10, no. 42).
  const jobs = await Promise.all(
    hosts.map(h =>
      h.client.jobs().catch((cause: unknown) => {
        throw errors.INCOMPLETE({ host: h.id }, { cause })
      }),
    ),
  )
  const keep = volumesInUse(jobs.flatMap(list => Object.values(list)))
  let code = 0
  for (const { host, volume } of await allVolumes(hosts)) {
    if (keep.has(volume.id) || volume.meta?.['flynn.system-image'] === 'true') continue
    try {
      await host.client.destroyVolume(volume.id)
      context.stdout.write(`Deleted ${volume.type} volume ${volume.id}\n`)
    } catch (e) {
      if (isFlynnError(e, 'object_not_found')) continue
      code = 1
      context.stdout.write(`could not delete ${volume.type} volume ${volume.id}: ${describeError(e)}\n`)
    }
  }
  return code
}

export const volumeCommand: Command = {
  name: 'volume',
  summary: 'Manage data volumes',
  usage: `usage: flynn-host volume list
       flynn-host volume create [--provider=<provider>] <host>
       flynn-host volume delete ID...
       flynn-host volume gc

Manage data volumes. gc deletes every volume that no starting or running job has.

Options:
  --provider=<provider>  where to create the volume [default: default]

Example:
  flynn-host volume list
`,
  options: { provider: { type: 'string' } },
  positionals: { min: 1, max: Number.POSITIVE_INFINITY },
  async run({ flags, rest: [verb, ...ids] }: Arguments, context) {
    const [first] = ids
    if (verb === 'list' && ids.length === 0) return listVolumes(context)
    if (verb === 'gc' && ids.length === 0) return collectGarbage(context)
    if (verb === 'create' && first !== undefined && ids.length === 1)
      return createVolume(context, first, text(flags, 'provider') ?? 'default')
    if (verb === 'delete' && ids.length > 0) return deleteVolumes(context, ids)
    throw new UsageError(`no such use of volume: ${[verb, ...ids].join(' ')}`)
  },
}
