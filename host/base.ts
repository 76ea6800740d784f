// What a daemon opens before anything else: its lock, its database, its way to etcd and to the other hosts. Called by daemon.ts.
import { existsSync } from 'node:fs'
import { createServer, type Server as NetServer } from 'node:net'
import { DiscoverdClient } from '../discoverd/client.ts'
import { describeError, errorTable } from '../pkg/errors/errors.ts'
import type { Logger } from '../pkg/log/log.ts'
import { version } from '../pkg/version/version.ts'
import { type DaemonConfig, hostKey, keptKey } from './config.ts'
import { type Consensus, openConsensus } from './consensus.ts'
import { type HostDatabase, openDatabase } from './database.ts'
import { findByToken } from './discovery.ts'
import { type Engines, makeEngines } from './engines.ts'
import { Hosts, rememberedHosts } from './hosts.ts'
import { bootIdentity } from './job/boot.ts'
import { joinErrors } from './join.ts'
import { wasLeased } from './network/overlay.ts'
import { type VolumeFences, volumeFences } from './volume/fences.ts'

/** Setting that tells the boot of the last daemon. */
export const bootKey = 'boot'

const errors = errorTable({
  SECOND_DAEMON: {
    status: 409,
    message: 'another flynn-host daemon is running on this host',
    remedy: 'stop it first, or use it: flynn-host ps',
  },
})

/** Held for the daemon's life. An abstract socket: gone with the process, and one for each network namespace. */
async function lockHost(stateDir: string): Promise<NetServer> {
  const lock = createServer()
  await new Promise<void>((resolve, reject) => {
    lock.once('error', (cause: NodeJS.ErrnoException) =>
      reject(cause.code === 'EADDRINUSE' ? errors.SECOND_DAEMON({}, { cause }) : cause),
    )
    lock.listen(`\0flynn-host:${stateDir}`, () => resolve())
  })
  return lock
}

/** What this daemon opens first, and what it opens it with. */
export type Base = {
  readonly config: DaemonConfig
  readonly log: Logger
  readonly client: DiscoverdClient
  readonly engines: Engines
  readonly lock: NetServer
  readonly authKey: string
  readonly database: HostDatabase
  /** Which boot of the machine this is, and whether the last daemon saw another one. */
  readonly boot: string
  readonly rebooted: boolean
  /** Other hosts, as the operator or the last daemon knew them. */
  readonly peerIps: readonly string[]
  readonly consensus: Consensus
  /** What keeps jobs from volumes that are moving. */
  readonly fences: VolumeFences
  readonly hosts: Hosts
  /** Resolves when somebody has removed this host. */
  readonly removed: Promise<void>
  /** Aborts when the daemon ends. */
  readonly stop: AbortController
  readonly fatal: (err: unknown) => never
}

/** Nothing that a daemon before this one started is touched yet. Rejects NO_JOIN_KEY, WRONG_KEY, SECOND_DAEMON. */
export async function openBase(config: DaemonConfig, log: Logger, given: Engines | undefined): Promise<Base> {
  const { hostId, externalIp, paths } = config
  const givenKey = config.authKey ?? keptKey(paths)
  const told = await findByToken({ ...config, key: givenKey, isNew: !existsSync(paths.databaseFile), log })
  const named = [...config.peerIps, ...told].filter(ip => ip !== externalIp)
  if (named.length > 0 && givenKey === undefined) throw joinErrors.NO_JOIN_KEY({ peers: named.join(', ') })
  const lock = await lockHost(paths.stateDir)
  const client = new DiscoverdClient({ servers: `http://${externalIp}:1111` })
  const authKey = hostKey(paths, config.authKey)
  const database = openDatabase(paths.databaseFile)
  const fences = volumeFences(database)
  const boot = bootIdentity()
  const rebooted = database.getSetting<string>(bootKey) !== boot
  log.info({ hostId, externalIp, rebooted, pid: process.pid }, 'daemon starts')
  const engines = given ?? makeEngines(config, client, log, id => fences.get(id)?.kind === 'incoming')
  const peerIps = [...new Set([...named, ...rememberedHosts(database, hostId)])]
  const consensus = openConsensus({ database, externalIp, peerIps, log })
  const removed = Promise.withResolvers<void>()
  const hosts = new Hosts({
    onRemoved: removed.resolve,
    ...{ database, etcd: consensus.etcd, log },
    isNew: !wasLeased(database),
    self: { id: hostId, address: externalIp, version },
    onAddresses: addresses => {
      engines.network.setClusterHosts(addresses).catch((err: unknown) => {
        log.error({ err }, 'the packet rules do not follow the hosts')
      })
    },
  })
  return {
    ...{
      config,
      log,
      client,
      lock,
      authKey,
      database,
      boot,
      rebooted,
      peerIps,
      engines,
      consensus,
      fences,
      hosts,
    },
    removed: removed.promise,
    stop: new AbortController(),
    fatal: err => {
      log.fatal({ err }, `the daemon ends, its jobs live on: ${describeError(err)}`)
      process.exit(1)
    },
  }
}

export async function closeBase({ client, consensus, database, lock }: Base): Promise<void> {
  consensus.etcd.close()
  await client.close()
  database.close()
  lock.close()
}
