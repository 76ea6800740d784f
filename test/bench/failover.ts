// What a cluster of three hosts does when something dies: one scenario after another on one cluster, so many trials each.
// `node test/bench/failover.ts [--trials N] [SCENARIO...]`; see README.md for what it prints.
import { parseArgs } from 'node:util'
import { table } from '../../pkg/table/table.ts'
import { bootFlynn, deployGuestbook, type FlynnCluster } from '../fixtures/flynn-cluster.ts'
import { consensus } from './failover/consensus.ts'
import { databaseHost, databasePatroni, databaseServer } from './failover/database.ts'
import { drain } from './failover/drain.ts'
import { host } from './failover/host.ts'
import { scale } from './failover/scale.ts'
import type { Aim, Scenario, TrialResult } from './failover/types.ts'
import { percentile, summary } from './stats.core.ts'

const scenarios: Readonly<Record<string, Scenario>> = {
  consensus,
  host,
  'database-server': databaseServer,
  'database-patroni': databasePatroni,
  'database-host': databaseHost,
  scale,
  drain,
}
const trialsDefault = 20
const trialsMax = 1_000
/** As shells have it. */
const interruptedStatus = 130
const usage = `usage: node test/bench/failover.ts [--trials N] [SCENARIO...]

Scenarios: ${Object.keys(scenarios).join(', ')}. All of them when none is named.

Example:
  node test/bench/failover.ts --trials 20 consensus
`

class UsageError extends Error {}

function parse(argv: readonly string[]): { readonly names: readonly string[]; readonly trials: number } {
  const { values, positionals } = parseArgs({
    args: [...argv],
    allowPositionals: true,
    options: { trials: { type: 'string' }, help: { type: 'boolean', short: 'h' } },
  })
  if (values.help) throw new UsageError('')
  const trials = Number(values.trials ?? trialsDefault)
  if (!Number.isInteger(trials) || trials < 1 || trials > trialsMax)
    throw new UsageError(`--trials is a whole number from 1 to ${trialsMax}, not ${values.trials}`)
  const unknown = positionals.filter(name => !(name in scenarios))
  if (unknown.length > 0) throw new UsageError(`there is no scenario ${unknown.join(', ')}`)
  return { names: positionals.length > 0 ? positionals : Object.keys(scenarios), trials }
}

const valuesOf = (results: readonly TrialResult[], kind: keyof TrialResult, name: string) =>
  results.flatMap(r => r[kind][name] ?? [])
const namesOf = (results: readonly TrialResult[], kind: keyof TrialResult) => [
  ...new Set(results.flatMap(r => Object.keys(r[kind]))),
]

function judge(aim: Aim, results: readonly TrialResult[]): { readonly met: boolean; readonly text: string } {
  const samples = valuesOf(results, 'timesMs', aim.name)
  const s = summary(samples)
  const value = { median: s.median, p99: percentile(samples, 0.99), max: s.max }[aim.statistic]
  const met = value < aim.underMs
  return { met, text: `${aim.name}, ${aim.statistic} under ${aim.underMs} ms: ${met ? 'met' : 'MISSED'}` }
}

/** Prints what the trials say; false when an aim is missed. */
function report(scenario: Scenario, results: readonly TrialResult[]): boolean {
  const rows = namesOf(results, 'timesMs').map(name => {
    const samples = valuesOf(results, 'timesMs', name)
    const s = summary(samples)
    const cells = [s.min, s.median, percentile(samples, 0.99), s.max].map(ms => ms.toFixed(0))
    return [name, String(s.count), ...cells]
  })
  process.stdout.write(`\n${scenario.title}, milliseconds\n`)
  process.stdout.write(table([['', 'trials', 'min', 'median', 'p99', 'max'], ...rows]))
  const totals = namesOf(results, 'counts').map(name => {
    const samples = valuesOf(results, 'counts', name)
    return [name, `${samples.reduce((a, b) => a + b, 0)} in all`, `most in one trial ${Math.max(...samples)}`]
  })
  process.stdout.write(table(totals))
  const judged = scenario.aims.map(aim => judge(aim, results))
  const zeros = scenario.zero.map(name => {
    const met = valuesOf(results, 'counts', name).every(n => n === 0)
    return { met, text: `${name}, none: ${met ? 'met' : 'MISSED'}` }
  })
  for (const { text } of [...judged, ...zeros]) process.stdout.write(`aim: ${text}\n`)
  return [...judged, ...zeros].every(j => j.met)
}

async function runTrials(
  cluster: FlynnCluster,
  name: string,
  trials: number,
): Promise<readonly TrialResult[]> {
  const scenario = scenarios[name] as Scenario
  const results: TrialResult[] = []
  for (let n = 0; n < trials; n++) {
    const result = await scenario.trial(cluster, n)
    results.push(result)
    const times = Object.entries(result.timesMs).map(([what, ms]) => `${what} ${ms.toFixed(0)} ms`)
    const counts = Object.entries(result.counts).map(([what, count]) => `${what} ${count}`)
    process.stderr.write(`${name} ${n + 1}/${trials}: ${[...times, ...counts].join(', ')}\n`)
  }
  return results
}

try {
  const { names, trials } = parse(process.argv.slice(2))
  await using cluster = await bootFlynn({ name: 'bench-failover', hosts: 3 })
  // A run that is told to end leaves no hosts behind.
  const end = async () => {
    await cluster[Symbol.asyncDispose]()
    process.exit(interruptedStatus)
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => void end())
  await deployGuestbook(cluster, 3)
  for (const name of names)
    if (!report(scenarios[name] as Scenario, await runTrials(cluster, name, trials))) process.exitCode = 1
} catch (e) {
  if (!(e instanceof UsageError)) throw e
  process.stderr.write(`${e.message}${e.message ? '\n' : ''}${usage}`)
  process.exitCode = 64
}
