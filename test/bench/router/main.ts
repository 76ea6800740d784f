// Ours beside bare HAProxy, nginx and Caddy, and the backend alone: rounds of one run each in turn, medians, and ratios
// to ours. `node test/bench/router/main.ts [--rounds 5] [--seconds 3] [--only keep-alive,tls,...]`.
import { parseArgs } from 'node:util'
import { table } from '../../../pkg/table/table.ts'
import { median } from '../stats.core.ts'
import { h2load, type Load, type Measured, wrk } from './load.ts'
import {
  type MeasuredProxy,
  makeSetting,
  removeSetting,
  type Setting,
  type Site,
  startCaddy,
  startHaproxy,
  startNginx,
  startOrigin,
  startOurs,
} from './proxies.ts'

type Case = {
  readonly name: string
  readonly sites: number
  readonly secure: boolean
  readonly load: (load: Load) => Promise<Measured>
  readonly fresh?: boolean
  /** Left out: they take minutes to start or fail. */
  readonly without?: readonly string[]
}

const connections = 64
const cases: readonly Case[] = [
  { name: 'keep-alive', sites: 1, secure: false, load: wrk },
  { name: 'new connections', sites: 1, secure: false, load: wrk, fresh: true },
  { name: 'tls keep-alive', sites: 1, secure: true, load: wrk },
  { name: 'tls handshakes', sites: 1, secure: true, load: wrk, fresh: true },
  { name: 'http2', sites: 1, secure: true, load: h2load },
  { name: '1000 routes', sites: 1_000, secure: false, load: wrk },
  { name: '10000 routes', sites: 10_000, secure: false, load: wrk },
]

/** Site n has the address 127.1.(n div 250).(n mod 250 + 1): a backend of its own for each. */
function sitesOf(count: number, port: number): readonly Site[] {
  return Array.from({ length: count }, (_, n) => ({
    host: `h${n}.bench.test`,
    addr: `127.1.${Math.floor(n / 250)}.${(n % 250) + 1}:${port}`,
  }))
}

export type Runs = Map<string, Measured[]>

export function report(name: string, runs: Runs, proxies: readonly MeasuredProxy[]): void {
  const of = (key: keyof Measured, proxy: string) => median((runs.get(proxy) ?? []).map(m => m[key]))
  const rows = [...runs.keys()].map(proxy => {
    const started = proxies.find(p => p.name === proxy)?.startMs
    const ratio = (key: 'perSecond' | 'cpuUs') => {
      const own = of(key, 'ours')
      const other = of(key, proxy)
      return proxy === 'direct' && key === 'cpuUs' ? '' : (own / other).toFixed(2)
    }
    return [
      proxy,
      of('perSecond', proxy).toFixed(0),
      ratio('perSecond'),
      proxy === 'direct' ? '' : of('cpuUs', proxy).toFixed(1),
      ratio('cpuUs'),
      of('p50Ms', proxy).toFixed(2),
      of('p99Ms', proxy).toFixed(1),
      proxy === 'direct' ? '' : of('memoryMb', proxy).toFixed(0),
      started === undefined ? '' : started.toFixed(0),
      String((runs.get(proxy) ?? []).reduce((sum, m) => sum + m.failed, 0)),
    ]
  })
  const head = [
    '',
    'req/s',
    'ours/it',
    'us/req',
    'ours/it',
    'p50 ms',
    'p99 ms',
    'RSS MB',
    'start ms',
    'failed',
  ]
  process.stdout.write(`\n${name}\n${table([head, ...rows])}\n`)
}

export async function startAll(setting: Setting, without: readonly string[]): Promise<MeasuredProxy[]> {
  const starts = { ours: startOurs, haproxy: startHaproxy, nginx: startNginx, caddy: startCaddy }
  const proxies: MeasuredProxy[] = []
  for (const [name, start] of Object.entries(starts)) {
    if (without.includes(name)) continue
    try {
      proxies.push(await start(setting))
    } catch (e) {
      process.stdout.write(`${name} did not start: ${e instanceof Error ? e.message : e}\n`)
    }
  }
  return proxies
}

async function measure(
  one: Case,
  setting: Setting,
  origin: number,
  proxies: readonly MeasuredProxy[],
  options: Options,
) {
  const hosts = setting.sites.map(s => s.host)
  const runs: Runs = new Map()
  const direct = { name: 'direct', url: `http://127.0.0.1:${origin}/`, pids: [] as readonly number[] }
  for (let round = 0; round < options.rounds; round++) {
    const targets = proxies.map(p => ({
      name: p.name,
      url: one.secure ? `https://127.0.0.1:${p.https}/` : `http://127.0.0.1:${p.http}/`,
      pids: p.pids(),
    }))
    for (const target of one.secure ? targets : [...targets, direct]) {
      const load = { connections, hosts, dir: setting.dir, fresh: one.fresh ?? false, ...target }
      await one.load({ ...load, seconds: 1 })
      const result = await one.load({ ...load, seconds: options.seconds })
      runs.set(target.name, [...(runs.get(target.name) ?? []), result])
    }
  }
  report(one.name, runs, proxies)
}

type Options = { readonly rounds: number; readonly seconds: number; readonly without: readonly string[] }

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      only: { type: 'string' },
      without: { type: 'string', default: '' },
    },
  })
  const options = {
    rounds: Number(values.rounds),
    seconds: Number(values.seconds),
    without: values.without.split(','),
  }
  const only = values.only?.split(',')
  const chosen = cases.filter(c => !only || only.includes(c.name))
  for (const sites of new Set(chosen.map(c => c.sites))) {
    const base = await makeSetting([])
    const origin = await startOrigin(base.dir)
    const setting = { ...base, sites: sitesOf(sites, origin.port) }
    const proxies = await startAll(setting, options.without)
    try {
      for (const one of chosen.filter(c => c.sites === sites))
        await measure(one, setting, origin.port, proxies, options)
    } finally {
      for (const proxy of proxies) await proxy.stop()
      await origin.stop()
      await removeSetting(setting)
    }
  }
}

if (import.meta.main) await main()
