// The CLI on a real controller web process with its PostgreSQL, and a stand-in for discoverd, log aggregator, hosts and
// providers, which are not what these tests look at.
import type { App, Release } from '../../controller/types.ts'
import { startController, type TestController } from '../fixtures/controller.ts'
import { type StandIn, startStandIn } from '../fixtures/stand-in-host.ts'
import { clusterAt, type Session, startSession } from './cli-session.ts'

export type CliStage = AsyncDisposable & {
  readonly standIn: StandIn
  readonly controller: TestController
  readonly session: Session
  /** An app with a name of its own. */
  readonly newApp: () => Promise<App>
  /** The release that an app has from now on, with a web and a worker process. */
  readonly releaseOf: (app: App, over?: Partial<Release>) => Promise<Release>
}

export async function startCliStage(): Promise<CliStage> {
  const standIn = await startStandIn()
  const controller = await startController({
    env: {
      DISCOVERD: standIn.addr,
      EXTERNAL_IP: '127.0.0.1',
      FLYNN_JOB_ID: 'hosta-1',
      LOGAGGREGATOR_URL: `http://${standIn.addr}`,
      DEFAULT_ROUTE_DOMAIN: 'apps.test',
    },
  })
  const session = await startSession(clusterAt(controller.url, controller.key))
  const { client } = controller
  let count = 0
  return {
    standIn,
    controller,
    session,
    newApp: () => client.createApp({ name: `cli-${++count}` }),
    async releaseOf(app, over = {}) {
      const uri = `http://images.test/${++count}`
      const artifact = await client.createArtifact({ type: 'flynn', uri, manifest: {} })
      const release = await client.createRelease({
        app_id: app.id,
        artifacts: [artifact.id],
        env: { ...over.env },
        meta: { ...over.meta },
        processes: { web: { args: ['web'] }, worker: { args: ['worker'] } },
      })
      await client.setAppRelease(app.id, release.id)
      return release
    },
    async [Symbol.asyncDispose]() {
      await session.remove()
      await controller.stop()
      await standIn.close()
    },
  }
}
