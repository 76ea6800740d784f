// One round: workload on, faults by plan, everything back, the cluster heals by itself within a deadline, then what it
// promised is checked. Answers what is wrong; used by main.ts and by the short selection of the integration tests.

import { sleep } from '../../pkg/clock/clock.ts'
import { seededRandom } from '../../pkg/random/random.core.ts'
import { carryOut, endFaults } from './faults.ts'
import { type Ledger, tellLedger } from './ledger.ts'
import { type Plan, tellPlan } from './plan.core.ts'
import { brokenPromises } from './promises.ts'
import { type Counts, stateFaults } from './state.core.ts'
import { type Observer, viewCluster } from './state.ts'
import { makeRegisters, removeRegisters, startWorkload } from './workload.ts'

/** After the last fault has ended. */
export const healTimeoutMs = 120_000
const lookPauseMs = 1_000
/**
 * What is whole must stay whole for as long, in every look, while the workload goes on: an old primary that is about to be
 * rewound looks well for a moment, and is not yet healed.
 */
const stayWholeMs = 3_000

export type RoundOptions = Observer & {
  readonly plan: Plan
  /** Jobs of a whole cluster, by `app/type`. */
  readonly wanted: Counts
  readonly say: (line: string) => void
}

export type RoundResult = {
  /** Whole at the end: good for another round. */
  readonly whole: boolean
  readonly healedMs: number
  readonly ledger: Ledger
  /** Empty when the cluster kept its promises. */
  readonly violations: readonly string[]
}

export async function playRound(options: RoundOptions): Promise<RoundResult> {
  const { plan, cluster, wire, say } = options
  for (const line of tellPlan(plan)) say(line)
  const round = `${plan.seed}-${Math.floor(performance.now())}`
  await makeRegisters(cluster.machines.host(1), wire, round)
  const workload = startWorkload({
    ...options,
    hosts: cluster.hosts,
    round,
    random: seededRandom([plan.seed, 0, 0, 1]),
  })
  const violations: string[] = []
  let unhealed: readonly string[] = []
  let healedMs = 0
  try {
    const context = { cluster, say }
    await carryOut(context, plan).catch((e: unknown) =>
      violations.push(`a fault could not be carried out: ${e}`),
    )
    await endFaults(context)
    const began = performance.now()
    const healing = await heal(options)
    unhealed = healing.faults
    healedMs = healing.wholeAt - began
  } finally {
    await workload.stop()
  }
  if (unhealed.length === 0) unhealed = await stillWhole(options)
  violations.push(...unhealed)
  // Even a cluster that did not heal must have kept what it took.
  const broken = brokenPromises(options, workload.ledger)
  violations.push(...(await broken.catch((e: unknown) => [`no answer to the checks: ${e}`])))
  if (violations.length === 0) await removeRegisters(cluster.machines.host(1), wire, round)
  say(`${tellLedger(workload.ledger)}; whole after ${(healedMs / 1000).toFixed(1)} s`)
  return { whole: unhealed.length === 0, healedMs, ledger: workload.ledger, violations }
}

export type Healing = {
  /** Empty when the cluster is whole. */
  readonly faults: readonly string[]
  /** Since when, or when the deadline was over. */
  readonly wholeAt: number
}

/** Waits until nothing is wrong for a while. */
export async function heal(options: Observer & { readonly wanted: Counts }): Promise<Healing> {
  const end = performance.now() + healTimeoutMs
  let wholeAt: number | undefined
  for (;;) {
    const faults = await look(options)
    const now = performance.now()
    if (faults.length > 0) wholeAt = undefined
    else wholeAt ??= now
    if (wholeAt !== undefined && now - wholeAt >= stayWholeMs) return { faults: [], wholeAt }
    if (wholeAt === undefined && now >= end) return { faults: unhealedFaults(faults), wholeAt: now }
    await sleep(lookPauseMs)
  }
}

const unhealedFaults = (faults: readonly string[]) => [
  `not whole after ${healTimeoutMs / 1000} s:`,
  ...faults.map(f => `  ${f}`),
]

const look = async (options: Observer & { readonly wanted: Counts }) => {
  try {
    return stateFaults(await viewCluster(options), options.wanted)
  } catch (e) {
    return [`the cluster cannot be looked at: ${e instanceof Error ? e.message : String(e)}`]
  }
}

/** Two looks in a row, because one may fall between two lists. */
async function stillWhole(options: Observer & { readonly wanted: Counts }): Promise<string[]> {
  if ((await look(options)).length === 0) return []
  await sleep(lookPauseMs)
  return (await look(options)).map(f => `not whole any more: ${f}`)
}
