// A whole cluster with an app of three processes and a database on it, before anything happens to it. Used by main.ts and
// by the short selection of the integration tests.
import { bootFlynn, deployGuestbook } from '../fixtures/flynn-cluster.ts'
import { diskBytes } from './faults.ts'
import type { FaultKind } from './plan.core.ts'
import { heal } from './round.ts'
import { type Observer, wantedJobs } from './state.ts'
import { openWire } from './wire.ts'

const webProcesses = 3

export type Stage = AsyncDisposable & Observer & { readonly wanted: Readonly<Record<string, number>> }

/** A whole cluster with the app on it, before anything happens to it. */
export async function setStage(
  name: string,
  hosts: number,
  kinds: readonly FaultKind[] = [],
): Promise<Stage> {
  const disk = kinds.includes('disk-full') ? { diskBytes } : {}
  const flynn = await bootFlynn({ name, hosts, ...disk })
  const wire = openWire()
  try {
    await deployGuestbook(flynn, webProcesses)
    const rc = await flynn.run('cat', '/root/.flynnrc')
    const controllerKey = /^\s*Key = "(.+)"/m.exec(rc)?.[1] ?? ''
    const observer = { cluster: flynn, wire, controllerKey }
    const wanted = await wantedJobs(observer)
    const { faults } = await heal({ ...observer, wanted })
    if (faults.length > 0) throw new Error(`the cluster is not whole to begin with:\n${faults.join('\n')}`)
    return {
      ...observer,
      wanted,
      async [Symbol.asyncDispose]() {
        await wire[Symbol.asyncDispose]()
        await flynn[Symbol.asyncDispose]()
      },
    }
  } catch (e) {
    await wire[Symbol.asyncDispose]()
    await flynn[Symbol.asyncDispose]()
    throw e
  }
}
