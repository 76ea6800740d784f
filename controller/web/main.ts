// The controller's `web` process: environment in, database awaited and migrated, API served, registered in discoverd,
// drained on SIGTERM (contract controller.md 1.1, 1.2).
import { once } from 'node:events'
import { DiscoverdClient } from '../../discoverd/client.ts'
import { listHosts } from '../../host/client.ts'
import { backoff, sleep } from '../../pkg/clock/clock.ts'
import { createLogger, type Logger } from '../../pkg/log/log.ts'
import {
  createDb,
  createPool,
  isConnectionError,
  pgOptionsFromEnv,
  waitForPostgres,
} from '../../pkg/pg/pg.ts'
import { version } from '../../pkg/version/version.ts'
import { routerApiService } from '../../router/types.ts'
import { SchedulerClient, schedulerService } from '../client/scheduler.ts'
import { migrate } from '../schema/migrate.ts'
import type { Tables } from '../schema/tables.ts'
import { AuditWriter } from './audit.ts'
import { authFromEnv } from './auth.ts'
import type { ControllerConfig } from './context.ts'
import { EventHub } from './hub.ts'
import { controllerServer } from './server.ts'

/** How long a start waits for its database: as long as a database cluster takes to come up. */
const databaseWaitMs = 300_000
/** How long requests in flight and attached jobs may take after the process was told to stop; the host's grace is 30 s. */
const drainTimeoutMs = 20_000
const discoverdTimeoutMs = 2_000
const migrationAttemptsMax = 10

function configFromEnv(env: NodeJS.ProcessEnv): ControllerConfig {
  return {
    auth: authFromEnv(env),
    caCert: env['CA_CERT'] ?? '',
    routeDomain: env['DEFAULT_ROUTE_DOMAIN'] ?? '',
    nameSeed: env['NAME_SEED'] ?? '',
    logaggregatorUrl: env['LOGAGGREGATOR_URL'] || 'http://logaggregator.discoverd',
    version,
  }
}

/** Migrates; begins again when the database goes away meanwhile (a failover). */
async function prepareSchema(
  pool: Parameters<typeof migrate>[0],
  log: Logger,
  stop: AbortSignal,
): Promise<void> {
  const delays = backoff({ minMs: 200, maxMs: 5_000 })
  for (let attempt = 1; ; attempt++) {
    try {
      await waitForPostgres(pool, { timeoutMs: databaseWaitMs, signal: stop })
      await migrate(pool, log)
      return
    } catch (err) {
      if (!isConnectionError(err) || attempt >= migrationAttemptsMax || stop.aborted) throw err
      log.warn({ err }, 'the database went away during the migration, trying again')
      await sleep(delays.next(), stop)
    }
  }
}

async function registerSelf(discoverd: DiscoverdClient, port: number, keys: string, log: Logger) {
  if (process.env['DISCOVERD'] === 'none') return undefined
  return discoverd.register({
    service: 'controller',
    addr: `:${port}`,
    proto: 'http',
    // Routers and system apps read the key from here (contract 1.1).
    meta: { AUTH_KEY: keys },
    create: true,
    log,
  })
}

async function main(log: Logger, stopping: AbortController): Promise<void> {
  const config = configFromEnv(process.env)
  const options = pgOptionsFromEnv(process.env, 'controller-web')
  const stopped = Promise.race([once(process, 'SIGTERM'), once(process, 'SIGINT')]).then(() =>
    stopping.abort(),
  )
  const pool = createPool(options, log)
  await prepareSchema(pool, log, stopping.signal)
  const db = createDb<Tables>(pool)
  const hub = new EventHub(db, log)
  await hub.start(options)
  const hosts = () =>
    listHosts({
      discoverd: process.env['DISCOVERD'],
      authKey: process.env['FLYNN_HOST_AUTH_KEY'],
    })
  const discoverd = new DiscoverdClient()
  const scheduler = async () => {
    const leader = await discoverd.leader(schedulerService, { timeoutMs: discoverdTimeoutMs })
    const [key] = config.auth.keys
    return leader && key ? new SchedulerClient({ url: `http://${leader.addr}`, key }) : undefined
  }
  const routers = async () =>
    (await discoverd.instances(routerApiService, { timeoutMs: discoverdTimeoutMs })).map(i => i.addr)
  const load = { streams: 0, attached: 0, requests: 0 }
  const server = controllerServer({
    ...{ db, log, hub, config, hosts, scheduler, routers, load },
    stopping: stopping.signal,
    pool: () => ({ total: pool.totalCount, idle: pool.idleCount, waiting: pool.waitingCount }),
    audit: new AuditWriter(db, log),
  })
  const port = Number(process.env['PORT'] ?? 3000)
  await server.listen({ port, host: process.env['LISTEN_IP'] || '0.0.0.0' })
  const registration = await registerSelf(discoverd, port, config.auth.keys.join(','), log)
  log.info({ port, version: config.version }, 'controller ready')

  await stopped
  log.info(load, 'stopping')
  await registration?.close()
  const end = Date.now() + drainTimeoutMs
  while (load.requests + load.attached > 0 && Date.now() < end) await sleep(20)
  await server.close()
  await hub.close()
  await discoverd.close()
  await db.destroy()
  log.info('stopped')
}

const log = createLogger({ component: 'controller' })
const stopping = new AbortController()
try {
  await main(log, stopping)
} catch (err) {
  if (!stopping.signal.aborted) {
    log.fatal({ err }, 'controller failed')
    process.exit(1)
  }
}
// A stop that came before the process was up leaves connections behind that nobody needs.
process.exit(0)
