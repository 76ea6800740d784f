// What well-behaved clients of other routes notice while somebody means harm: ours, bare HAProxy, nginx and Caddy in turn,
// load on one route, and thousands of silent connections, heads that never end, or a flood of malformed requests beside it.
// `node test/bench/router/hostile.ts [--rounds 5] [--seconds 3] [--connections 4000] [--without caddy,nginx]`.
import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { parseArgs } from 'node:util'
import { run } from '../../../pkg/proc/run.ts'
import { wrk } from './load.ts'
import { type Runs, report, startAll } from './main.ts'
import { loadCpu, makeSetting, removeSetting, startOrigin } from './proxies.ts'

const openAtOnce = 100
const trickleMs = 1_000
const floodConnections = 16
const wellBehavedConnections = 64
const malformed =
  'POST / HTTP/1.1\r\nHost: h0.bench.test\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nhello'

/** Ends the attack. */
type End = () => void
type Attack = (port: number, connections: number) => Promise<End>

async function open(port: number, count: number, send: string): Promise<Socket[]> {
  const sockets: Socket[] = []
  while (sockets.length < count) {
    const some = Array.from({ length: Math.min(openAtOnce, count - sockets.length) }, async () => {
      const socket = connect(port, '127.0.0.1')
      socket.on('error', () => undefined)
      await once(socket, 'connect')
      if (send) socket.write(send)
      return socket
    })
    sockets.push(...(await Promise.all(some)))
  }
  return sockets
}

const destroyAll = (sockets: readonly Socket[]) => {
  for (const socket of sockets) socket.destroy()
}

/** One connection after another that sends nonsense and waits for the answer. */
function flood(port: number): End {
  let stopped = false
  const next = () => {
    if (stopped) return
    const socket = connect(port, '127.0.0.1', () => socket.write(malformed))
    socket.on('data', () => socket.destroy())
    socket.on('error', () => undefined)
    socket.on('close', next)
  }
  for (let n = 0; n < floodConnections; n++) next()
  return () => {
    stopped = true
  }
}

const attacks: Readonly<Record<string, Attack>> = {
  none: async () => () => undefined,
  'silent connections': async (port, count) => {
    const sockets = await open(port, count, '')
    return () => destroyAll(sockets)
  },
  'heads that never end': async (port, count) => {
    const sockets = await open(port, count, 'GET / HTTP/1.1\r\nHost: h0.bench.test\r\n')
    let n = 0
    const timer = setInterval(() => {
      for (const socket of sockets) if (socket.writable) socket.write(`X-${n}: y\r\n`)
      n++
    }, trickleMs)
    return () => {
      clearInterval(timer)
      destroyAll(sockets)
    }
  },
  'malformed requests': async port => flood(port),
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: 'string', default: '5' },
      seconds: { type: 'string', default: '3' },
      connections: { type: 'string', default: '4000' },
      without: { type: 'string', default: '' },
    },
  })
  const [rounds, seconds, count] = [values.rounds, values.seconds, values.connections].map(Number)
  // The attackers are load, too.
  await run(['taskset', '-a', '-c', '-p', String(loadCpu), String(process.pid)])
  const base = await makeSetting([])
  const origin = await startOrigin(base.dir)
  const sites = ['h0', 'h1'].map((h, n) => ({
    host: `${h}.bench.test`,
    addr: `127.1.0.${n + 1}:${origin.port}`,
  }))
  const setting = { ...base, sites }
  const proxies = await startAll(setting, values.without.split(','))
  try {
    for (const [name, attack] of Object.entries(attacks)) {
      const runs: Runs = new Map()
      for (let round = 0; round < (rounds ?? 0); round++)
        for (const proxy of proxies) {
          const end = await attack(proxy.http, count ?? 0)
          const load = { connections: wellBehavedConnections, hosts: ['h1.bench.test'], dir: setting.dir }
          const url = `http://127.0.0.1:${proxy.http}/`
          const measured = await wrk({ ...load, url, pids: proxy.pids(), seconds: seconds ?? 0 })
          end()
          runs.set(proxy.name, [...(runs.get(proxy.name) ?? []), measured])
        }
      report(name, runs, proxies)
    }
  } finally {
    for (const proxy of proxies) await proxy.stop()
    await origin.stop()
    await removeSetting(setting)
  }
}

await main()
