// A short selection of the chaos suite: one cluster, rounds whose seeds are fixed, the same checks as the long run.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { keepEvidence } from '../chaos/evidence.ts'
import { type FaultKind, planRound, tellPlan } from '../chaos/plan.core.ts'
import { playRound } from '../chaos/round.ts'
import { type Stage, setStage } from '../chaos/stage.ts'

const hosts = 3
/**
 * Chosen for being short, and for what they hit. No power cut: zfs-fuse, which the test hosts have, may lose what PostgreSQL
 * has synced (host/container/README.md).
 */
const rounds: readonly {
  readonly seed: number
  readonly kinds: readonly FaultKind[]
  readonly what: string
}[] = [
  {
    seed: 42,
    kinds: ['kill'],
    what: "kills of a scheduler, a containerd and the leading database's Patroni",
  },
  { seed: 36, kinds: ['partition'], what: 'the leader of etcd alone behind a partition' },
]

let stage: Stage

before(async () => {
  stage = await setStage(
    'chaos-short',
    hosts,
    rounds.flatMap(r => r.kinds),
  )
})

after(async () => {
  await stage?.[Symbol.asyncDispose]()
})

for (const { seed, kinds, what } of rounds)
  test(`${what}: the cluster heals and nothing acknowledged is lost (seed ${seed})`, async t => {
    const plan = planRound({ seed, hosts, kinds })
    const said: string[] = []
    const say = (line: string) => {
      said.push(`${new Date().toISOString()} ${line}`)
      t.diagnostic(line)
    }
    const result = await playRound({ ...stage, plan, say })
    const { cluster } = stage
    const where =
      result.violations.length === 0 ? '' : `evidence: ${await keepEvidence(cluster, plan, result, said)}`
    assert.deepEqual(result.violations, [], [...tellPlan(plan), ...result.violations, where].join('\n'))
    assert.ok(result.ledger.rows.some(r => r.acknowledged))
  })
