// Entry of the log aggregator. PORT_0 is the HTTP API, PORT_1 takes syslog; the host registers the latter as service
// SERVICE_NAME. Environment, wiring and signals only.
import { DiscoverdClient } from '../discoverd/client.ts'
import { describeError } from '../pkg/errors/errors.ts'
import { createLogger } from '../pkg/log/log.ts'
import { createAggregator } from './aggregator.ts'
import { logAggregatorApi } from './api.ts'
import { listenSyslog } from './ingest.ts'
import { loadFromLeader } from './snapshot.ts'

const { env } = process
const host = '0.0.0.0'
const log = createLogger({ component: 'logaggregator' })

try {
  const aggregator = createAggregator()
  const discoverd = new DiscoverdClient()
  const service = env['SERVICE_NAME'] || 'logaggregator'
  await loadFromLeader(aggregator, { discoverd, service, ownAddress: env['EXTERNAL_IP'], log })
  const api = logAggregatorApi({ aggregator, log })
  await api.listen({ host, port: Number(env['PORT_0'] || 5000) })
  const syslog = await listenSyslog({ host, port: Number(env['PORT_1'] || 3000), aggregator, log })
  const close = async () => {
    await syslog.close()
    await api.close()
    await discoverd.close()
  }
  process.once('SIGTERM', () => void close())
  process.once('SIGINT', () => void close())
  log.info({ http: env['PORT_0'], syslog: env['PORT_1'] }, 'log aggregator ready')
} catch (err) {
  log.fatal({ err }, describeError(err))
  process.exit(1)
}
