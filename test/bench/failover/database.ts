// The primary's death: its server killed, its Patroni killed, its host powered off. How long until a row, begun to be written
// after the first failure of one, is acknowledged by who leads service `postgres`, and whether any acknowledged row is gone.
import type { TestHost } from '../../cluster/types.ts'
import { isPrimary, lostRows, testDatabase } from '../../fixtures/database.ts'
import type { FlynnCluster } from '../../fixtures/flynn-cluster.ts'
import type { Scenario, TrialResult } from './types.ts'

type Break = (primary: TestHost) => Promise<number>

/** The shell tells when it killed: starting it may take long on a busy machine. */
async function killIn(host: TestHost, pids: string): Promise<number> {
  const script = `pid=$(${pids}); date +%s%N; kill -9 $pid`
  return Number((await host.run(['sh', '-c', script])).trim()) / 1e6
}

const killServer: Break = host => killIn(host, "pgrep -o -f '^/usr/lib/postgresql/.*/postgres -D /data/db'")
const killPatroni: Break = host => killIn(host, "pgrep -f '^/usr/bin/python3 /bin/flynn_patroni.py /data/'")
const pullPlug: Break = async host => {
  const at = Date.now()
  await host.powerOff()
  return at
}

async function trial(cluster: FlynnCluster, destroy: Break): Promise<TrialResult> {
  const database = testDatabase(cluster)
  const before = await database.well(3)
  const host = before.find(isPrimary)?.testHost
  const survivors = cluster.hosts.filter(h => h !== host)
  const [survivor] = survivors
  if (!host || !survivor) throw new Error('the primary is on no host of the cluster')
  const writers = await Promise.all(survivors.map(h => database.startWriter(h)))
  const brokenMs = await destroy(host)
  const firsts = await Promise.all(writers.map(w => w.recovered(brokenMs)))
  const writable = Math.min(...firsts.map(a => a.ackedMs)) - brokenMs
  if (!host.alive) await cluster.boot(host)
  await database.well(3)
  const wholeMs = Date.now() - brokenMs
  for (const w of writers) w.stop()
  const acks = (await Promise.all(writers.map(w => w.acks()))).flat()
  const lost = lostRows(acks, await database.rows(survivor))
  return {
    timesMs: { writable, 'three nodes again': wholeMs },
    counts: { 'lost rows': lost.length, acks: acks.length },
  }
}

const scenario = (title: string, destroy: Break, medianMs: number): Scenario => ({
  title,
  aims: [{ name: 'writable', statistic: 'median', underMs: medianMs }],
  zero: ['lost rows'],
  trial: cluster => trial(cluster, destroy),
})

export const databaseServer = scenario("kill -9 of the primary's server", killServer, 3_000)
export const databasePatroni = scenario("kill -9 of the primary's Patroni", killPatroni, 3_000)
export const databaseHost: Scenario = {
  ...scenario("power-off of the primary's host", pullPlug, 8_000),
  aims: [{ name: 'writable', statistic: 'max', underMs: 8_000 }],
}
