// The worker process of the controller: environment in, wiring, signals (contract controller.md 1.1, 5).
import { DiscoverdClient } from '../../discoverd/client.ts'
import { hostServiceName } from '../../host/types.ts'
import { invariant } from '../../pkg/errors/errors.ts'
import { HttpClient } from '../../pkg/http/client.ts'
import { httpd } from '../../pkg/httpd/httpd.ts'
import { createLogger } from '../../pkg/log/log.ts'
import { createDb, createPool, pgOptionsFromEnv } from '../../pkg/pg/pg.ts'
import { ControllerClient, controllerUrl } from '../client.ts'
import type { Tables } from '../schema/tables.ts'
import { runAppDeletion } from './app-deletion.ts'
import { runAppGc } from './app-gc.ts'
import { runCertificates, runCertificatesNow } from './certificates.ts'
import { Claim } from './claim.ts'
import type { TaskContext } from './context.ts'
import { runDeployment } from './deployment.ts'
import { runDomainMigration } from './domain-migration.ts'
import { blobstoreUrl } from './files.ts'
import { runQueue } from './queue.ts'
import { runReleaseCleanup } from './release-cleanup.ts'
import { runRetention } from './retention.ts'

const env = process.env
const log = createLogger({ component: 'worker' })
/** The controller is found through discoverd, and on a cluster of one host that is away while it is deployed itself. */
const controllerAwayMs = 60_000

const port = Number(env['PORT'] ?? '3000')
const [key] = (env['AUTH_KEY'] ?? '').split(',')
invariant(key !== undefined && key !== '', 'AUTH_KEY is not set')

const stopping = new AbortController()
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.once(signal, () => stopping.abort())

const database = pgOptionsFromEnv(env, 'controller-worker')
const pool = createPool(database, log)
const discoverd = new DiscoverdClient()
const ctx: TaskContext = {
  controller: new ControllerClient({
    url: env['CONTROLLER_URL'] ?? controllerUrl,
    key,
    retryMs: controllerAwayMs,
  }),
  db: createDb<Tables>(pool),
  log,
  signal: stopping.signal,
  hostCount: async () => Math.max(1, (await discoverd.instances(hostServiceName)).length),
  instances: service => discoverd.instances(service),
  claim: work => new Claim(database, work),
  blobstore: new HttpClient({ url: env['BLOBSTORE_URL'] ?? blobstoreUrl }),
}
const server = httpd({
  log,
  name: 'controller-worker',
  status: async () => {
    await pool.query('SELECT 1')
    return undefined
  },
})
await server.listen({ host: '0.0.0.0', port })
const registration = await discoverd.register({
  service: 'controller-worker',
  addr: `:${port}`,
  create: true,
  signal: stopping.signal,
  log,
})
log.info({ port }, 'worker ready')
const retention = runRetention(ctx.db, log, stopping.signal)
const certificates = runCertificates(ctx)
await runQueue({
  database,
  log,
  signal: stopping.signal,
  tasks: {
    deployment: payload => runDeployment(ctx, payload),
    app_deletion: payload => runAppDeletion(ctx, payload),
    app_garbage_collection: payload => runAppGc(ctx, payload),
    release_cleanup: payload => runReleaseCleanup(ctx, payload),
    domain_migration: payload => runDomainMigration(ctx, payload),
    managed_certificates: () => runCertificatesNow(ctx),
  },
})
await retention
await certificates
await registration.close()
await server.close()
await ctx.db.destroy()
await discoverd.close()
process.exit(0)
