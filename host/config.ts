// The daemon's configuration: command line, configuration file, environment, and what is found out about the machine
// (contract host.md 1.2). Wrong values are refused here, so that the daemon can trust what it gets.
import { chmodSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { hostname, networkInterfaces } from 'node:os'
import { dirname } from 'node:path'
import { errorTable } from '../pkg/errors/errors.ts'
import { randomHex } from '../pkg/ids/ids.ts'
import { runJson } from '../pkg/proc/run.ts'
import { defaultPartitions, type Partitions } from './job/defaults.core.ts'
import { type HostPaths, hostPaths } from './paths.ts'
import { parseTags } from './tags.ts'
import { hostApiPort, type Tags } from './types.ts'

export const configErrors = errorTable({
  HOST_ID: {
    status: 400,
    message: 'the host ID "{id}" is not valid',
    remedy: 'give one with --id: letters and digits, no dash',
  },
  CONFIG_FILE: {
    status: 400,
    message: 'the configuration file {file} cannot be used: {reason}',
    remedy: 'write a new one with: flynn-host init',
  },
  PARTITIONS: {
    status: 400,
    message: 'the partitions "{text}" are not valid: {reason}',
    remedy: `write them like: ${defaultPartitions}`,
  },
  NO_ADDRESS: {
    status: 500,
    message: 'the address of this host was not found out',
    remedy: 'give it with --external-ip',
  },
  JOIN_KEY: {
    status: 400,
    message: 'the join key is not usable: it must have at least {min} characters and no blanks',
    remedy: 'copy the line that flynn-host init printed on the first host',
  },
  UNSUPPORTED: { status: 400, message: '{flag} {value} is not supported', remedy: '{remedy}' },
})

export type DaemonConfig = {
  readonly hostId: string
  readonly externalIp: string
  /** Empty: all interfaces. */
  readonly listenIp: string
  readonly httpPort: number
  readonly tags: Tags
  readonly partitions: Partitions
  readonly jobConcurrencyMax: number
  readonly resurrect: boolean
  /** Stop every job of before. */
  readonly force: boolean
  readonly authKey: string | undefined
  /** Addresses of hosts of the cluster to join; empty for a host that is its own cluster until bootstrap says more. */
  readonly peerIps: readonly string[]
  /** URL of a discovery token. */
  readonly discovery: string | undefined
  readonly paths: HostPaths
  /** Arguments as given, for `flags` of the status. */
  readonly flags: readonly string[]
}

export const defaultJobConcurrency = 4
const jobConcurrencyMaxMax = 64
const cpuSharesMin = 2

/** Options of `flynn-host daemon`, parsed but not judged. */
export type DaemonFlags = Readonly<Record<string, string | boolean | undefined>>

/** `name=cpu_shares:N ...` with all three names (contract host.md 1.2). */
export function parsePartitions(text: string): Partitions {
  const partitions: Record<string, { cpuShares: number }> = {}
  for (const item of text.split(/\s+/).filter(s => s !== '')) {
    const match = /^([a-z][a-z0-9_]*)=cpu_shares:(\d+)$/.exec(item)
    const shares = Number(match?.[2])
    if (!match?.[1] || shares < cpuSharesMin)
      throw configErrors.PARTITIONS({ text, reason: `"${item}" is not name=cpu_shares:N with N >= 2` })
    partitions[match[1]] = { cpuShares: shares }
  }
  for (const name of ['system', 'background', 'user'])
    if (!Object.hasOwn(partitions, name))
      throw configErrors.PARTITIONS({ text, reason: `${name} is missing` })
  return partitions
}

/** The file's arguments and environment. A missing file is fatal only when it was named (contract host.md 1.2). */
export function readConfigFile(env: NodeJS.ProcessEnv): {
  args: readonly string[]
  env: Record<string, string>
} {
  const named = env['FLYNN_HOST_CONFIG']
  const file = named || hostPaths().configFile
  if (!named && !existsSync(file)) return { args: [], env: {} }
  try {
    const value = JSON.parse(readFileSync(file, 'utf8')) as { args?: unknown; env?: unknown }
    const args = Array.isArray(value.args) ? value.args.map(String) : []
    return { args, env: (value.env ?? {}) as Record<string, string> }
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw configErrors.CONFIG_FILE({ file, reason }, { cause })
  }
}

type Route = {
  readonly dst: string
  readonly dev: string
  readonly metric?: number
  readonly prefsrc?: string
}

/** First global IPv4 of the interface that holds the default route, else of any that is not a bridge of ours. */
export async function findExternalIp(bridge: string): Promise<string> {
  const routes = await runJson<Route[]>(['ip', '-4', '-j', 'route', 'show', 'default'])
  const [best] = routes.sort((a, b) => (a.metric ?? 0) - (b.metric ?? 0))
  const interfaces = Object.entries(networkInterfaces())
  const usable = ([name, list = []]: (typeof interfaces)[number]) =>
    name === bridge || name.startsWith('flynn')
      ? []
      : list.filter(a => a.family === 'IPv4' && !a.internal && !a.address.startsWith('169.254.'))
  const onDefault = interfaces.filter(([name]) => name === best?.dev).flatMap(usable)
  const address = best?.prefsrc ?? (onDefault.length > 0 ? onDefault : interfaces.flatMap(usable))[0]?.address
  if (!address) throw configErrors.NO_ADDRESS()
  return address
}

function textFlag(flags: DaemonFlags, name: string): string | undefined {
  const value = flags[name]
  return typeof value === 'string' && value !== '' ? value : undefined
}

export async function daemonConfig(
  flags: DaemonFlags,
  argv: readonly string[],
  env: NodeJS.ProcessEnv,
): Promise<DaemonConfig> {
  const only = (name: string, accepted: string, remedy: string) => {
    const value = textFlag(flags, name)
    if (value !== undefined && value !== accepted)
      throw configErrors.UNSUPPORTED({ flag: `--${name}`, value, remedy })
  }
  only('vol-provider', 'zfs', 'volumes are on ZFS')
  only('backend', 'containerd', 'containers run on containerd')
  const hostId = textFlag(flags, 'id') ?? hostname().replaceAll('-', '')
  if (!/^[A-Za-z0-9]+(?:[._][A-Za-z0-9]+)*$/.test(hostId) || hostId.length > 39)
    throw configErrors.HOST_ID({ id: hostId })
  const volumesDir = textFlag(flags, 'volpath')
  const logDir = textFlag(flags, 'log-dir')
  const base = hostPaths({
    ...(volumesDir === undefined ? {} : { volumesDir }),
    ...(logDir === undefined ? {} : { logDir }),
  })
  const paths: HostPaths = {
    ...base,
    bridge: textFlag(flags, 'bridge-name') ?? base.bridge,
    zpool: textFlag(flags, 'zpool-name') ?? base.zpool,
    daemonLogFile: textFlag(flags, 'log-file') ?? base.daemonLogFile,
  }
  const concurrency = Number(textFlag(flags, 'max-job-concurrency'))
  return {
    hostId,
    externalIp: textFlag(flags, 'external-ip') ?? (await findExternalIp(paths.bridge)),
    listenIp: textFlag(flags, 'listen-ip') ?? '',
    httpPort: Number(textFlag(flags, 'http-port')) || hostApiPort,
    tags: parseTags(textFlag(flags, 'tags') ?? ''),
    partitions: parsePartitions(textFlag(flags, 'partitions') ?? defaultPartitions),
    jobConcurrencyMax:
      Number.isInteger(concurrency) && concurrency > 0
        ? Math.min(concurrency, jobConcurrencyMaxMax)
        : defaultJobConcurrency,
    resurrect: flags['no-resurrect'] !== true,
    force: flags['force'] === true,
    authKey: textFlag(flags, 'auth-key') ?? (env['FLYNN_HOST_AUTH_KEY'] || undefined),
    discovery: textFlag(flags, 'discovery'),
    peerIps: (textFlag(flags, 'peer-ips') ?? '')
      .split(',')
      .map(ip => ip.trim())
      .filter(ip => ip !== ''),
    paths,
    flags: withoutSecrets(argv),
  }
}

/** The status shows the arguments to everybody. */
function withoutSecrets(argv: readonly string[]): readonly string[] {
  return argv.map((arg, i) => {
    if (arg.startsWith('--auth-key=')) return '--auth-key=(hidden)'
    return argv[i - 1] === '--auth-key' ? '(hidden)' : arg
  })
}

/** The key that this host keeps; undefined before its first start or `init`. */
export function keptKey(paths: HostPaths): string | undefined {
  const { authKeyFile } = paths
  return existsSync(authKeyFile) ? readFileSync(authKeyFile, 'utf8').trim() || undefined : undefined
}

/** The host key: given, else kept, else made now; kept in a file only root reads (docs/wiring.md "Keys"). */
export function hostKey(paths: HostPaths, given: string | undefined): string {
  const file = paths.authKeyFile
  const kept = keptKey(paths)
  const key = given ?? kept ?? randomHex(32)
  if (key !== kept) {
    mkdirSync(dirname(file), { recursive: true })
    writeFileSync(file, `${key}\n`, { mode: 0o600 })
  }
  chmodSync(file, 0o600)
  return key
}
