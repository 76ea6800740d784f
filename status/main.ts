// Entry of the status app: PORT, AUTH_KEY and DISCOVERD from the environment, wiring and signals only.
import { DiscoverdClient } from '../discoverd/client.ts'
import { describeError } from '../pkg/errors/errors.ts'
import { createLogger } from '../pkg/log/log.ts'
import { statusApi } from './api.ts'
import { clusterProbe } from './probe.ts'

const { env } = process
const log = createLogger({ component: 'status' })

try {
  const discoverd = new DiscoverdClient()
  const server = statusApi({ log, authKey: env['AUTH_KEY'], status: clusterProbe(discoverd) })
  const close = async () => {
    await server.close()
    await discoverd.close()
  }
  process.once('SIGTERM', () => void close())
  process.once('SIGINT', () => void close())
  await server.listen({ host: '0.0.0.0', port: Number(env['PORT'] || 3000) })
  log.info({ port: env['PORT'] }, 'status ready')
} catch (err) {
  log.fatal({ err }, describeError(err))
  process.exit(1)
}
