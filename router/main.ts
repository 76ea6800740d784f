// The router's control process: environment and flags in, wiring, signals. HAProxy itself runs beside it in the same
// job (image/), so that neither's end is the other's.
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { DiscoverdClient } from '../discoverd/client.ts'
import { poll, sleep } from '../pkg/clock/clock.ts'
import { createLogger } from '../pkg/log/log.ts'
import { listenAccess } from './access-log.ts'
import { routerApi } from './api.ts'
import { AppLog } from './app-log.ts'
import { EventHub } from './events.ts'
import { canBind } from './files.ts'
import { files } from './frontend.core.ts'
import { fetchPage } from './page.ts'
import { Router } from './router.ts'
import { defaultStateDir, readSettings } from './settings.ts'
import { Snapshot } from './snapshot.ts'
import { Telemetry } from './telemetry.ts'
import { routerApiPort, routerApiService, routerHttpService } from './types.ts'

const log = createLogger({ component: 'router' })
const registerPauseMs = 1_000
/** The router of the release before this one gives its API's port up when this one serves. */
const portWaitMs = 120_000
const aggregatorService = 'logaggregator'

function readFlags(): Readonly<Record<string, string | undefined>> {
  const string = { type: 'string' } as const
  const { values } = parseArgs({
    options: {
      'http-port': string,
      'https-port': string,
      'tcp-range-start': string,
      'tcp-range-end': string,
      'api-port': string,
      'tls-cert': string,
      'tls-key': string,
    },
  })
  return values
}

/** Registers under both services as soon as discoverd lets it; the router serves meanwhile. */
async function registered(
  discoverd: DiscoverdClient,
  services: Readonly<Record<string, string>>,
  signal: AbortSignal,
): Promise<void> {
  const one = async ([service, addr]: readonly [string, string]) => {
    while (!signal.aborted) {
      try {
        const registration = await discoverd.register({ service, addr, create: true, log, signal })
        await new Promise<void>(resolve => {
          if (signal.aborted) resolve()
          else signal.addEventListener('abort', () => resolve(), { once: true })
        })
        await registration.close()
      } catch (err) {
        if (!signal.aborted) log.warn({ err, service }, 'not registered yet')
        await sleep(registerPauseMs, signal).catch(() => undefined)
      }
    }
  }
  await Promise.all(Object.entries(services).map(one))
}

/** Told to the router that this one takes over from, through the directory that both have (image/start-flynn-router). */
async function tell(stateDir: string, what: 'starting' | 'serving', job: string): Promise<void> {
  await mkdir(stateDir, { recursive: true, mode: 0o700 })
  // On a full disk it does without, and ends some seconds later.
  await writeFile(join(stateDir, what), `${job}\n`).catch((err: unknown) =>
    log.warn({ err, what }, 'the router before this one is not told'),
  )
}

async function main(): Promise<void> {
  const { env } = process
  const flags = readFlags()
  const stop = new AbortController()
  const { signal } = stop
  const shutdown = () => stop.abort()
  process.once('SIGTERM', shutdown)
  process.once('SIGINT', shutdown)
  const stateDir = env['ROUTER_STATE_DIR'] || defaultStateDir
  const job = env['FLYNN_JOB_ID'] ?? 'router'
  await tell(stateDir, 'starting', job)
  const unavailablePage = await fetchPage(env['ERROR_503_PAGE_URL'], log)
  const settings = { ...(await readSettings(env, flags)), unavailablePage }
  const apiPort = Number(flags['api-port'] ?? env['PORT'] ?? routerApiPort)
  await mkdir(settings.dir, { recursive: true })
  const discoverd = new DiscoverdClient()
  const hub = new EventHub()
  const snapshot = new Snapshot(join(stateDir, 'table.json'), log)
  const router = new Router({ settings, discoverd, hub, snapshot, log, signal })
  const aggregator = async (until: AbortSignal) =>
    (await discoverd.leader(aggregatorService, { signal: until }))?.addr
  const appLog = new AppLog({ aggregator, log, signal, hostname: `router-${job}`, job })
  const telemetry = new Telemetry({
    table: () => router.table,
    slots: () => router.plane.slots,
    serverStats: async () => (await router.plane.haproxy.runtime()).command('show stat -1 4 -1'),
    appLog: settings.accessLog ? appLog : undefined,
  })
  const access = await listenAccess({
    path: join(settings.dir, files.access),
    log,
    onAccess: telemetry.record,
  })
  let serving = false
  const status = () => {
    if (!serving) throw new Error('HAProxy does not serve yet')
  }
  const api = routerApi({ log, hub, telemetry, status })
  const done = Promise.all([router.run(), appLog.run()])
  await Promise.race([router.serving, done])
  serving = true
  if (!signal.aborted) {
    await tell(stateDir, 'serving', job)
    const isFree = () => canBind(settings.listenIp, apiPort, false)
    await poll(isFree, { timeoutMs: portWaitMs, signal, what: `port ${apiPort} to be free` })
    await api.listen({ host: settings.listenIp, port: apiPort })
    const address = env['EXTERNAL_IP'] || env['LISTEN_IP'] || '127.0.0.1'
    log.info({ address, apiPort }, 'router ready')
    const services = {
      [routerApiService]: `${address}:${apiPort}`,
      ...(settings.httpPort ? { [routerHttpService]: `${address}:${settings.httpPort}` } : {}),
    }
    await registered(discoverd, services, signal)
  }
  await done
  hub.close()
  await api.close()
  await access.close()
  await discoverd.close()
}

main().catch(e => {
  log.fatal({ err: e }, 'router failed')
  process.exitCode = 1
})
