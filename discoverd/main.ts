// Starts one discoverd: its etcd member if this host is a peer, the state in memory, HTTP, DNS, the word to flynn-host.
// Order of contract discoverd.md 1.2; SIGTERM and SIGINT stop it in reverse. Leases outlive it, so a restart flaps nothing.
import { mkdir } from 'node:fs/promises'
import { poll, sleep } from '../pkg/clock/clock.ts'
import { describeError } from '../pkg/errors/errors.ts'
import { EtcdClient } from '../pkg/etcd/client.ts'
import { parseJobId } from '../pkg/ids/ids.ts'
import { createLogger, type Logger } from '../pkg/log/log.ts'
import { apiServer } from './api.ts'
import { DiscoverdClient, type Registration } from './client.ts'
import { joinHostPort, normaliseRecursors } from './config.core.ts'
import { type Config, readConfig } from './config.ts'
import { type DnsServer, startDns } from './dns.ts'
import { HostLink } from './host-link.ts'
import { Liveness } from './liveness.ts'
import { Member } from './member.ts'
import { Membership } from './membership.ts'
import { membersFileName, Peers, rememberedEndpoints } from './peers.ts'
import { Recursor, resolveRecursors } from './recursor.ts'
import { Store } from './store.ts'
import { Streams } from './streams.ts'
import { splitHostPort } from './validate.core.ts'

const dnsBindTimeoutMs = 30_000
const registerPauseMs = 5_000
/** Time for the answer to a shutdown to leave. */
const shutdownAnswerMs = 100

function hostPart(addr: string): string {
  const split = splitHostPort(addr)
  return typeof split === 'string' ? addr : split.host
}

/** Serves DNS where configured, or on the bridge once the host has one. */
async function serveDns(
  config: Config,
  store: Store,
  host: HostLink,
  log: Logger,
  signal: AbortSignal,
): Promise<DnsServer | undefined> {
  let addr = config.dnsAddr
  let resolvers = config.recursors
  if (addr === '' && config.waitNetDns) {
    const network = await host.waitForNetwork(signal)
    addr = network.dnsAddr
    if (resolvers.length === 0) resolvers = normaliseRecursors(network.resolvers.join(','))
  }
  if (addr === '') return undefined
  const upstream = (await resolveRecursors(resolvers)).filter(r => r !== addr)
  const recursor = new Recursor(upstream)
  const what = `DNS to listen on ${addr}`
  const server = await poll(() => startDns({ addr, store, recursor, log }), {
    timeoutMs: dnsBindTimeoutMs,
    what,
    signal,
  })
  log.info({ addr: server.addr, upstream }, 'dns ready')
  return server
}

type SelfRegistration = {
  /** Resolves when it is registered, or never will be. */
  run(): Promise<void>
  /** Takes the instance out. */
  end(): Promise<void>
}

/** Registers this daemon as an instance of service discoverd, through itself. */
function registerSelf(config: Config, log: Logger, signal: AbortSignal): SelfRegistration {
  const local = config.listenHost === '0.0.0.0' ? '127.0.0.1' : config.listenHost
  const client = new DiscoverdClient({ servers: [`http://${joinHostPort(local, config.port)}`] })
  const host = config.listenHost === '0.0.0.0' ? config.host : config.listenHost
  const addr = joinHostPort(host, config.port)
  let registration: Registration | undefined
  return {
    async run() {
      while (!signal.aborted) {
        try {
          registration = await client.register({ service: 'discoverd', addr, create: true, signal, log })
          log.info({ addr }, 'registered')
          return
        } catch (e) {
          if (signal.aborted) return
          log.warn({ err: e }, 'not registered yet')
          await sleep(registerPauseMs, signal).catch(() => undefined)
        }
      }
    },
    end: async () => registration?.close(),
  }
}

type Parts = {
  readonly etcd: EtcdClient
  readonly store: Store
  readonly liveness: Liveness
  readonly peers: Peers
  readonly streams: Streams
}

