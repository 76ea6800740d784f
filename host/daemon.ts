// The daemon of a host: opens its state and engines, takes over what runs, serves the API, brings back what a power cut
// took. Order and wiring only; each noun is in a file of its own. Closing it never ends a job.
import { writeFile } from 'node:fs/promises'
import { relative } from 'node:path'
import { isFlynnError } from '../pkg/errors/errors.ts'
import type { Logger } from '../pkg/log/log.ts'
import { version } from '../pkg/version/version.ts'
import { hostApi, isAuthorized } from './api.ts'
import { attachServer } from './attach/server.ts'
import { type Base, bootKey, closeBase, openBase } from './base.ts'
import { hostCapacity } from './capacity.ts'
import type { DaemonConfig } from './config.ts'
import { etcdClientPort } from './consensus.ts'
import { DiscoverdLink } from './discoverd.ts'
import { hostDrain } from './drain.ts'
import type { Engines } from './engines.ts'
import { shortenFailover } from './failover.ts'
import { monitorCluster } from './fix/monitor.ts'
import { patternStore } from './fix/patterns.ts'
import { probe } from './health/probe.ts'
import { Services } from './health/services.ts'
import { guardSystemJobs } from './job/guardian.ts'
import { restoreJobs } from './job/restore.ts'
import { JobRunner } from './job/runner.ts'
import { JobTable } from './job/table.ts'
import { enterCluster, joinRoutes } from './join.ts'
import { feedAggregators } from './log/aggregator.ts'
import { LogMux } from './log/mux.ts'
import { standInForShims } from './log/stand-in.ts'
import { refuseDeadHosts } from './network/dead-hosts.ts'
import { Overlay, wasLeased } from './network/overlay.ts'
import { assertMember, endRemoved, leaving, markRemoved, removalRoutes } from './removal.ts'
import { replaceSilentPrimary } from './silent-primary.ts'
import { sinkRoutes } from './sink/api.ts'
import { Sinks } from './sink/sinks.ts'
import { hostTags } from './tags.ts'
import { isActive } from './types.ts'
import { VolumeMoves } from './volume/moves.ts'
import { volumeRoutes } from './volume-api.ts'
import { yieldLeader } from './yield-leader.ts'

/** Pool, containerd and layers must be there within this time. */
export const enginesOpenTimeoutMs = 120_000

export type Daemon = {
  readonly url: string
  /** Stops serving; jobs, containers and registrations live on. Safe to call twice. */
  close(): Promise<void>
}

/** Databases that fork to save themselves need this (contract host.md 3.8); a container may not be allowed to. */
async function allowOvercommit(log: Logger): Promise<void> {
  await writeFile('/proc/sys/vm/overcommit_memory', '1').catch((err: unknown) =>
    log.info({ err }, 'vm.overcommit_memory was left as it is'),
  )
}

async function openEngines(engines: Engines): Promise<void> {
  const limit = AbortSignal.timeout(enginesOpenTimeoutMs)
  await Promise.all([engines.runtime.open(limit), engines.layers.open(), engines.volumes.open(limit)])
}

/** The layer that this program itself runs out of (setup/files.ts) stays mounted with no job in it. */
async function holdOwnLayer(layersDir: string, engines: Engines): Promise<void> {
  const own = relative(layersDir, process.execPath).split('/')[0] ?? ''
  if (own !== '..') await engines.layers.adopt('flynn-host', [own])
}

/** The nouns of the daemon; none of them does anything by itself yet. */
function makeParts(base: Base) {
  const { config, log, client, engines, database, consensus } = base
  const { hostId, externalIp, paths } = config
  const table = new JobTable(database, hostId, base.fatal)
  const inUse = () => table.active().some(j => j.internal_ip !== undefined)
  const overlay = new Overlay({
    ...{ database, hostId, externalIp, inUse, log },
    network: engines.network,
    etcd: consensus.etcd,
  })
  const mux = new LogMux({ dir: paths.logDir, hostId, database, trustDatabase: !base.rebooted })
  const tags = hostTags(database, config.tags)
  const capacity = hostCapacity()
  const drain = hostDrain(database)
  const discoverd = new DiscoverdLink({
    ...{ client, database, hostId, externalIp, capacity, log },
    tags: () => tags.current,
    drainingSince: () => drain.since,
  })
  const runner: JobRunner = new JobRunner({
    start: {
      ...{ engines, externalIp, log },
      partitions: config.partitions,
      listenIp: config.listenIp,
      authKey: base.authKey,
      discoverd: signal => discoverd.whenReady(signal),
      fence: volume => base.fences.get(volume),
    },
    ...{ table, mux, log },
    services: () => services,
    concurrencyMax: config.jobConcurrencyMax,
  })
  const services: Services = new Services({
    ...{ externalIp, database, probe, log },
    discoverd: client,
    kill: (id, reason) => runner.kill(id, reason),
    note: (id, line) => runner.note(id, line),
  })
  const aggregators = new Set<string>()
  const sinks = new Sinks({ ...{ database, mux, aggregators, log }, job: id => table.get(id)?.job })
  return { table, overlay, mux, tags, drain, discoverd, runner, services, aggregators, sinks }
}

