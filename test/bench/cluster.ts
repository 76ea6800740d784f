// A one-node cluster as a user gets it, on a test host: images built, installed, booted, the guestbook deployed.
import { performance } from 'node:perf_hooks'
import { run } from '../../pkg/proc/run.ts'
import { createCluster, type TestCluster } from '../cluster/cluster.ts'
import { codePath } from '../cluster/names.ts'

const imagesTimeoutMs = 30 * 60_000
const quickstartTimeoutMs = 15 * 60_000
const repository = new URL('../../', import.meta.url).pathname

export type Quickstart = AsyncDisposable & {
  readonly cluster: TestCluster
  /** The installer's own progress, one line a step. */
  readonly progress: string
  readonly imagesMs: number
  readonly totalMs: number
}

/** Builds what is missing, boots and deploys. The cluster goes with the value. */
export async function bootQuickstart(name: string): Promise<Quickstart> {
  const imagesMs = await timed(() =>
    run([process.execPath, 'images/main.ts', '--strict'], { cwd: repository, timeoutMs: imagesTimeoutMs }),
  )
  const cluster = await createCluster({ name, hosts: 1 })
  try {
    let progress = ''
    const argv = ['node', `${codePath}/setup/main.ts`, '--prebuilt', '--quickstart']
    const totalMs = await timed(async () => {
      const { code, stderr } = await cluster.host(1).exec(argv, { timeoutMs: quickstartTimeoutMs })
      if (code !== 0) throw new Error(`the quickstart ended with ${code}:\n${stderr}`)
      progress = stderr
    })
    return { cluster, progress, imagesMs, totalMs, [Symbol.asyncDispose]: () => cluster.down() }
  } catch (e) {
    await cluster.down()
    throw e
  }
}

async function timed(work: () => Promise<unknown>): Promise<number> {
  const began = performance.now()
  await work()
  return performance.now() - began
}
