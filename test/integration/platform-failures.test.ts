// One host with everything on it, and people who look at the guestbook all the time, while one daemon after the other
// dies, releases are broken and the power goes. From outside: what do the visitors see, and is it whole again after?
import assert from 'node:assert/strict'
import { after, before, type TestContext, test } from 'node:test'
import type { Job } from '../../controller/types.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { type Load, startLoad, tell } from '../fixtures/load.ts'
import { domain, named, type OneHost, oneHost, patienceMs } from '../fixtures/one-host.ts'

const perSecond = 20
const light = '/healthz'
const stored = '/entries.json'
/** The load goes on for this long after the cluster is whole again, so that late damage shows. */
const afterwardsMs = 1_000
const deployTimeoutSeconds = 5

let flynn: OneHost
let wanted: Readonly<Record<string, number>>

before(async () => {
  flynn = await oneHost('platform-failures')
  const { code, stderr } = await flynn.install('--quickstart')
  assert.equal(code, 0, stderr)
  await flynn.ok('-a', 'guestbook', 'scale', 'web=2')
  wanted = (await flynn.running()) ?? {}
  await flynn.healed(wanted)
})

after(async () => {
  await flynn?.[Symbol.asyncDispose]()
})

const visitors = (): Load =>
  startLoad({
    address: flynn.host.address,
    hostName: `guestbook.${domain}`,
    pages: { [light]: 'ok', [stored]: 'first entry' },
    perSecond,
  })

/** Does something to the cluster under load; fails if a page failed that may not. */
async function underLoad(
  t: TestContext,
  mayFail: readonly string[],
  work: () => Promise<void>,
): Promise<void> {
  const load = visitors()
  let visits: Awaited<ReturnType<Load['stop']>> = []
  try {
    await sleep(500)
    await work()
    await sleep(afterwardsMs)
  } finally {
    visits = await load.stop()
  }
  const failed = visits.filter(v => v.failure !== undefined)
  t.diagnostic(`${failed.length} of ${visits.length} requests failed`)
  assert.ok(visits.length > perSecond, `${visits.length} requests`)
  assert.equal(tell(failed.filter(v => !mayFail.includes(v.path))), '')
}

const guestbookJobs = async () =>
  (await flynn.jobs())
    .filter(j => named(j).startsWith('guestbook/'))
    .map(j => j.job.id)
    .sort()

type Fits = (argv: readonly string[]) => boolean
type Daemon = {
  readonly name: string
  readonly fits: Fits
  /** Pages that may fail while it is away. */
  readonly mayFail: readonly string[]
}

const bundle =
  (name: string): Fits =>
  ([program, ...args]) =>
    program !== '/.containerinit' && args.some(a => a.endsWith(`/${name}.mjs`))
const program =
  (pattern: RegExp, word?: string): Fits =>
  ([file = '', ...args]) =>
    pattern.test(file) && (word === undefined || args.includes(word))

const daemons: readonly Daemon[] = [
  { name: 'flynn-host', fits: bundle('flynn-host'), mayFail: [] },
  { name: 'containerd', fits: program(/^containerd$|\/containerd$/), mayFail: [] },
  { name: 'discoverd', fits: bundle('flynn-discoverd'), mayFail: [] },
  { name: 'etcd', fits: program(/^etcd$/), mayFail: [] },
  { name: 'HAProxy', fits: program(/^haproxy$/), mayFail: [light, stored] },
  { name: "the router's control process", fits: bundle('flynn-router'), mayFail: [] },
  { name: 'the controller', fits: bundle('flynn-controller-web'), mayFail: [] },
  { name: 'the scheduler', fits: bundle('flynn-controller-scheduler'), mayFail: [] },
  { name: 'the worker', fits: bundle('flynn-controller-worker'), mayFail: [] },
  { name: "PostgreSQL's first process", fits: program(/\/bin\/postgres$/, '-D'), mayFail: [stored] },
  { name: 'Patroni', fits: program(/python3$/, '/bin/flynn_patroni.py'), mayFail: [stored] },
]

for (const { name, fits, mayFail } of daemons)
  test(`kill -9 of ${name}: the cluster heals by itself while the app serves`, async t => {
    const before = flynn.pids(fits)
    assert.ok(before.length > 0, `${name} runs`)
    const app = await guestbookJobs()
    const replaced = () => {
      const now = flynn.pids(fits)
      return now.length === before.length && !now.some(pid => before.includes(pid))
    }
    await underLoad(t, mayFail, async () => {
      await flynn.kill(before)
      const killedAt = performance.now()
      await poll(replaced, { timeoutMs: patienceMs, what: `${name} to be there again` })
      await flynn.healed(wanted)
      t.diagnostic(`healed after ${((performance.now() - killedAt) / 1000).toFixed(1)} s`)
    })
    assert.equal((await flynn.page('guestbook', stored)).status, 200)
    assert.deepEqual(await guestbookJobs(), app, 'the app itself was left alone')
  })

