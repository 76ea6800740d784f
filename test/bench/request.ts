// What the router adds to a request: the guestbook's smallest page through the router and from the job itself, in turn,
// one at a time over kept-alive connections. See README.md.
import { HostClient } from '../../host/client.ts'
import type { ActiveJob } from '../../host/types.ts'
import { table } from '../../pkg/table/table.ts'
import { codePath } from '../cluster/names.ts'
import type { TestHost } from '../cluster/types.ts'
import { bootQuickstart } from './cluster.ts'
import { summary, summaryHeader, summaryRow } from './stats.core.ts'

const requests = 1_000
const domain = 'guestbook.flynn.localhost'
const page = '/healthz'
const measureTimeoutMs = 120_000

/** `address:port` of the guestbook's web process. */
async function jobAddress(host: TestHost): Promise<string> {
  const authKey = (await host.readFile('/etc/flynn/auth-key')).trim()
  const client = new HostClient({ url: `http://${host.address}:1113`, authKey })
  const jobs: readonly ActiveJob[] = Object.values(await client.jobs({ active: true }))
  const web = jobs.find(
    ({ job }) =>
      job.metadata?.['flynn-controller.app_name'] === 'guestbook' &&
      job.metadata['flynn-controller.type'] === 'web',
  )
  const port = web?.job.config.ports?.[0]?.port
  if (web?.internal_ip === undefined || port === undefined)
    throw new Error('the guestbook has no web process')
  return `${web.internal_ip}:${port}`
}

await using booted = await bootQuickstart('bench-request')
const host = booted.cluster.host(1)
const urls = [`http://${await jobAddress(host)}${page}`, `http://127.0.0.1${page}`]
const argv = ['node', `${codePath}/test/bench/latency.ts`, String(requests), domain, ...urls]
const printed = await host.run(argv, { timeoutMs: measureTimeoutMs })
const [direct = [], routed = []] = JSON.parse(printed) as readonly number[][]
const [d, r] = [summary(direct), summary(routed)]
process.stdout.write(
  `milliseconds for one small request\n\n${table([
    [...summaryHeader],
    summaryRow('from the job', d),
    summaryRow('through the router', r),
  ])}\nthe router adds ${(r.median - d.median).toFixed(2)} ms (medians)\n`,
)
