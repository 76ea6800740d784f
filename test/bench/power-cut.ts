// `node test/bench/power-cut.ts --trials 20`: all three hosts lose their power at once. How long after the last one was
// switched on again, in any order, does every router show the app with its data; and how long when one of them stays off?
// Nobody types anything. Each trial waits for the whole cluster before the next one.
import { parseArgs } from 'node:util'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { type Random, seededRandom } from '../../pkg/random/random.core.ts'
import { heal } from '../chaos/round.ts'
import { type Stage, setStage } from '../chaos/stage.ts'
import type { TestHost } from '../cluster/types.ts'
import { domain } from '../fixtures/flynn-cluster.ts'
import { summary } from './stats.core.ts'

const aimMs = 90_000
const giveUpMs = 180_000
const bootPauseMaxMs = 3_000
const pageTimeoutMs = 5_000
const lookPauseMs = 200

type Trial = { readonly booted: number; readonly tookMs: number }

const say = (line: string) => process.stdout.write(`${line}\n`)
const seconds = (ms: number) => `${(ms / 1000).toFixed(1)} s`

async function sign({ wire }: Stage, host: TestHost, name: string): Promise<void> {
  const answer = await wire.ask({
    url: `http://${host.address}/`,
    method: 'POST',
    headers: { host: `guestbook.${domain}`, 'content-type': 'application/x-www-form-urlencoded' },
    body: new URLSearchParams({ name, message: 'written before the power went' }).toString(),
    timeoutMs: pageTimeoutMs,
  })
  if (answer.type !== 'answered' || answer.status !== 303)
    throw new Error(`the guestbook takes no row: ${JSON.stringify(answer).slice(0, 200)}`)
}

async function shows({ wire }: Stage, host: TestHost, name: string): Promise<boolean> {
  const headers = { host: `guestbook.${domain}` }
  const page = await wire.ask({ url: `http://${host.address}/`, headers, timeoutMs: pageTimeoutMs })
  return page.type === 'answered' && page.status === 200 && page.text.includes(name)
}

/** Milliseconds from the last boot until all hosts that are on serve. */
async function trial(stage: Stage, random: Random, n: number, booted: number): Promise<Trial> {
  const { cluster } = stage
  const name = `trial-${n}`
  await sign(stage, cluster.machines.host(1), name)
  await Promise.all(cluster.hosts.map(h => h.powerOff()))
  const order = random.shuffle(cluster.hosts).slice(0, booted)
  const boots: Promise<void>[] = []
  let lastAt = 0
  for (const host of order) {
    await sleep(random.below(bootPauseMaxMs))
    lastAt = performance.now()
    boots.push(cluster.boot(host))
  }
  await Promise.all(boots)
  const serves = (host: TestHost) =>
    poll(() => shows(stage, host, name), {
      timeoutMs: giveUpMs,
      intervalMs: lookPauseMs,
      what: `the page with its row through ${host.name}`,
    })
  await Promise.all(order.map(serves))
  const tookMs = performance.now() - lastAt
  say(`trial ${n}: ${order.map(h => h.name).join(', ')} booted, serving after ${seconds(tookMs)}`)
  for (const host of cluster.hosts.filter(h => !h.alive)) await cluster.boot(host)
  const { faults } = await heal(stage)
  if (faults.length > 0) throw new Error(`trial ${n}: ${faults.join('\n')}`)
  return { booted, tookMs }
}

const { values } = parseArgs({
  options: {
    trials: { type: 'string', default: '20' },
    seed: { type: 'string', default: '1' },
    name: { type: 'string', default: 'power-cut' },
  },
})
const trials = Number(values.trials)
const random = seededRandom([Number(values.seed), 0, 0, 0])
const done: Trial[] = []
try {
  await using stage = await setStage(values.name, 3)
  // Three and two in turn, so that a run that is broken off has some of each.
  for (let n = 1; n <= 2 * trials; n++) done.push(await trial(stage, random, n, n % 2 === 1 ? 3 : 2))
} finally {
  for (const booted of [3, 2]) {
    const took = done.filter(t => t.booted === booted).map(t => t.tookMs)
    if (took.length === 0) continue
    const { count, min, median, max } = summary(took)
    const good = took.filter(ms => ms <= aimMs).length
    say(
      `${booted} of 3 booted: ${good} of ${count} served within ${seconds(aimMs)}; min ${seconds(min)}, median ${seconds(median)}, max ${seconds(max)}`,
    )
    if (good < count) process.exitCode = 1
  }
}
