// `npm run chaos`: rounds of faults on test hosts, one seed after the other, until something is wrong or all are played.
import { parseArgs } from 'node:util'
import { keepEvidence } from './evidence.ts'
import { countRequests } from './ledger.ts'
import { type FaultKind, faultKinds, planRound } from './plan.core.ts'
import { playRound } from './round.ts'
import { type Stage, setStage } from './stage.ts'

const usage = `usage: npm run chaos -- --rounds N [options]

Boots a cluster on test hosts, breaks it round after round by plans that seeds give, and checks after each
round that it healed and kept what it had promised. Ends with 1 at the first violation.

Options:
  --rounds N       rounds to play, each with the next seed (default 10)
  --seed S         seed of the first round (default: from the clock); --seed S --rounds 1 plays a round again
  --hosts 3|5      size of the cluster (default 3)
  --faults A,B     only these: ${faultKinds.join(', ')}
  --name NAME      name of the test cluster (default chaos)
  --in-turn        one kind of fault a round, each in turn, instead of a mixture
  --go-on          play on after a violation, on a new cluster where the old one did not heal

Example:
  npm run chaos -- --rounds 50 --faults power-cut,partition
`

type Options = {
  readonly rounds: number
  readonly seed: number
  readonly hosts: number
  readonly kinds: readonly FaultKind[]
  readonly name: string
  readonly inTurn: boolean
  readonly goOn: boolean
}

class UsageError extends Error {}

function readOptions(argv: readonly string[]): Options | undefined {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      rounds: { type: 'string', default: '10' },
      seed: { type: 'string' },
      hosts: { type: 'string', default: '3' },
      faults: { type: 'string', default: faultKinds.join(',') },
      name: { type: 'string', default: 'chaos' },
      'in-turn': { type: 'boolean', default: false },
      'go-on': { type: 'boolean', default: false },
      help: { type: 'boolean', default: false },
    },
  })
  if (values.help) return undefined
  const whole = (name: string, text: string, least: number) => {
    const n = Number(text)
    if (Number.isSafeInteger(n) && n >= least) return n
    throw new UsageError(`--${name} is a whole number from ${least} on, not ${text}`)
  }
  const kinds = values.faults.split(',').map(name => {
    const kind = faultKinds.find(k => k === name)
    if (!kind) throw new UsageError(`--faults has no ${name}; there are ${faultKinds.join(', ')}`)
    return kind
  })
  if (values.hosts !== '3' && values.hosts !== '5') throw new UsageError('--hosts is 3 or 5')
  const seed = values.seed === undefined ? Date.now() % 1_000_000 : whole('seed', values.seed, 0)
  const rounds = whole('rounds', values.rounds, 1)
  const { name, 'in-turn': inTurn, 'go-on': goOn } = values
  return { rounds, seed, hosts: Number(values.hosts), kinds, name, inTurn, goOn }
}

async function main(options: Options): Promise<boolean> {
  const say = (line: string) => process.stdout.write(`${new Date().toISOString().slice(11, 19)} ${line}\n`)
  say(`seeds ${options.seed} to ${options.seed + options.rounds - 1}, ${options.hosts} hosts`)
  let stage: Promise<Stage> | undefined
  const strike = async () => {
    const up = stage
    stage = undefined
    // One that could not be set has struck itself.
    await up?.then(
      s => s[Symbol.asyncDispose](),
      () => undefined,
    )
  }
  // A run that is told to end leaves no hosts behind, those that are still booting among them.
  let told = false
  const end = (code: number) => async () => {
    told = true
    say('told to end: takes the hosts down')
    await strike()
    process.exit(code)
  }
  process.once('SIGINT', end(130))
  process.once('SIGTERM', end(143))
  let violated = 0
  let requests = 0
  const healed: number[] = []
  try {
    for (let i = 0; i < options.rounds; i++) {
      stage ??= setStage(options.name, options.hosts, options.kinds)
      const set = await stage
      if (told) return false
      const kinds = options.inTurn ? options.kinds.filter((_, k, all) => k === i % all.length) : options.kinds
      const plan = planRound({ seed: options.seed + i, hosts: options.hosts, kinds })
      const said: string[] = []
      const note = (line: string) => {
        said.push(`${new Date().toISOString()} ${line}`)
        say(`  ${line}`)
      }
      say(`round ${i + 1} of ${options.rounds}, seed ${plan.seed}`)
      const result = await playRound({ ...set, plan, say: note })
      healed.push(result.healedMs)
      requests += countRequests(result.ledger)
      if (result.violations.length === 0) continue
      violated++
      for (const line of result.violations) say(`VIOLATION ${line}`)
      say(`evidence: ${await keepEvidence(set.cluster, plan, result, said)}`)
      say(
        `again: npm run chaos -- --seed ${plan.seed} --rounds 1 --hosts ${options.hosts} --faults ${kinds.join()}`,
      )
      if (!options.goOn) break
      if (result.whole) continue
      await strike()
    }
  } finally {
    await strike()
  }
  say(`${healed.length} rounds, ${requests} requests, ${violated} with violations, ${times(healed)}`)
  return violated === 0
}

function times(healedMs: readonly number[]): string {
  const inOrder = healedMs.toSorted((a, b) => a - b)
  const seconds = (ms = 0) => `${(ms / 1000).toFixed(1)} s`
  return `healed in ${seconds(inOrder[inOrder.length >> 1])} (median), ${seconds(inOrder.at(-1))} (slowest)`
}

try {
  const options = readOptions(process.argv.slice(2))
  if (!options) process.stdout.write(usage)
  else process.exitCode = (await main(options)) ? 0 : 1
} catch (e) {
  const misused = e instanceof UsageError || (e instanceof TypeError && 'code' in e)
  process.stderr.write(misused ? `${e.message}\n\n${usage}` : `${e instanceof Error ? e.stack : e}\n`)
  process.exitCode = misused ? 64 : 1
}