type Parts = ReturnType<typeof makeParts>

/** The API with everything on it, not listening yet. */
function makeApi(base: Base, parts: Parts, url: string) {
  const { config, log, authKey, engines } = base
  const { table, runner, overlay, discoverd, tags, drain, mux } = parts
  const { hostId } = config
  const { runtime } = engines
  const server = hostApi({
    ...{ log, authKey, hostId, url, table, runner, runtime, discoverd, tags, drain },
    patterns: patternStore(base.database),
    flags: config.flags,
    network: () => overlay.config(),
    setNetwork: wanted => overlay.set(wanted),
  })
  const { fences, hosts } = base
  const boundTo = (id: string) => table.boundTo(id)?.job.id
  const addressOf = (id: string) => hosts.get(id)?.address
  const volumes = engines.volumes
  const moves = new VolumeMoves({ volumes, fences, boundTo, hostId, authKey, addressOf, log })
  volumeRoutes({ server, volumes, boundTo, fences, moves, log })
  sinkRoutes(server, parts.sinks)
  const leave = leaving({
    ...{ database: base.database, table, runner, discoverd, log },
    exit: () => process.exit(0),
  })
  base.removed.then(leave).catch(base.fatal)
  const { etcd } = base.consensus
  removalRoutes({ server, hostId, hosts, etcd, discoverdUrl: discoverd.url, leave })
  joinRoutes({ server, hostId, address: config.externalIp, version, hosts: base.hosts, authKey })
  const endAttachments = attachServer({
    server: server.server,
    context: { table, runner, mux, runtime, log },
    authorized: req => isAuthorized(authKey, req),
  })
  return { server, endAttachments }
}

/** The jobs of before: taken over, ended or brought back. */
async function takeOver(base: Base, parts: Parts): Promise<void> {
  const { config, log, engines, rebooted, database } = base
  const { table, runner, discoverd } = parts
  await restoreJobs({
    ...{ table, runner, engines, rebooted, log },
    hostId: config.hostId,
    resurrect: config.resurrect && !config.force,
    isDiscoverd: job => job.id === discoverd.jobId,
    onRenamed: (before, after) => {
      if (discoverd.jobId === before) discoverd.jobId = after
    },
  })
  // Only now: a crash before this point finds the same work to do again.
  database.setSetting(bootKey, base.boot)
  const isAlive = (id: string) => {
    const job = table.get(id)
    return job !== undefined && isActive(job)
  }
  if (!rebooted) discoverd.restore(isAlive)
  if (config.force) await Promise.all(table.active().map(j => runner.stop(j.job.id)))
}

