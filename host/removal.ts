// The end of a host's membership (contract host.md 1.12, `remove`). The others keep a note in etcd that the host was removed;
// the host itself remembers it too. Either is enough to turn it away when it boots again, so that its old jobs and data do
// not come back by accident; `flynn-host init` makes it a new host. Called by daemon.ts, hosts.ts has the records.
import { mkdir, rename, rm, stat } from 'node:fs/promises'
import { dirname } from 'node:path'
import { DiscoverdClient } from '../discoverd/client.ts'
import { errorTable } from '../pkg/errors/errors.ts'
import type { EtcdClient } from '../pkg/etcd/client.ts'
import type { Server } from '../pkg/httpd/httpd.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { ContainerRuntime } from './container/types.ts'
import { type HostDatabase, openDatabase } from './database.ts'
import type { DiscoverdLink } from './discoverd.ts'
import type { Hosts } from './hosts.ts'
import type { JobRunner } from './job/runner.ts'
import type { JobTable } from './job/table.ts'
import { returnLease } from './network/leases.ts'
import type { HostPaths } from './paths.ts'
import { hostServiceName } from './types.ts'
import { asideFile, poolFile, releasePool } from './volume/pool.ts'

/** The answer to whoever asked for the removal goes out first. */
export const exitDelayMs = 300
/** containerd answers by then. */
const endTimeoutMs = 60_000
const removedKey = 'removed'

export const removalErrors = errorTable({
  REMOVED: {
    code: 'host_removed',
    status: 410,
    message: 'host {id} was removed from the cluster{since}',
    remedy:
      'to make it a new host of the cluster run flynn-host init with --peer-ips and the join key, then start the daemon',
  },
  SELF: {
    code: 'conflict',
    status: 409,
    message: 'host {id} cannot be asked to forget itself',
    remedy: 'ask another host of the cluster',
  },
})

/** Rejects REMOVED on a host that has been removed. */
export function assertMember(database: HostDatabase, id: string): void {
  const at = database.getSetting<string>(removedKey)
  if (at !== undefined) throw removalErrors.REMOVED({ id, since: ` at ${at}` })
}

export function markRemoved(database: HostDatabase): void {
  if (database.getSetting(removedKey) === undefined) database.setSetting(removedKey, new Date().toISOString())
}

export type Remains = {
  readonly database: HostDatabase
  readonly runtime: ContainerRuntime
  /** Nothing of before runs. */
  readonly rebooted: boolean
  readonly log: Logger
}

/**
 * Of a host that the others turn away: remembers it, and ends what its daemon left running while it was off. The cluster has
 * replacements for it.
 */
export async function endRemoved({ database, runtime, rebooted, log }: Remains): Promise<void> {
  markRemoved(database)
  if (rebooted) return
  await runtime.open(AbortSignal.timeout(endTimeoutMs))
  try {
    for (const { id } of await runtime.list()) {
      log.warn({ job: id }, 'ending a job of a host that was removed')
      await runtime.remove(id)
    }
  } finally {
    await runtime.close()
  }
}

async function exists(file: string): Promise<boolean> {
  return stat(file).then(
    () => true,
    () => false,
  )
}

/**
 * On a host that was removed: puts the file with its old volumes aside, and forgets its jobs; answers where the file is. Nothing
 * is done on any other host. May be repeated after it was cut short: that the host was removed is forgotten last.
 */
export async function beginAnew(paths: HostPaths): Promise<string | undefined> {
  if (!(await exists(paths.databaseFile))) return undefined
  const database = openDatabase(paths.databaseFile)
  const removedAt = database.getSetting<string>(removedKey)
  database.close()
  if (removedAt === undefined) return undefined
  const pool = poolFile(paths)
  const aside = asideFile(paths, removedAt.replaceAll(/[^0-9TZ]/g, ''))
  if (await exists(pool)) {
    await releasePool(paths)
    await mkdir(dirname(aside), { recursive: true, mode: 0o700 })
    await rename(dirname(pool), dirname(aside))
  }
  for (const end of ['', '-wal', '-shm', '-reserve']) await rm(`${paths.databaseFile}${end}`, { force: true })
  return aside
}

export type Leaving = {
  readonly database: HostDatabase
  readonly table: JobTable
  readonly runner: JobRunner
  readonly discoverd: DiscoverdLink
  readonly log: Logger
  /** Ends the daemon. */
  readonly exit: () => void
}

/** Makes the function that takes this host out: out of discoverd, every job stopped, the daemon ended. */
export function leaving({ database, table, runner, discoverd, log, exit }: Leaving): () => Promise<void> {
  async function leave(): Promise<void> {
    log.warn('this host is removed from the cluster: its jobs end, and the daemon with them')
    markRemoved(database)
    await discoverd.shutDown()
    const stop = (id: string) =>
      runner.stop(id).catch((err: unknown) => log.warn({ job: id, err }, 'a job did not stop'))
    const isDiscoverd = (id: string) => id === discoverd.jobId
    const ids = table.active().map(j => j.job.id)
    await Promise.all(ids.filter(id => !isDiscoverd(id)).map(stop))
    await Promise.all(ids.filter(isDiscoverd).map(stop))
    setTimeout(exit, exitDelayMs)
  }
  let left: Promise<void> | undefined
  return () => {
    left ??= leave()
    return left
  }
}

export type RemovalApi = {
  readonly server: Server
  readonly hostId: string
  readonly hosts: Hosts
  readonly etcd: EtcdClient
  readonly discoverdUrl: string
  readonly leave: () => Promise<void>
}

/** `GET /host/members`, `DELETE /host/members/:id` (asked of another host), `POST /host/leave` (of the host itself). */
export function removalRoutes({ server, hostId, hosts, etcd, discoverdUrl, leave }: RemovalApi): void {
  server.get('/host/members', async () => hosts.list)
  server.delete<{ Params: { id: string } }>('/host/members/:id', async (req, reply) => {
    const { id } = req.params
    if (id === hostId) throw removalErrors.SELF({ id })
    await hosts.forget(id)
    await returnLease(etcd, id)
    const discoverd = new DiscoverdClient({ servers: discoverdUrl })
    try {
      for (const instance of await discoverd.instances(hostServiceName))
        if (instance.meta?.['id'] === id) await discoverd.deleteInstance(hostServiceName, instance.id)
    } finally {
      await discoverd.close()
    }
    return reply.send()
  })
  server.post('/host/leave', async (_req, reply) => {
    await leave()
    return reply.send()
  })
}
