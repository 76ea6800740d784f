// Test clusters: several hosts on one machine, for integration tests and for people (main.ts). See README.md.
import { randomBytes } from 'node:crypto'
import { testHost } from './host.ts'
import { prepareKernel } from './kernel.ts'
import { clusterName, gatewayAddress, hostName, hostsMax } from './names.ts'
import { cutOneWay, healAll, makeBridge } from './network.ts'
import { powerOff } from './power.ts'
import { type ClusterState, identityOf, readState, writeState } from './state.ts'
import { sweep, sweepOrphans } from './sweep.ts'
import type { ClusterOptions, TestCluster, TestHost } from './types.ts'

export { leftovers, sweep } from './sweep.ts'
export type * from './types.ts'

/**
 * Makes a cluster and boots its hosts. Whatever an earlier run left under the same name is removed first, and so are
 * clusters of test processes that are gone. Needs root. Use `await using` or call `down`.
 */
export async function createCluster(options: ClusterOptions): Promise<TestCluster> {
  const name = clusterName(options.name ?? `t${randomBytes(4).toString('hex')}`)
  if (!Number.isInteger(options.hosts) || options.hosts < 1 || options.hosts > hostsMax)
    throw new Error(`a test cluster has 1 to ${hostsMax} hosts, not ${options.hosts}`)
  if (process.getuid?.() !== 0) throw new Error('test hosts need root')
  await sweepOrphans()
  await sweep(name)
  const internet = options.internet ?? false
  const owner = options.keep ? undefined : identityOf(process.pid)
  const testRun = process.env['FLYNN_TEST_RUN']
  const subnet = await makeBridge(name, internet)
  const state: ClusterState = {
    ...{ name, subnet, internet, hosts: options.hosts, binds: options.binds ?? [] },
    ...(options.diskBytes !== undefined && { diskBytes: options.diskBytes }),
    ...(owner && { owner }),
    ...(testRun !== undefined && { testRun }),
  }
  const cluster = hold(state)
  try {
    await writeState(state)
    await prepareKernel({ internet })
    await Promise.all(cluster.hosts.map(h => h.up()))
  } catch (e) {
    await cluster.down()
    throw e
  }
  return cluster
}

/** The cluster of that name that another process made; undefined when there is none. */
export async function openCluster(name: string): Promise<TestCluster | undefined> {
  const state = await readState(clusterName(name))
  return state && hold(state)
}

function hold(state: ClusterState): TestCluster {
  const hosts = Array.from({ length: state.hosts }, (_, i) => testHost(state, i + 1))
  const indexOf = (host: TestHost | string) => {
    const wanted = typeof host === 'string' ? host : host.name
    const index = hosts.findIndex(h => h.name === wanted) + 1
    if (index === 0) throw new Error(`test cluster ${state.name} has no host ${wanted}`)
    return index
  }
  const down = async () => {
    // One after the other fails late; every host is tried before the first error is thrown.
    const results = await Promise.allSettled(hosts.map((_, i) => powerOff(state, i + 1)))
    await sweep(state.name)
    const failed = results.find(r => r.status === 'rejected')
    if (failed) throw failed.reason
  }
  return {
    name: state.name,
    hosts,
    gateway: gatewayAddress(state.subnet),
    host(which) {
      const host = hosts[indexOf(typeof which === 'number' ? hostName(which) : which) - 1]
      if (!host) throw new Error(`test cluster ${state.name} has no host ${which}`)
      return host
    },
    async cut(a, b, options = {}) {
      await cutOneWay(state.subnet, indexOf(a), indexOf(b))
      if (!options.oneWay) await cutOneWay(state.subnet, indexOf(b), indexOf(a))
    },
    heal: () => healAll(state.subnet),
    down,
    [Symbol.asyncDispose]: down,
  }
}
