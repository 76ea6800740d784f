// A cluster of one host with the small app that the deployment benches deploy over and over: a page that tells its
// version and how long the program itself took to listen.
import { parseConfig } from '../../cli/config.ts'
import { ControllerClient } from '../../controller/client.ts'
import type { TestHost } from '../cluster/types.ts'
import { bootFlynn, domain, type FlynnCluster } from '../fixtures/flynn-cluster.ts'

export const appName = 'small'
export const hostName = `${appName}.${domain}`
const dir = '/srv/small'
const deployTimeoutMs = 180_000

export type SmallApp = AsyncDisposable & {
  readonly cluster: FlynnCluster
  readonly host: TestHost
  /** From this process, through the host's router, as the CLI elsewhere would. */
  readonly client: ControllerClient
  /** Writes a version of the program into the directory that is deployed. */
  readonly write: (version: string) => Promise<void>
  /** `flynn deploy` on the host; rejects unless it ends well. */
  readonly deploy: () => Promise<void>
}

const program = (version: string) => `const { createServer } = require('node:http')
createServer((req, res) => res.end('${version} ' + ownMs + ' hello')).listen(process.env.PORT, () => {
  ownMs = Math.round(performance.now())
})
let ownMs = 0
`

export async function bootSmallApp(name: string): Promise<SmallApp> {
  const cluster = await bootFlynn({ name, hosts: 1 })
  try {
    const host = cluster.machines.host(1)
    const config = parseConfig(await host.readFile('/root/.flynnrc'), '.flynnrc')
    const entry = config.clusters[0]
    if (entry === undefined) throw new Error('the CLI of the host knows no cluster')
    const connect = { tlsPin: entry.TLSPin, address: host.address }
    const client = new ControllerClient({ url: entry.ControllerURL, key: entry.Key ?? '', connect })
    const write = async (version: string) => {
      await host.writeFile(`${dir}/Procfile`, 'web: node server.js\n')
      await host.writeFile(`${dir}/server.js`, program(version))
    }
    const deploy = async () => {
      await host.run(['flynn', '-a', appName, 'deploy', dir], { timeoutMs: deployTimeoutMs })
    }
    await host.run(['flynn', 'create', '--remote', '', appName])
    await write('v0')
    await deploy()
    return {
      cluster,
      host,
      client,
      write,
      deploy,
      [Symbol.asyncDispose]: () => cluster[Symbol.asyncDispose](),
    }
  } catch (e) {
    await cluster[Symbol.asyncDispose]()
    throw e
  }
}