/** What goes on by itself while the daemon runs; ends with `base.stop`. */
function beginWork(base: Base, parts: Parts): { readonly over: Promise<unknown> } {
  const { config, log, client, stop, peerIps } = base
  const { table, runner, discoverd, overlay, mux } = parts
  const { hostId } = config
  const over = Promise.all([
    base.consensus.run(stop.signal),
    base.hosts.run(stop.signal),
    yieldLeader({
      ...{ etcd: base.consensus.etcd, log, signal: stop.signal },
      own: `${config.externalIp}:${etcdClientPort}`,
      draining: () => parts.drain.since !== undefined,
    }),
    overlay.run(stop.signal),
    monitorCluster(
      {
        ...{ hostId, log, authKey: base.authKey, externalIp: config.externalIp },
        hosts: () => base.hosts.list,
        etcd: base.consensus.etcd,
      },
      stop.signal,
    ),
  ]).catch(base.fatal)
  discoverd.registerThrough(peerIps)
  parts.sinks.start()
  stop.signal.addEventListener('abort', () => parts.sinks.close(), { once: true })
  const { runtime } = base.engines
  const copiedJobs = () =>
    table
      .active()
      .flatMap(({ job: { id }, pid }) => (pid === undefined ? [] : [{ id, pid, stdio: runtime.stdio(id) }]))
  standInForShims({ jobs: copiedJobs, log }, stop.signal).catch(base.fatal)
  const endGuard = guardSystemJobs({
    ...{ table, runner, hostId, log },
    discoverdJobId: () => discoverd.jobId,
    setDiscoverdJobId: id => {
      discoverd.jobId = id
    },
  })
  stop.signal.addEventListener('abort', endGuard, { once: true })
  discoverd.onReady(() => {
    const failover = { etcd: base.consensus.etcd, discoverd: client, table, hostId, log }
    Promise.all([
      shortenFailover({ ...failover, signal: stop.signal }),
      replaceSilentPrimary({ ...failover, signal: stop.signal }),
    ]).catch((err: unknown) => {
      if (!stop.signal.aborted) log.error({ err }, 'hosts are not watched for the database any more')
    })
    refuseDeadHosts({
      ...{ discoverd: client, network: base.engines.network, hostId, port: config.httpPort, log },
      leases: () => overlay.leases,
      signal: stop.signal,
    }).catch((err: unknown) => {
      if (!stop.signal.aborted) log.error({ err }, 'hosts are not watched for the overlay any more')
    })
    feedAggregators({ discoverd: client, mux, hostId, log, fed: parts.aggregators }, stop.signal).catch(
      (err: unknown) => {
        if (!stop.signal.aborted) log.error({ err }, 'log aggregators are not followed any more')
      },
    )
  })
  return { over }
}

/** Starts everything; resolves when the API answers. `given`: engines of a test instead of the machine's own. */
export async function startDaemon(config: DaemonConfig, log: Logger, given?: Engines): Promise<Daemon> {
  const base = await openBase(config, log, given)
  try {
    return await start(base)
  } catch (e) {
    base.stop.abort()
    await closeBase(base)
    throw e
  }
}

/** Rejects when this host is not to be part of the cluster; what still runs of one that was removed ends first. */
async function enter(base: Base): Promise<void> {
  const { config, log, stop, database, engines, rebooted } = base
  const isMember = wasLeased(database)
  const entering = async () => {
    assertMember(database, config.hostId)
    await enterCluster({
      peerIps: base.peerIps,
      authKey: base.authKey,
      self: { id: config.hostId, address: config.externalIp, version, member: isMember },
      isMember,
      onHosts: hosts => base.hosts.learn(hosts),
      // The next start meets the same answer, and says whether it takes an operator.
      turnedAway: e => {
        if (isFlynnError(e, 'host_removed')) markRemoved(database)
        base.fatal(e)
      },
      log,
      signal: stop.signal,
    })
  }
  await entering().catch(async (e: unknown) => {
    if (isFlynnError(e, 'host_removed'))
      await endRemoved({ database, runtime: engines.runtime, rebooted, log })
    throw e
  })
}

async function start(base: Base): Promise<Daemon> {
  const { config, log, engines, stop } = base
  await enter(base)
  await allowOvercommit(log)
  await openEngines(engines)
  await holdOwnLayer(config.paths.layersDir, engines)
  base.hosts.begin()
  const parts = makeParts(base)
  await parts.overlay.open()
  const url = `http://${config.externalIp}:${config.httpPort}`
  const { server, endAttachments } = makeApi(base, parts, url)
  await takeOver(base, parts)
  await server.listen({ port: config.httpPort, host: config.listenIp || '0.0.0.0' })
  const work = beginWork(base, parts)
  log.info({ url }, 'daemon is ready')

  async function close(): Promise<void> {
    log.info('daemon ends, jobs live on')
    stop.abort()
    await work.over
    parts.services.close()
    parts.discoverd.leave()
    endAttachments()
    await server.close()
    await parts.runner.close()
    await engines.runtime.close()
    await engines.volumes.close()
    await closeBase(base)
  }
  let closing: Promise<void> | undefined
  return {
    url,
    close() {
      closing ??= close()
      return closing
    },
  }
}
