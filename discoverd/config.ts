// Flags and environment of discoverd (contract discoverd.md 1). Flags keep the original's names, with one dash or two;
// their defaults come from the environment that a host gives its jobs, so the image needs no start wrapper.
import { parseArgs } from 'node:util'
import { normalisePeers, normaliseRecursors } from './config.core.ts'
import { errors } from './errors.ts'

export type Config = {
  readonly dataDir: string
  /** Advertised address of this host. */
  readonly host: string
  readonly listenHost: string
  readonly port: string
  /** `ip:port` of the configured peers. */
  readonly peers: readonly string[]
  readonly listedAsPeer: boolean
  /** Address DNS is served on at once; empty when it waits for the network or is off. */
  readonly dnsAddr: string
  readonly recursors: readonly string[]
  readonly notifyUrl: string
  readonly waitNetDns: boolean
  /** The local flynn-host. */
  readonly hostUrl: string
  readonly jobId: string
  /** Let etcd listen on 127.0.0.1 besides the host's address; off where several hosts share one loopback. */
  readonly etcdLoopback: boolean
  /** Asked of those who change the peers or end the daemon; undefined where the host gives none (tests). */
  readonly adminKey: string | undefined
}

const flagOptions = {
  'data-dir': { type: 'string' },
  host: { type: 'string' },
  addr: { type: 'string' },
  peers: { type: 'string' },
  'dns-addr': { type: 'string' },
  recursors: { type: 'string' },
  notify: { type: 'string' },
  'wait-net-dns': { type: 'string' },
  'host-url': { type: 'string' },
  'etcd-loopback': { type: 'string' },
} as const

type Env = Readonly<Record<string, string | undefined>>
type Flags = { readonly [Name in keyof typeof flagOptions]?: string }

function parseFlags(argv: readonly string[]): Flags {
  const args = argv.map(arg =>
    arg.replace(/^-(?=[a-z])/, '--').replace(/^--(wait-net-dns|etcd-loopback)$/, '--$1=true'),
  )
  try {
    return { ...parseArgs({ args, options: flagOptions, strict: true }).values }
  } catch (e) {
    throw errors.FLAG({ text: e instanceof Error ? e.message : String(e) }, { cause: e })
  }
}

function splitAddr(addr: string): { readonly host: string; readonly port: string } {
  const colon = addr.lastIndexOf(':')
  const port = addr.slice(colon + 1)
  if (colon < 0 || !/^\d+$/.test(port)) throw errors.FLAG({ text: `addr must be [ip]:port, not ${addr}` })
  return { host: addr.slice(0, colon).replace(/^\[|\]$/g, '') || '0.0.0.0', port }
}

/** Rejects with a text that names the flag. */
export function readConfig(argv: readonly string[], env: Env): Config {
  const flags = parseFlags(argv)
  const dataDir = flags['data-dir'] ?? '/data'
  const host = flags.host ?? env['EXTERNAL_IP'] ?? ''
  if (dataDir === '') throw errors.FLAG({ text: 'data directory required' })
  if (host === '') throw errors.FLAG({ text: 'host required' })
  const addr = splitAddr(flags.addr ?? `${env['LISTEN_IP'] ?? ''}:${env['PORT_0'] ?? '1111'}`)
  const peers = normalisePeers(flags.peers ?? env['DISCOVERD_PEERS'] ?? '', host, addr.port)
  if (typeof peers === 'string') throw errors.FLAG({ text: peers })
  const asJob = (env['EXTERNAL_IP'] ?? '') !== ''
  const hostUrl = flags['host-url'] ?? `http://${host}:1113`
  return {
    dataDir,
    host,
    listenHost: addr.host,
    port: addr.port,
    peers: peers.peers,
    listedAsPeer: peers.listed,
    dnsAddr: flags['dns-addr'] ?? '',
    recursors: normaliseRecursors(flags.recursors ?? ''),
    notifyUrl: flags.notify ?? (asJob ? `${hostUrl}/host/discoverd` : ''),
    waitNetDns: (flags['wait-net-dns'] ?? String(asJob && !flags['dns-addr'])) === 'true',
    hostUrl,
    jobId: env['FLYNN_JOB_ID'] ?? '',
    etcdLoopback: (flags['etcd-loopback'] ?? 'true') === 'true',
    adminKey: env['FLYNN_HOST_AUTH_KEY'] || undefined,
  }
}