test('a new release of the router takes over without a failed request', async t => {
  const router = () => flynn.pids(program(/^haproxy$/))
  const before = router()
  await underLoad(t, [], async () => {
    const began = performance.now()
    await flynn.ok('-a', 'router', 'env', 'set', 'NOTE=another release')
    t.diagnostic(`deployed after ${((performance.now() - began) / 1000).toFixed(1)} s`)
    await poll(() => router().length > 0 && router().every(pid => !before.includes(pid)), {
      timeoutMs: patienceMs,
      what: 'the HAProxy of before to end',
    })
    await flynn.healed(wanted)
  })
})

test('kill -9 of flynn-host and containerd loses no job, no exit code and no line', async () => {
  const lines = 400
  const script = `i=0; while [ $i -lt ${lines} ]; do i=$((i+1)); echo $i; sleep 0.01; done; exit 7`
  const { stderr } = await flynn.flynn(['-a', 'guestbook', 'run', '-d', '-l', 'sh', '-c', script])
  const id = stderr.trim()
  const written = async () => {
    const text = await flynn.ok('-a', 'guestbook', 'log', '-r', '-j', id)
    return text.split('\n').slice(0, -1)
  }
  await poll(async () => (await written()).length > 20, { timeoutMs: patienceMs, what: 'the first lines' })
  await flynn.kill(daemons.slice(0, 2).flatMap(({ fits }) => flynn.pids(fits)))
  const job = await poll(
    async () => {
      const jobs = await flynn.json<readonly Job[]>('-a', 'guestbook', 'ps', '-a')
      return jobs.find(j => j.id === id && j.state === 'down')
    },
    { timeoutMs: patienceMs, what: 'the job to end' },
  )
  assert.equal(job.exit_status, 7)
  const numbers = Array.from({ length: lines }, (_, i) => String(i + 1))
  await poll(async () => (await written()).length >= lines, { timeoutMs: patienceMs, what: 'all lines' })
  assert.deepEqual(await written(), numbers)
  await flynn.healed(wanted)
})

const broken = {
  'ends at once': 'process.exit(3)',
  'never listens': 'setInterval(() => 0, 1000)',
}
for (const [what, script] of Object.entries(broken))
  test(`a release whose process ${what} is taken back, and the old one never stops answering`, async t => {
    const dir = '/root/broken'
    const start = `node -e "${script}"`
    await flynn.host.writeFile(`${dir}/package.json`, JSON.stringify({ name: 'broken', scripts: { start } }))
    await flynn.ok('-a', 'guestbook', 'deployment', 'timeout', String(deployTimeoutSeconds))
    const app = await guestbookJobs()
    const counts = await flynn.ok('-a', 'guestbook', 'scale')
    await underLoad(t, [], async () => {
      const { code, stderr } = await flynn.flynn(['-a', 'guestbook', 'deploy', dir])
      assert.equal(code, 1)
      assert.match(stderr, /the old release serves on/)
      await flynn.healed(wanted)
    })
    assert.deepEqual(await guestbookJobs(), app)
    assert.equal(await flynn.ok('-a', 'guestbook', 'scale'), counts)
    const [latest] = await flynn.json<readonly { status: string }[]>('-a', 'guestbook', 'deployment')
    assert.equal(latest?.status, 'failed')
  })

test('after a power cut the app serves again with its data, and everything runs once', async t => {
  const form = { name: 'Ada', message: 'written before the power went' }
  assert.equal((await flynn.page('guestbook', '/', { method: 'POST', form })).status, 303)
  await flynn.host.powerOff()
  const onAt = performance.now()
  await flynn.host.up()
  await flynn.startDaemon()
  await poll(async () => (await flynn.page('guestbook', '/')).body.includes(form.message), {
    timeoutMs: patienceMs,
    what: 'the page with its row',
  })
  t.diagnostic(`the page is back after ${((performance.now() - onAt) / 1000).toFixed(1)} s`)
  await flynn.healed(wanted)
  await sleep(3_000)
  assert.deepEqual(await flynn.running(), wanted)
  // The controller has the same jobs as the host.
  const listed: string[] = []
  for (const app of new Set(Object.keys(wanted).map(name => name.split('/')[0] ?? ''))) {
    const jobs = await flynn.json<readonly Job[]>('-a', app, 'ps')
    listed.push(...jobs.map(j => `${j.id} ${j.state}`))
  }
  const running = (await flynn.jobs()).map(j => `${j.job.id} up`)
  assert.deepEqual(listed.sort(), running.sort())
})
