// Bodies of 100 MB, echo over upgraded connections and over TCP: ours beside bare HAProxy, nginx and Caddy, and without
// any of them. `node test/bench/router/transfers.ts [--rounds 5] [--seconds 3] [--only bodies,upgraded,tcp]`.
import { spawn } from 'node:child_process'
import { truncate, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { poll } from '../../../pkg/clock/clock.ts'
import { run } from '../../../pkg/proc/run.ts'
import { freePort } from '../../fixtures/ports.ts'
import { type Measured, measured, pinned } from './load.ts'
import { type Runs, report, startAll } from './main.ts'
import { loadCpu, type MeasuredProxy, makeSetting, removeSetting, startOrigin } from './proxies.ts'

const bodyBytes = 100_000_000
const connections = 32
const echoFile = fileURLToPath(new URL('echo.ts', import.meta.url))
const [bodies, echo] = ['big.bench.test', 'echo.bench.test']

type Target = Pick<MeasuredProxy, 'name' | 'http' | 'tcp'> & { readonly pids: readonly number[] }
type Case = {
  readonly name: string
  /** Undefined where the proxy cannot. */
  readonly load: (target: Target, seconds: number) => Promise<Measured> | undefined
}

/** One body after the other; `perSecond` are megabytes, `cpuUs` those of one of them. */
async function download(target: Target, seconds: number): Promise<Measured> {
  return measured(target, async () => {
    const until = performance.now() + seconds * 1000
    const times: number[] = []
    let failed = 0
    while (performance.now() < until) {
      const began = performance.now()
      const format = '%{size_download} %{http_code}'
      const args = ['curl', '-s', '-o', '/dev/null', '-H', `Host: ${bodies}`, '-w', format]
      const text = await pinned([...args, `http://127.0.0.1:${target.http}/big`], 60)
      if (text.trim() !== `${bodyBytes} 200`) failed++
      times.push(performance.now() - began)
    }
    times.sort((a, b) => a - b)
    const megabytes = (times.length * bodyBytes) / 1e6
    const tookMs = times.reduce((a, b) => a + b, 0)
    return {
      requests: megabytes,
      failed,
      p50Ms: times[Math.floor(times.length / 2)] ?? 0,
      p99Ms: times.at(-1) ?? 0,
      perSecond: (megabytes / tookMs) * 1000,
    }
  })
}

function echoed(target: Target, port: number, host: string, seconds: number): Promise<Measured> {
  return measured(target, async () => {
    const args = ['load', port, host, seconds, connections].map(String)
    return JSON.parse(await pinned([process.execPath, echoFile, ...args], seconds))
  })
}

const cases: readonly Case[] = [
  { name: 'bodies', load: download },
  { name: 'upgraded', load: (target, seconds) => echoed(target, target.http, echo, seconds) },
  {
    name: 'tcp',
    load: (target, seconds) => (target.tcp ? echoed(target, target.tcp, '-', seconds) : undefined),
  },
]

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      only: { type: 'string' },
      without: { type: 'string', default: '' },
    },
  })
  const only = values.only?.split(',')
  const base = await makeSetting([])
  await writeFile(join(base.dir, 'big'), '')
  await truncate(join(base.dir, 'big'), bodyBytes)
  // The workers of the backend are somebody else when it is started as root.
  await run(['chmod', '755', base.dir])
  const origin = await startOrigin(base.dir)
  const echoPort = await freePort()
  const server = spawn(
    'taskset',
    ['-c', String(loadCpu), process.execPath, echoFile, 'serve', String(echoPort)],
    {
      stdio: 'inherit',
    },
  )
  const sites = [
    { host: bodies, addr: `127.0.0.1:${origin.port}` },
    { host: echo, addr: `127.0.0.1:${echoPort}` },
  ]
  const setting = { ...base, sites, tcpTo: `127.0.0.1:${echoPort}` }
  const proxies = await startAll(setting, values.without.split(','))
  try {
    for (const one of cases.filter(c => !only || only.includes(c.name))) {
      const runs: Runs = new Map()
      const directPort = one.name === 'bodies' ? origin.port : echoPort
      const direct: Target = { name: 'direct', http: directPort, tcp: directPort, pids: [] }
      for (let round = 0; round < Number(values.rounds); round++) {
        for (const target of [...proxies.map(p => ({ ...p, pids: p.pids() })), direct]) {
          const go = () => one.load(target, Number(values.seconds))
          if (round === 0)
            await poll(async () => (await go()) ?? true, { timeoutMs: 60_000, what: target.name })
          const result = await go()
          if (result) runs.set(target.name, [...(runs.get(target.name) ?? []), result])
        }
      }
      report(one.name === 'bodies' ? '100 MB bodies (MB/s, us/MB)' : `echo, ${one.name}`, runs, proxies)
    }
  } finally {
    for (const proxy of proxies) await proxy.stop()
    server.kill('SIGTERM')
    await origin.stop()
    await removeSetting(setting)
  }
}

await main()
