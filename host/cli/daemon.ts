// `flynn-host daemon`: flags in, the daemon running until a signal (contract host.md 1.2).

import { mkdirSync } from 'node:fs'
import { dirname } from 'node:path'
import { parseArgs } from 'node:util'
import { createLogger } from '../../pkg/log/log.ts'
import { type DaemonFlags, daemonConfig, defaultJobConcurrency, readConfigFile } from '../config.ts'
import { startDaemon } from '../daemon.ts'
import { exitStatusOf } from '../exit.ts'
import { defaultPartitions } from '../job/defaults.core.ts'
import { operatorNeededStatus } from '../types.ts'
import { type Command, UsageError } from './command.ts'

const values = [
  'http-port',
  'external-ip',
  'listen-ip',
  'state',
  'sink-state',
  'id',
  'tags',
  'volpath',
  'vol-provider',
  'backend',
  'flynn-init',
  'log-dir',
  'log-file',
  'discovery',
  'discovery-service',
  'peer-ips',
  'bridge-name',
  'max-job-concurrency',
  'partitions',
  'init-log-level',
  'zpool-name',
  'auth-key',
]
const switches = ['force', 'no-resurrect', 'enable-dhcp']
/** Accepted, so that configurations of the original work; this daemon has no use for them. */
const ignored = ['state', 'sink-state', 'flynn-init', 'init-log-level', 'enable-dhcp']
/** A cluster inside of another Flynn. */
const notYet = ['discovery-service']

const options = Object.fromEntries([
  ...values.map(name => [name, { type: 'string' as const }]),
  ...switches.map(name => [name, { type: 'boolean' as const }]),
])

function parse(args: readonly string[]): DaemonFlags {
  try {
    return parseArgs({ args: [...args], options }).values as DaemonFlags
  } catch (e) {
    throw new UsageError(e instanceof Error ? e.message : String(e))
  }
}

export const daemonCommand: Command = {
  name: 'daemon',
  summary: 'Run the daemon of this host',
  usage: `usage: flynn-host daemon [options]

Run the daemon of this host until SIGTERM. Jobs live on when it ends. Exit code ${operatorNeededStatus} says that it cannot
start before an operator has done something, as the error says; after any other it may be started again.

Options:
  --http-port=PORT           port of the API [default: 1113]
  --external-ip=IP           address of this host; found out when not given
  --listen-ip=IP             address the API listens on; all when not given
  --id=ID                    name of this host [default: the host name without dashes]
  --tags=TAGS                tags of this host, k=v,k2=v2
  --force                    stop every job of before
  --volpath=PATH             directory of the volumes [default: /var/lib/flynn/volumes]
  --zpool-name=NAME          ZFS pool of the volumes [default: flynn-default]
  --log-dir=DIR              directory of the jobs' logs [default: /var/log/flynn]
  --log-file=FILE            log of the daemon [default: <log-dir>/flynn-host.log]
  --bridge-name=NAME         bridge of the jobs [default: flynnbr0]
  --no-resurrect             do not start the system jobs again after a power cut
  --max-job-concurrency=N    jobs that start at the same time [default: ${defaultJobConcurrency}]
  --partitions=PARTITIONS    [default: ${defaultPartitions}]
  --auth-key=KEY             key of the API; kept in /etc/flynn/auth-key, made when there is none
  --discovery=TOKEN          join the cluster of the hosts that use this token; needs their key (flynn-host init)
  --peer-ips=IPLIST          join the cluster of these hosts, comma separated; needs their key (flynn-host init)

Examples:
  flynn-host daemon --external-ip=192.0.2.10
  flynn-host daemon --peer-ips=192.0.2.10,192.0.2.11
`,
  positionals: { min: 0, max: 0 },
  options,
  async run({ raw }, context) {
    const file = readConfigFile(process.env)
    for (const [name, value] of Object.entries(file.env)) process.env[name] = value
    const argv = [...raw, ...file.args]
    const flags = parse(argv)
    const config = await daemonConfig(flags, argv, process.env)
    mkdirSync(dirname(config.paths.daemonLogFile), { recursive: true })
    const log = createLogger({ component: 'flynn-host', file: config.paths.daemonLogFile })
    for (const name of ignored) if (flags[name] !== undefined) log.warn({ flag: name }, 'flag has no effect')
    for (const name of notYet)
      if (flags[name] !== undefined)
        log.warn({ flag: name }, 'this way to find hosts is not there, use --discovery')
    const daemon = await startDaemon(config, log).catch((err: unknown) => {
      log.fatal({ err }, 'start failed')
      throw err
    })
    context.stdout.write(`flynn-host ${config.hostId} is ready on ${daemon.url}\n`)
    await new Promise<void>(resolve => {
      process.once('SIGTERM', () => resolve())
      process.once('SIGINT', () => resolve())
    })
    await daemon.close()
    return 0
  },
  // Flags come from the command line and the configuration file: both are an operator's.
  exitCodeOf: e => (e instanceof UsageError ? operatorNeededStatus : exitStatusOf(e)),
}