/** The client of the cluster, nearest member first, and what stands on it. */
async function assemble(config: Config, isPeer: boolean, log: Logger): Promise<Parts> {
  const nearest = joinHostPort(config.host, '2379')
  const membersFile = `${config.dataDir}/${membersFileName}`
  const configured = config.peers.map(p => joinHostPort(hostPart(p), '2379'))
  const known = [...configured, ...(await rememberedEndpoints(membersFile))]
  const etcd = new EtcdClient({ endpoints: [...new Set([...(isPeer ? [nearest] : []), ...known])], log })
  const store = new Store({ etcd, log })
  return {
    etcd,
    store,
    liveness: new Liveness({ etcd, store, leaseFile: `${config.dataDir}/lease.json`, log }),
    peers: new Peers({ etcd, port: config.port, nearest, file: membersFile, log }),
    streams: new Streams(store),
  }
}

async function run(config: Config, log: Logger, stop: AbortController): Promise<void> {
  const { signal } = stop
  await mkdir(config.dataDir, { recursive: true })
  const member = await Member.open({
    dataDir: config.dataDir,
    host: config.host,
    peerHosts: config.peers.map(hostPart),
    listed: config.listedAsPeer,
    name: parseJobId(config.jobId)?.hostId ?? config.host,
    loopback: config.etcdLoopback,
    log,
  })
  const parts = await assemble(config, member.plan.kind !== 'proxy', log)
  const { etcd, store, liveness, peers, streams } = parts
  const membership = new Membership({
    ...{ host: config.host, etcd, member, peers, log },
    revision: () => store.revision,
  })
  let closing = false
  const server = apiServer({
    ...parts,
    membership,
    adminKey: config.adminKey,
    log,
    closing: () => closing || signal.aborted,
    shutdown: async () => {
      await self.end()
      closing = true
      setTimeout(() => stop.abort(), shutdownAnswerMs)
    },
  })
  const self = registerSelf(config, log, signal)
  const host = new HostLink({ hostUrl: config.hostUrl, notifyUrl: config.notifyUrl, log })
  let dns: DnsServer | undefined
  const notification = () => ({
    job_id: config.jobId,
    url: joinHostPort(config.host, config.port),
    dns: dns?.addr ?? '',
  })
  const serve = async () => {
    await server.listen({ host: config.listenHost, port: Number(config.port) })
    await Promise.race([store.loading, aborted(signal)])
    if (signal.aborted) return
    log.info({ revision: store.revision, services: store.serviceNames().length }, 'discoverd ready')
    const registering = self.run()
    await host.notify(notification(), signal)
    dns = await serveDns(config, store, host, log, signal)
    if (dns) await host.notify(notification(), signal)
    await Promise.all([registering, host.keepNotified(notification, signal)])
    await aborted(signal)
  }
  try {
    await Promise.all([store.run(signal), liveness.run(signal), peers.run(signal), serve()])
  } catch (e) {
    if (!signal.aborted) throw e
  } finally {
    stop.abort()
    streams.close()
    await server.close()
    await dns?.close()
    etcd.close()
    await member.stop()
  }
}

function aborted(signal: AbortSignal): Promise<void> {
  if (signal.aborted) return Promise.resolve()
  return new Promise(resolve => signal.addEventListener('abort', () => resolve(), { once: true }))
}

async function main(): Promise<void> {
  const log = createLogger({ component: 'discoverd' })
  const stop = new AbortController()
  for (const name of ['SIGTERM', 'SIGINT'] as const)
    process.on(name, () => {
      log.info({ signal: name }, 'stopping')
      stop.abort()
    })
  try {
    await run(readConfig(process.argv.slice(2), process.env), log, stop)
    process.exit(0)
  } catch (e) {
    log.fatal({ err: e }, describeError(e))
    process.exit(1)
  }
}

await main()
