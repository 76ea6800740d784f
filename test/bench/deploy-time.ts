// From `flynn deploy` to the new version serving, for a small app whose page is asked all the while. The app's own start,
// which it tells itself, is taken off: what is left is the platform's. `node test/bench/deploy-time.ts [RUNS]`
import { loadavg } from 'node:os'
import { Agent, request } from 'undici'
import { sleep } from '../../pkg/clock/clock.ts'
import { table } from '../../pkg/table/table.ts'
import { bootSmallApp, hostName, type SmallApp } from './small-app.ts'
import { median, summary, summaryHeader, summaryRow } from './stats.core.ts'

/** Aim of issue 4: the platform's part of a deployment. */
const aimMs = 3_000
const runsDefault = 10
const pollMs = 10
const servingTimeoutMs = 120_000

type Run = {
  /** Until the first answer of the new version, and until the command ended. */
  readonly servingMs: number
  readonly endedMs: number
  readonly ownMs: number
}

/** Resolves with the app's own start when the page is that of the version. */
async function untilServing(host: string, version: string, agent: Agent): Promise<number> {
  const end = performance.now() + servingTimeoutMs
  while (performance.now() < end) {
    const answer = await request(`http://${host}/`, { dispatcher: agent, headers: { host: hostName } })
    const [found, own] = (await answer.body.text()).split(' ')
    if (answer.statusCode === 200 && found === version) return Number(own)
    await sleep(pollMs)
  }
  throw new Error(`${version} does not serve`)
}

async function run(app: SmallApp, version: string, agent: Agent): Promise<Run> {
  await app.write(version)
  const began = performance.now()
  const since = () => performance.now() - began
  const serving = untilServing(app.host.address, version, agent).then(ownMs => ({ ownMs, at: since() }))
  const [{ ownMs, at }, endedMs] = await Promise.all([serving, app.deploy().then(since)])
  return { servingMs: at, endedMs, ownMs }
}

async function main(): Promise<void> {
  const count = Number(process.argv[2] ?? runsDefault)
  await using app = await bootSmallApp('bench-deploy-time')
  await using agent = Object.assign(new Agent(), { [Symbol.asyncDispose]: () => agent.destroy() })
  const runs: Run[] = []
  for (let i = 1; i <= count; i++) {
    const made = await run(app, `v${i}`, agent)
    runs.push(made)
    process.stderr.write(`run ${i}: serves after ${made.servingMs.toFixed(0)} ms, load ${loadavg()[0]}\n`)
  }
  const platform = runs.map(r => r.servingMs - r.ownMs)
  const rows = [
    summaryRow('new version serves', summary(runs.map(r => r.servingMs))),
    summaryRow("the app's own start", summary(runs.map(r => r.ownMs))),
    summaryRow('the platform of it', summary(platform)),
    summaryRow('flynn deploy ended', summary(runs.map(r => r.endedMs))),
  ]
  const load = loadavg()[0]?.toFixed(1)
  process.stdout.write(`milliseconds, load ${load}\n\n${table([[...summaryHeader], ...rows])}`)
  const missed = median(platform) > aimMs
  process.stdout.write(`aim: median of the platform below ${aimMs} ms: ${missed ? 'missed' : 'met'}\n`)
  if (missed) process.exitCode = 1
}

await main()
