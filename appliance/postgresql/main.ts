// Entry of the postgres image's bundle: `config FILE` before Patroni starts, `callback ACTION ROLE SCOPE` from Patroni,
// `api` for the provider API. Only arguments, environment, wiring and signals are here.
import { DiscoverdClient } from '../../discoverd/client.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import { createLogger, type Logger } from '../../pkg/log/log.ts'
import { createPool, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import { postgresApi } from './api.ts'
import {
  dropTornOrigins,
  findEtcd,
  imagePaths,
  nodeFacts,
  required,
  serviceName,
  writeConfig,
} from './config.ts'
import { announcePrimary, isPrimaryRole, keepLeader } from './leader.ts'
import { keepReplicas } from './replicas.ts'
import { postgresPort } from './types.ts'

const { env } = process
/** The API's own connections to the server. */
const poolConnectionsMax = 4

async function config(log: Logger, file: string): Promise<void> {
  const etcdHosts = await findEtcd(new DiscoverdClient(), serviceName(env), log)
  await writeConfig(file, await nodeFacts(env, imagePaths, etcdHosts))
  await dropTornOrigins(imagePaths.volumeDir, log)
  log.info({ file, etcdHosts }, 'configuration written')
}

async function callback(log: Logger, action: string, role: string, service: string): Promise<void> {
  log.info({ action, role }, 'role reported')
  if (!isPrimaryRole(role)) return
  const addr = `${required(env, 'EXTERNAL_IP')}:${env['PORT'] || postgresPort}`
  await announcePrimary(new DiscoverdClient(), { service, addr }, log)
}

async function api(log: Logger): Promise<void> {
  const service = serviceName(env)
  const options = pgOptionsFromEnv({ PGUSER: 'flynn', PGDATABASE: 'postgres', ...env }, 'postgres-api')
  const pool = createPool({ ...options, connectionsMax: poolConnectionsMax }, log)
  const server = postgresApi({ pool, service, log })
  const stop = new AbortController()
  const { signal } = stop
  const discoverd = new DiscoverdClient()
  const superuserPassword = required(env, 'PGPASSWORD')
  const watching = [
    keepLeader(discoverd, service, log, signal),
    keepReplicas({ discoverd, service, superuserPassword, log, signal }),
  ]
  const close = async () => {
    stop.abort()
    await Promise.all([server.close(), ...watching])
    await pool.end()
  }
  process.once('SIGTERM', () => void close())
  process.once('SIGINT', () => void close())
  await server.listen({ host: '0.0.0.0', port: Number(env['PORT'] || 3000) })
  log.info({ port: env['PORT'] }, 'provider API ready')
}

const [command, ...args] = process.argv.slice(2)
const log = createLogger({ component: `postgres-${command ?? ''}` })
try {
  if (command === 'config' && args[0]) await config(log, args[0])
  else if (command === 'callback' && args[2]) await callback(log, args[0] ?? '', args[1] ?? '', args[2])
  else if (command === 'api') await api(log)
  else {
    process.stderr.write('usage: flynn-postgres config FILE | callback ACTION ROLE SCOPE | api\n')
    process.exitCode = 2
  }
} catch (err) {
  log.fatal({ err }, describeError(err))
  process.exitCode = 1
}
