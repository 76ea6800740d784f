// How long the CLI takes of its own: the time of a command less that of a bare node, run in turns, so that a busy
// machine weighs on both. `ps` asks a server on this machine over TLS with a pinned certificate, as it asks a cluster;
// the server answers at once, so what is measured is the CLI. Processor time stands beside wall time, because it is
// nearly the same however busy the machine is. `node test/bench/cli-start.ts [RUNS]`
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { renderConfig } from '../../cli/config.ts'
import { makeBundle } from '../../images/bundle.ts'
import { table } from '../../pkg/table/table.ts'
import { createClusterCertificate } from '../../pkg/tls/certificate.ts'
import { median, percentile } from './stats.core.ts'

/** Aim of issue 4: own time of `flynn version` and `flynn ps`. */
const aimMs = 80
const runsDefault = 20
const repository = fileURLToPath(new URL('../..', import.meta.url))

type Times = { readonly wallMs: number; readonly cpuMs: number }

/** bash's `times` ends with a line of the children's user and system time: 0m0.021s 0m0.004s. */
function childCpuMs(text: string): number {
  const [, ...parts] = /(\d+)m([\d.]+)s (\d+)m([\d.]+)s\s*$/.exec(text) ?? []
  const [userMinutes = 0, user = 0, systemMinutes = 0, system = 0] = parts.map(Number)
  return (userMinutes * 60 + user + systemMinutes * 60 + system) * 1000
}

async function timed(argv: readonly string[], env: Readonly<Record<string, string>>): Promise<Times> {
  const script = '"$@" >/dev/null || exit 1; times'
  const began = performance.now()
  const child = spawn('bash', ['--norc', '-c', script, 'bash', ...argv], {
    env: { PATH: process.env['PATH'] ?? '', HOME: tmpdir(), ...env },
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let text = ''
  child.stdout.on('data', chunk => {
    text += String(chunk)
  })
  const [code] = (await once(child, 'close')) as [number | null]
  if (code !== 0) throw new Error(`${argv.join(' ')} exited with ${code}`)
  return { wallMs: performance.now() - began, cpuMs: childCpuMs(text) }
}

async function main(): Promise<void> {
  const runs = Number(process.argv[2] ?? runsDefault)
  const dir = await mkdtemp(join(tmpdir(), 'flynn-cli-start-'))
  const made = await createClusterCertificate(['controller.bench.localhost'], new Date())
  const server = createServer({ cert: made.cert, key: made.private_key }, (_req, res) => {
    res.writeHead(200, { 'content-type': 'application/json' }).end('[]')
  })
  try {
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const { port } = server.address() as AddressInfo
    const bundle = join(dir, 'flynn')
    await makeBundle({ name: 'flynn', entry: 'cli/main.ts', split: true }, repository, bundle, 'v1')
    const nothing = join(dir, 'nothing.mjs')
    await writeFile(nothing, '')
    const url = `https://controller.bench.localhost:${port}`
    const cluster = {
      Name: 'bench',
      Key: 'k',
      TLSPin: made.pin,
      ControllerURL: url,
      GitURL: '',
      ImageURL: '',
    }
    const config = join(dir, 'flynnrc')
    await writeFile(config, renderConfig({ default: 'bench', clusters: [cluster] }))
    await measure(runs, { bundle: join(bundle, 'flynn.mjs'), nothing, config })
  } finally {
    server.closeAllConnections()
    server.close()
    await rm(dir, { recursive: true, force: true })
  }
}

type Files = { readonly bundle: string; readonly nothing: string; readonly config: string }

async function measure(runs: number, { bundle, nothing, config }: Files): Promise<void> {
  const commands = [
    { name: 'bare node', argv: [process.execPath, nothing] },
    { name: 'flynn version', argv: [process.execPath, bundle, 'version'] },
    { name: 'flynn help scale', argv: [process.execPath, bundle, 'help', 'scale'] },
    { name: 'flynn ps', argv: [process.execPath, bundle, '-a', 'hello', 'ps'] },
  ]
  const samples = commands.map((): Times[] => [])
  for (let run = 0; run < runs; run++)
    for (const [i, { argv }] of commands.entries()) samples[i]?.push(await timed(argv, { FLYNNRC: config }))
  const wall = samples.map(list => median(list.map(t => t.wallMs)))
  const cpu = samples.map(list => median(list.map(t => t.cpuMs)))
  const [bareWall = 0] = wall
  const [bareCpu = 0] = cpu
  const rows = commands.map(({ name }, i) => [
    name,
    (wall[i] ?? 0).toFixed(1),
    percentile(
      (samples[i] ?? []).map(t => t.wallMs),
      0.95,
    ).toFixed(1),
    i === 0 ? '' : ((wall[i] ?? 0) - bareWall).toFixed(1),
    i === 0 ? '' : ((cpu[i] ?? 0) - bareCpu).toFixed(1),
  ])
  const head = ['ms', 'median', 'p95', 'own wall', 'own processor']
  process.stdout.write(
    `${runs} runs of each, in turns; aim: own time below ${aimMs} ms\n\n${table([head, ...rows])}`,
  )
}

await main()
