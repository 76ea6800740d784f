// What is kept of a round that went wrong: seed, plan, what was wrong, everything the clients did, and the hosts' logs.
// In a folder of its own outside the test cluster, which is removed.
import { cp, mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { hostDir } from '../cluster/names.ts'
import type { FlynnCluster } from '../fixtures/flynn-cluster.ts'
import { type Plan, tellPlan } from './plan.core.ts'
import type { RoundResult } from './round.ts'

export const evidenceRoot = '/var/tmp/flynn-chaos'

/** Answers the folder. */
export async function keepEvidence(
  cluster: FlynnCluster,
  plan: Plan,
  result: RoundResult,
  said: readonly string[],
): Promise<string> {
  const folder = join(evidenceRoot, `seed-${plan.seed}-${new Date().toISOString().replaceAll(/[:.]/g, '')}`)
  await mkdir(folder, { recursive: true })
  const { ledger, violations } = result
  const text = [`seed ${plan.seed}, ${plan.hosts} hosts`, ...tellPlan(plan), '', ...violations, '', ...said]
  await writeFile(join(folder, 'round.txt'), `${text.join('\n')}\n`)
  const histories = {
    registers: Object.fromEntries(ledger.registers),
    apps: ledger.apps,
    rows: ledger.rows,
    visits: ledger.visits,
  }
  await writeFile(join(folder, 'histories.json'), JSON.stringify(histories, undefined, 1))
  for (const host of cluster.hosts) {
    // A disk with a size of its own is mounted nowhere but in the host.
    const from = host.alive
      ? `/proc/${host.pid}/root/var/log`
      : join(hostDir(cluster.machines.name, host.name), 'disk', 'log')
    await cp(from, join(folder, host.name), {
      recursive: true,
      filter: source => !source.includes('/journal'),
    })
  }
  return folder
}
