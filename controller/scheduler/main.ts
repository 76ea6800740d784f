// The scheduler process of the controller: environment in, wiring, signals (contract controller.md 1.1, 1.2).
import { DiscoverdClient } from '../../discoverd/client.ts'
import { invariant } from '../../pkg/errors/errors.ts'
import { createLogger } from '../../pkg/log/log.ts'
import { ControllerClient, controllerUrl } from '../client.ts'
import { schedulerApi } from './api.ts'
import { Scheduler } from './scheduler.ts'

const env = process.env
const log = createLogger({ component: 'scheduler' })
const port = Number(env['PORT'] ?? '3000')
const authKeys = (env['AUTH_KEY'] ?? '').split(',').filter(key => key !== '')
const [key] = authKeys
invariant(key !== undefined, 'AUTH_KEY is not set')

const scheduler = new Scheduler({
  controller: new ControllerClient({ url: env['CONTROLLER_URL'] ?? controllerUrl, key }),
  discoverd: new DiscoverdClient(),
  hostAuthKey: env['FLYNN_HOST_AUTH_KEY'],
  addr: `:${port}`,
  log,
})
const api = schedulerApi({ scheduler, jobId: env['FLYNN_JOB_ID'] ?? '', authKeys, log })

let closing: Promise<void> | undefined
async function close(): Promise<void> {
  await scheduler.close()
  await api.close()
}
for (const signal of ['SIGTERM', 'SIGINT'] as const)
  process.on(signal, () => {
    closing ??= close()
    closing.then(
      () => process.exit(0),
      (err: unknown) => {
        log.error({ err }, 'did not close cleanly')
        process.exit(1)
      },
    )
  })

await api.listen({ host: '0.0.0.0', port })
await scheduler.start()
