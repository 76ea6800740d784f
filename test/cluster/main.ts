// `npm run hosts`: test clusters by hand. Parsing is in args.ts, everything else in cluster.ts; this file only wires.
import { spawnSync } from 'node:child_process'
import { constants } from 'node:os'
import { describeError } from '../../pkg/errors/errors.ts'
import { type CommandLine, parseCommand, UsageError, usage } from './args.ts'
import { createCluster, openCluster, sweep, type TestCluster } from './cluster.ts'
import { enterArgv, hostEnv } from './host.ts'
import { clusterNames, readState } from './state.ts'

async function main({ cluster: name, command }: CommandLine): Promise<number> {
  switch (command.verb) {
    case 'help':
      process.stdout.write(usage)
      return 0
    case 'up': {
      const old = await openCluster(name)
      if (!command.fresh && old?.hosts.some(h => h.alive))
        throw new Error(`cluster ${name} is up: use --fresh to replace it, or --cluster for another`)
      print(await createCluster({ ...command, name, keep: true }))
      return 0
    }
    case 'list':
      for (const one of await clusterNames()) {
        const cluster = await openCluster(one)
        if (cluster) print(cluster)
        else process.stdout.write(`${one}  half removed: npm run hosts -- down --cluster ${one}\n`)
      }
      return 0
    case 'down':
      for (const one of command.all ? await clusterNames() : [name]) await sweep(one)
      return 0
    case 'exec':
      return attach(name, command.host, command.argv)
    case 'cut':
      await (await existing(name)).cut(command.a, command.b, { oneWay: command.oneWay })
      return 0
    case 'heal':
      await (await existing(name)).heal()
      return 0
    default: {
      const host = (await existing(name)).host(command.host)
      const verbs = { kill: host.powerOff, reboot: host.reboot, freeze: host.freeze, thaw: host.thaw }
      await verbs[command.verb]()
      return 0
    }
  }
}

async function existing(name: string): Promise<TestCluster> {
  const cluster = await openCluster(name)
  if (!cluster) throw new Error(`there is no cluster ${name}: make it with npm run hosts -- up`)
  return cluster
}

function print(cluster: TestCluster): void {
  process.stdout.write(`${cluster.name}  gateway ${cluster.gateway}\n`)
  for (const host of cluster.hosts)
    process.stdout.write(`  ${host.name}  ${host.address}  ${host.alive ? `up, pid ${host.pid}` : 'off'}\n`)
}

/** With this terminal; the exit code is the program's. */
async function attach(name: string, host: string, argv: readonly string[]): Promise<number> {
  const cluster = await existing(name)
  const index = cluster.hosts.indexOf(cluster.host(host)) + 1
  const state = await readState(name)
  if (!state) throw new Error(`cluster ${name} went away`)
  const [file = '', ...args] = enterArgv(state, index, argv)
  const env = { ...hostEnv, TERM: process.env['TERM'] ?? hostEnv.TERM }
  const { status, signal, error } = spawnSync(file, args, { stdio: 'inherit', env })
  if (error) throw error
  return status ?? 128 + (signal === null ? 0 : constants.signals[signal])
}

try {
  process.exitCode = await main(parseCommand(process.argv.slice(2)))
} catch (e) {
  if (e instanceof UsageError) process.stderr.write(`${e.message}\n\n${usage}`)
  else process.stderr.write(`${describeError(e)}\n`)
  process.exitCode = e instanceof UsageError ? 64 : 1
}
