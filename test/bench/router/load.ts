// One run of load against one proxy: wrk over HTTP/1.1, h2load over HTTP/2, pinned beside the backends; what the proxy's
// processes used meanwhile.
import { readdirSync, readFileSync } from 'node:fs'
import { writeFile } from 'node:fs/promises'
import { run } from '../../../pkg/proc/run.ts'
import { loadCpu } from './proxies.ts'

/** Of the kernel's clock in /proc. */
const ticksPerSecond = 100

export type Measured = {
  readonly perSecond: number
  /** Microseconds of processor time a request. */
  readonly cpuUs: number
  readonly p50Ms: number
  readonly p99Ms: number
  /** Answers other than 2xx and broken connections. */
  readonly failed: number
  readonly memoryMb: number
}

/** The processes and all below them. */
function family(pids: readonly number[]): readonly number[] {
  const children = new Map<number, number[]>()
  for (const name of readdirSync('/proc')) {
    if (!/^\d+$/.test(name)) continue
    const parent = Number(statOf(Number(name))[1])
    children.set(parent, [...(children.get(parent) ?? []), Number(name)])
  }
  const found: number[] = []
  const walk = (pid: number) => {
    found.push(pid)
    for (const child of children.get(pid) ?? []) walk(child)
  }
  for (const pid of pids) walk(pid)
  return found
}

/** Fields of /proc/pid/stat after the name: state first. */
function statOf(pid: number): readonly string[] {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'utf8')
    return text.slice(text.lastIndexOf(')') + 2).split(' ')
  } catch {
    return []
  }
}

function cpuSeconds(pids: readonly number[]): number {
  const ticks = family(pids).map(pid => {
    const stat = statOf(pid)
    return Number(stat[11] ?? 0) + Number(stat[12] ?? 0)
  })
  return ticks.reduce((a, b) => a + b, 0) / ticksPerSecond
}

export function memoryMb(pids: readonly number[]): number {
  const pages = family(pids).map(pid => Number(statOf(pid)[21] ?? 0))
  return (pages.reduce((a, b) => a + b, 0) * 4096) / 1e6
}

export type Load = {
  readonly url: string
  readonly seconds: number
  readonly connections: number
  /** Asked for at random. */
  readonly hosts: readonly string[]
  readonly pids: readonly number[]
  readonly dir: string
  /** A connection for each request. */
  readonly fresh?: boolean
}

export async function pinned(argv: readonly string[], seconds: number): Promise<string> {
  const { stdout, stderr } = await run(['taskset', '-c', String(loadCpu), ...argv], {
    timeoutMs: (seconds + 60) * 1000,
  })
  return `${stdout}\n${stderr}`
}

export async function measured(
  load: Pick<Load, 'pids'>,
  work: () => Promise<{ requests: number; failed: number; p50Ms: number; p99Ms: number; perSecond: number }>,
): Promise<Measured> {
  const before = cpuSeconds(load.pids)
  const { requests, failed, p50Ms, p99Ms, perSecond } = await work()
  const used = cpuSeconds(load.pids) - before
  return {
    perSecond,
    cpuUs: (used / Math.max(requests, 1)) * 1e6,
    p50Ms,
    p99Ms,
    failed,
    memoryMb: memoryMb(load.pids),
  }
}

function milliseconds(text: string | undefined): number {
  const parts = /^([\d.]+)(us|ms|s)$/.exec(text ?? '')
  const factor = { us: 0.001, ms: 1, s: 1000 }[parts?.[2] ?? 'ms'] ?? 1
  return Number(parts?.[1] ?? 0) * factor
}

/** HTTP/1.1 by wrk, one thread. */
export async function wrk(load: Load): Promise<Measured> {
  const script = `${load.dir}/load.lua`
  const hosts = load.hosts.map(h => `"${h}"`).join(',')
  const close = load.fresh ? ', ["Connection"] = "close"' : ''
  await writeFile(
    script,
    `local hosts = {${hosts}}
local requests = {}
init = function() for i, h in ipairs(hosts) do requests[i] = wrk.format("GET", "/", { ["Host"] = h${close} }) end end
request = function() return requests[math.random(#requests)] end
`,
  )
  return measured(load, async () => {
    const args = ['-t1', `-c${load.connections}`, `-d${load.seconds}s`, '--latency', '-s', script, load.url]
    const text = await pinned(['wrk', ...args], load.seconds)
    const value = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0)
    const errors = /Socket errors: connect (\d+), read (\d+), write (\d+), timeout (\d+)/.exec(text)
    return {
      requests: value(/(\d+) requests in/),
      perSecond: value(/Requests\/sec:\s+([\d.]+)/),
      failed:
        value(/Non-2xx or 3xx responses: (\d+)/) +
        [1, 2, 3, 4].reduce((sum, i) => sum + Number(errors?.[i] ?? 0), 0),
      p50Ms: milliseconds(/50%\s+(\S+)/.exec(text)?.[1]),
      p99Ms: milliseconds(/99%\s+(\S+)/.exec(text)?.[1]),
    }
  })
}

/** HTTP/2 by h2load: 8 connections of 16 streams. */
export async function h2load(load: Load): Promise<Measured> {
  const host = load.hosts[0] ?? ''
  return measured(load, async () => {
    const args = ['-t1', '-c8', '-m16', '-D', String(load.seconds), '-H', `:authority: ${host}`, load.url]
    const text = await pinned(['h2load', ...args], load.seconds)
    const value = (pattern: RegExp) => Number(pattern.exec(text)?.[1] ?? 0)
    const requests = value(/(\d+) succeeded/)
    return {
      requests,
      perSecond: requests / load.seconds,
      failed: value(/(\d+) failed/) + value(/, (\d+) 4xx/) + value(/, (\d+) 5xx/),
      p50Ms: milliseconds(/time for request:\s+\S+\s+\S+\s+(\S+)/.exec(text)?.[1]),
      p99Ms: 0,
    }
  })
}
