// The members of the etcd cluster as the rest of the platform names them: `ip:port` of the discoverd beside each. Keeps
// the client's member addresses current, so that daemons survive changes of the peer set. Contract discoverd.md 10.
import { readFile, rename, writeFile } from 'node:fs/promises'
import { sleep } from '../pkg/clock/clock.ts'
import type { EtcdClient, EtcdMember } from '../pkg/etcd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import { errors } from './errors.ts'

export const refreshMs = 10_000
export const firstRefreshMs = 500
/** Members last heard of; its presence says that this host has been part of a cluster. */
export const membersFileName = 'members.json'

const hostOf = (url: string) => new URL(url).hostname.replace(/^\[|\]$/g, '')
const hostPort = (url: string) => new URL(url).host

/** Client addresses of started voters (a learner answers no reads), the nearest (ours) first. */
export function clientEndpoints(members: readonly EtcdMember[], nearest: string): readonly string[] {
  const all = members.flatMap(m => (m.clientUrls[0] && !m.isLearner ? [hostPort(m.clientUrls[0])] : []))
  return all.includes(nearest) ? [nearest, ...all.filter(e => e !== nearest)] : all
}

/** What an earlier run learned of the members; empty when there was none. */
export async function rememberedEndpoints(file: string): Promise<readonly string[]> {
  try {
    const value: unknown = JSON.parse(await readFile(file, 'utf8'))
    return Array.isArray(value) ? value.filter(v => typeof v === 'string') : []
  } catch {
    // A first start, or a file cut short by a power failure: the configured peers do.
    return []
  }
}

export class Peers {
  readonly #etcd: EtcdClient
  readonly #port: string
  readonly #nearest: string
  readonly #file: string
  readonly #log: Logger
  #members: readonly EtcdMember[] = []
  /** Written in this life: the file also says that there is a cluster. */
  #kept = false

  constructor(options: {
    readonly etcd: EtcdClient
    /** Port of discoverd, the same on all hosts. */
    readonly port: string
    /** `ip:2379` of this host, whether or not a member is there. */
    readonly nearest: string
    readonly file: string
    readonly log: Logger
  }) {
    this.#etcd = options.etcd
    this.#port = options.port
    this.#nearest = options.nearest
    this.#file = options.file
    this.#log = options.log
  }

  #addr(member: EtcdMember): string {
    const host = hostOf(member.peerUrls[0] ?? 'http://unknown')
    return host.includes(':') ? `[${host}]:${this.#port}` : `${host}:${this.#port}`
  }

  /** `ip:port` of the voting peers as last known. */
  get addresses(): readonly string[] {
    return this.#members.filter(m => !m.isLearner).map(m => this.#addr(m))
  }

  async refresh(): Promise<void> {
    const members = await this.#etcd.members({ timeoutMs: 2_000 })
    const before = JSON.stringify(this.#etcd.endpoints)
    this.#members = members
    const endpoints = clientEndpoints(members, this.#nearest)
    if (endpoints.length === 0 || (JSON.stringify(endpoints) === before && this.#kept)) return
    this.#etcd.setEndpoints(endpoints)
    await writeFile(`${this.#file}.new`, JSON.stringify(endpoints))
    await rename(`${this.#file}.new`, this.#file)
    this.#kept = true
    this.#log.info({ endpoints }, 'etcd members changed')
  }

  /** Refreshes until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    while (!signal.aborted) {
      try {
        await this.refresh()
      } catch (e) {
        this.#log.debug({ err: e }, 'etcd members unknown for now')
      }
      const pauseMs = this.#members.length === 0 ? firstRefreshMs : refreshMs
      await sleep(pauseMs, signal).catch(() => undefined)
    }
  }

  async list(): Promise<readonly string[]> {
    try {
      await this.refresh()
    } catch (e) {
      if (this.#members.length === 0) throw errors.NO_LEADER({}, { cause: e })
    }
    return this.addresses
  }

  /** `ip:port` of the leader's discoverd; rejects with NO_LEADER during elections and without a majority. */
  async leader(): Promise<string> {
    for (const endpoint of this.#etcd.endpoints) {
      const status = await this.#etcd.status(endpoint).catch(() => undefined)
      if (status?.leaderId === undefined) continue
      if (!this.#members.some(m => m.id === status.leaderId)) await this.refresh().catch(() => undefined)
      const member = this.#members.find(m => m.id === status.leaderId)
      if (member) return this.#addr(member)
    }
    throw errors.NO_LEADER()
  }
}
