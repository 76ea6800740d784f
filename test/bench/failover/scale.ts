// 100 jobs of one process type scaled up over three hosts: how long until all are up, and how evenly they lie.
import { poll } from '../../../pkg/clock/clock.ts'
import type { TestHost } from '../../cluster/types.ts'
import type { FlynnCluster } from '../../fixtures/flynn-cluster.ts'
import { type Scenario, type TrialResult, trialPatienceMs } from './types.ts'

const jobs = 100
const patienceMs = trialPatienceMs * 3
const app = 'guestbook'
/** A process that does nothing, so that what is measured is the platform. */
const type = 'idle'
const file = '/tmp/idle.json'

async function countByHost(cluster: FlynnCluster): Promise<readonly number[]> {
  const all = (await cluster.jobs()).filter(
    j =>
      j.job.metadata?.['flynn-controller.app_name'] === app &&
      j.job.metadata['flynn-controller.type'] === type,
  )
  const up = all.filter(j => j.status === 1)
  return cluster.hosts.map(h => up.filter(j => j.job.id.startsWith(`${h.name}-`)).length)
}

const sum = (counts: readonly number[]) => counts.reduce((a, b) => a + b, 0)

async function scaled(cluster: FlynnCluster, count: number): Promise<readonly number[]> {
  const scaling = cluster.run('flynn', '-a', app, 'scale', `${type}=${count}`)
  const counts = await poll(
    async () => {
      const found = await countByHost(cluster)
      return sum(found) === count && found
    },
    { timeoutMs: patienceMs, intervalMs: 100, what: `${count} jobs` },
  )
  await scaling
  return counts
}

/** Lays the idle process over the guestbook's release, once. */
async function addType(cluster: FlynnCluster): Promise<void> {
  if ((await cluster.run('flynn', '-a', app, 'release', 'show')).includes(`${type},`)) return
  const processes = { [type]: { args: ['sleep', '1000000'] } }
  await (cluster.hosts[0] as TestHost).writeFile(file, JSON.stringify({ processes }))
  await cluster.run('flynn', '-a', app, 'release', 'update', file)
}

async function trial(cluster: FlynnCluster): Promise<TrialResult> {
  await addType(cluster)
  const began = Date.now()
  const counts = await scaled(cluster, jobs)
  const up = Date.now() - began
  await scaled(cluster, 0)
  const uneven = Math.max(...counts) - Math.min(...counts) > 1 ? 1 : 0
  return {
    timesMs: { 'all up': up },
    counts: { uneven, ...Object.fromEntries(counts.map((c, i) => [`on h${i + 1}`, c])) },
  }
}

export const scale: Scenario = { title: `${jobs} jobs scaled up`, aims: [], zero: ['uneven'], trial }
