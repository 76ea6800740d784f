// No failed request while an app is deployed by every strategy that an app may have and scaled up and down, the controller's
// processes are restarted, and the router, discoverd and the database are deployed: 4 connections ask its page without a
// pause until so many requests were made. Any answer but the page, and any broken connection, is a failure and is told.
// Rounds are whole. `node test/bench/deploy-load.ts [REQUESTS] [SECONDS]`
import { loadavg } from 'node:os'
import { Agent, request } from 'undici'
import type { Strategy } from '../../controller/types.ts'
import { jobStatus } from '../../host/types.ts'
import { poll } from '../../pkg/clock/clock.ts'
import { table } from '../../pkg/table/table.ts'
import { appName, bootSmallApp, hostName, type SmallApp } from './small-app.ts'
import { percentile } from './stats.core.ts'

const connections = 4
const requestsDefault = 200_000
const secondsDefault = 3_600
const answerTimeoutMs = 15_000
const patienceMs = 120_000
const strategies: readonly Strategy[] = ['all-at-once', 'one-by-one', 'one-down-one-up', 'in-batches']
const failuresShownMax = 20

type Load = {
  readonly made: () => number
  readonly failures: readonly string[]
  /** What happens now; failures are told with it. */
  phase: string
  stop(): Promise<readonly number[]>
}

function startLoad(address: string): Load {
  const failures: string[] = []
  const tookMs: number[] = []
  const stopping = new AbortController()
  const load = { made: () => tookMs.length, failures, phase: 'start', stop }
  const visitor = async () => {
    // Each has a connection of its own, kept open.
    const dispatcher = new Agent({ connections: 1, pipelining: 1 })
    while (!stopping.signal.aborted) {
      const at = performance.now()
      const failure = await visit(address, dispatcher)
      tookMs.push(performance.now() - at)
      if (failure === undefined) continue
      failures.push(`${new Date().toISOString()} ${load.phase}, request ${tookMs.length}: ${failure}`)
      if (failures.length <= failuresShownMax) process.stderr.write(`${failures.at(-1)}\n`)
    }
    await dispatcher.close()
  }
  const visitors = Array.from({ length: connections }, visitor)
  async function stop(): Promise<readonly number[]> {
    stopping.abort()
    await Promise.all(visitors)
    return tookMs
  }
  return load
}

async function visit(address: string, dispatcher: Agent): Promise<string | undefined> {
  try {
    const signal = AbortSignal.timeout(answerTimeoutMs)
    const answer = await request(`http://${address}/`, { dispatcher, headers: { host: hostName }, signal })
    const text = await answer.body.text()
    const good = answer.statusCode === 200 && text.endsWith(' hello')
    return good ? undefined : `${answer.statusCode} ${text.slice(0, 100)}`
  } catch (e) {
    return e instanceof Error ? `${e.name}: ${e.message}` : String(e)
  }
}

/** Kills every process of one type of the controller and waits until new ones run. */
async function restartController(app: SmallApp, type: string): Promise<void> {
  const host = app.cluster.host(app.host)
  const running = async () =>
    Object.values(await host.jobs({ active: true })).filter(
      ({ job, status }) =>
        status === jobStatus.running &&
        job.metadata?.['flynn-controller.app_name'] === 'controller' &&
        job.metadata['flynn-controller.type'] === type,
    )
  const before = await running()
  const gone = new Set(before.map(j => j.job.id))
  for (const id of gone) await host.signalJob(id, 9)
  const back = async () =>
    (await running()).filter(j => !gone.has(j.job.id)).length >= before.length &&
    (await app.client.status().then(
      s => s.data.status === 'healthy',
      () => false,
    ))
  await poll(back, { timeoutMs: patienceMs, intervalMs: 200, what: `the ${type} of the controller` })
}

type Phase = { readonly name: string; readonly run: (app: SmallApp, round: number) => Promise<void> }

const flynnAt = (app: SmallApp, name: string, ...args: string[]) =>
  app.host.run(['flynn', '-a', name, ...args], { timeoutMs: patienceMs * 2 })

const flynn = (app: SmallApp, ...args: string[]) => flynnAt(app, appName, ...args)

const phases: readonly Phase[] = [
  ...strategies.map(strategy => ({
    name: `deploy ${strategy}`,
    async run(app: SmallApp, round: number) {
      await app.client.updateApp(appName, { strategy })
      await flynn(app, 'env', 'set', `ROUND=${round}`)
    },
  })),
  { name: 'scale up', run: async app => void (await flynn(app, 'scale', 'web=4')) },
  { name: 'scale down', run: async app => void (await flynn(app, 'scale', 'web=2')) },
  ...['web', 'scheduler', 'worker'].map(type => ({
    name: `restart of the controller's ${type}`,
    run: (app: SmallApp) => restartController(app, type),
  })),
  {
    name: "deploy while the controller's web restarts",
    async run(app, round) {
      await Promise.all([flynn(app, 'env', 'set', `AGAIN=${round}`), restartController(app, 'web')])
    },
  },
  // The platform's own apps: the router beside its predecessor, discoverd by `discoverd-meta`, the database by `sirenia`.
  ...['router', 'discoverd', 'postgres'].map(name => ({
    name: `deploy of ${name}`,
    run: async (app: SmallApp, round: number) =>
      void (await flynnAt(app, name, 'env', 'set', `ROUND=${round}`)),
  })),
]

async function main(): Promise<void> {
  const wanted = Number(process.argv[2] ?? requestsDefault)
  const endMs = performance.now() + Number(process.argv[3] ?? secondsDefault) * 1_000
  await using app = await bootSmallApp('bench-deploy-load')
  await flynn(app, 'scale', 'web=2')
  const load = startLoad(app.host.address)
  const counts = new Map<string, number>()
  const began = performance.now()
  const more = () => load.made() < wanted && performance.now() < endMs
  for (let round = 1; more(); round++)
    for (const phase of phases) {
      load.phase = phase.name
      await phase.run(app, round)
      counts.set(phase.name, (counts.get(phase.name) ?? 0) + 1)
      process.stderr.write(`${phase.name}: ${load.made()} requests, ${load.failures.length} failed\n`)
    }
  const seconds = (performance.now() - began) / 1_000
  const tookMs = await load.stop()
  const rows = [...counts].map(([name, n]) => [name, String(n)])
  const rate = (tookMs.length / seconds).toFixed(0)
  const p99 = percentile(tookMs, 0.99).toFixed(0)
  process.stdout.write(
    `${tookMs.length} requests over ${connections} connections in ${seconds.toFixed(0)} s (${rate} a second, p99 ${p99} ms), load ${loadavg()[0]?.toFixed(1)}: ${load.failures.length} failed\n\n${table([['done', 'times'], ...rows])}`,
  )
  if (load.failures.length > 0) process.exitCode = 1
}

await main()
