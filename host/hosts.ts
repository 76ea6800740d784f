// The hosts of the cluster as this one knows them: records in etcd, remembered in SQLite. A host that showed the join key is
// admitted at once and told to the others through etcd; the packet rules let in the addresses known here and no others.
// Called by daemon.ts; join.ts admits.
import { type Static, Type } from 'typebox'
import { Value } from 'typebox/value'
import { sleep } from '../pkg/clock/clock.ts'
import type { EtcdClient, KeyValue } from '../pkg/etcd/client.ts'
import type { Logger } from '../pkg/log/log.ts'
import type { HostDatabase } from './database.ts'

export const hostPrefix = '/flynn/hosts/'
/** A key for each host that was removed: it is not let in again as the member that it was. */
export const removedPrefix = '/flynn/removed-hosts/'
/** How often records that etcd has not taken yet are offered again. */
export const recordRetryMs = 1_000
const settingKey = 'hosts'
const seenKey = 'hosts_seen'
const removedKey = 'hosts_removed'

export const HostRecord = Type.Object({
  id: Type.String(),
  /** Address of the host, without a port. */
  address: Type.String(),
  version: Type.String(),
})
export type HostRecord = Static<typeof HostRecord>

function parseRecord(kv: Pick<KeyValue, 'value'>): HostRecord | undefined {
  try {
    const value: unknown = JSON.parse(kv.value.toString())
    return Value.Check(HostRecord, value) ? value : undefined
  } catch {
    // Nobody's record; the caller says so.
    return undefined
  }
}

/** Addresses of the other hosts that an earlier daemon knew. */
export function rememberedHosts(database: HostDatabase, self: string): readonly string[] {
  const records = database.getSetting<readonly HostRecord[]>(settingKey) ?? []
  return records.filter(r => r.id !== self).map(r => r.address)
}

export type HostsOptions = {
  readonly self: HostRecord
  readonly database: HostDatabase
  readonly etcd: EtcdClient
  /** All known addresses, this host's own among them, first and after each change. */
  readonly onAddresses: (addresses: readonly string[]) => void
  /** It has never been a member: a note that it was removed, found at its first look, tells of an earlier life. */
  readonly isNew?: boolean
  /** Somebody removed this host. */
  readonly onRemoved?: () => void
  readonly log: Logger
}

export class Hosts {
  readonly #o: HostsOptions
  readonly #records = new Map<string, HostRecord>()
  /** Not in etcd yet. */
  readonly #untold = new Map<string, HostRecord>()
  /** Have been in etcd: when they are there no more, somebody removed them. The others may only not be there yet. */
  readonly #seen: Set<string>
  readonly #removed: Set<string>
  /** A note about an earlier life of this host is in etcd still: the host that let it in had not heard of it. */
  #staleNote = false
  #looked = false

  constructor(options: HostsOptions) {
    this.#o = options
    this.#seen = new Set(options.database.getSetting<readonly string[]>(seenKey) ?? [])
    this.#removed = new Set(options.database.getSetting<readonly string[]>(removedKey) ?? [])
    for (const record of options.database.getSetting<readonly HostRecord[]>(settingKey) ?? [])
      this.#records.set(record.id, record)
    this.#records.set(options.self.id, options.self)
    this.#untold.set(options.self.id, options.self)
  }

  /** This host among them. */
  get list(): readonly HostRecord[] {
    return [...this.#records.values()]
  }

  get(id: string): HostRecord | undefined {
    return this.#records.get(id)
  }

  /** A host of the cluster: known here at once, and to all others as soon as etcd takes it. */
  admit(record: HostRecord): void {
    const known = this.#records.get(record.id)
    if (known && JSON.stringify(known) === JSON.stringify(record)) return
    this.#o.log.info({ host: record }, 'a host of the cluster')
    this.#records.set(record.id, record)
    this.#untold.set(record.id, record)
    this.#changed()
  }

  /** Hosts that another host told about: known, and not for us to announce. */
  learn(records: readonly HostRecord[]): void {
    const fresh = records.filter(r => !this.#records.has(r.id))
    for (const record of fresh) this.#records.set(record.id, record)
    if (fresh.length > 0) this.#changed()
  }

  isRemoved(id: string): boolean {
    return this.#removed.has(id)
  }

  /** Takes a host out for good. Rejects while etcd has no majority; repeatable. */
  async forget(id: string): Promise<void> {
    const value = JSON.stringify({ id, at: new Date().toISOString() })
    await this.#o.etcd.put(removedPrefix + id, value)
    await this.#o.etcd.delete(hostPrefix + id)
    this.#removed.add(id)
    this.#drop(id)
    this.#changed()
  }

  /** A host of that name comes as a new one. */
  async readmit(id: string): Promise<void> {
    await this.#o.etcd.delete(removedPrefix + id)
    this.#removed.delete(id)
    this.#changed()
  }

  /** Tells what is known now. */
  begin(): void {
    this.#changed()
  }

  /** Follows the records and tells its own until the signal aborts. */
  async run(signal: AbortSignal): Promise<void> {
    await Promise.all([this.#tell(signal), this.#follow(signal), this.#followRemoved(signal)])
  }

  #changed(): void {
    const { database, onAddresses } = this.#o
    database.setSetting(settingKey, this.list)
    database.setSetting(seenKey, [...this.#seen])
    database.setSetting(removedKey, [...this.#removed])
    onAddresses(this.list.map(r => r.address))
  }

  #drop(id: string): void {
    this.#seen.delete(id)
    if (id !== this.#o.self.id && !this.#untold.has(id)) this.#records.delete(id)
  }

  async #followRemoved(signal: AbortSignal): Promise<void> {
    const { etcd, self, onRemoved } = this.#o
    const removed = (key: string) => {
      const id = key.slice(removedPrefix.length)
      this.#removed.add(id)
      this.#untold.delete(id)
      this.#drop(id)
      if (id === self.id) onRemoved?.()
    }
    await etcd.watch(
      removedPrefix,
      {
        onListing: listing => {
          this.#removed.clear()
          const own = (kv: Pick<KeyValue, 'key'>) => kv.key === removedPrefix + self.id
          this.#staleNote = this.#o.isNew === true && !this.#looked && listing.kvs.some(own)
          this.#looked = true
          for (const kv of listing.kvs) if (!(this.#staleNote && own(kv))) removed(kv.key)
          this.#changed()
        },
        onChanges: changes => {
          for (const change of changes) {
            if (change.type === 'put') removed(change.key)
            else this.#removed.delete(change.key.slice(removedPrefix.length))
          }
          this.#changed()
        },
      },
      signal,
    )
  }

  async #tell(signal: AbortSignal): Promise<void> {
    const { etcd, self, log } = this.#o
    while (!signal.aborted) {
      try {
        if (this.#staleNote) {
          await this.readmit(self.id)
          this.#staleNote = false
          // Who read the note after the record has dropped the record.
          this.#untold.set(self.id, self)
        }
      } catch (err) {
        if (signal.aborted) return
        log.debug({ err }, 'note of an earlier life not taken back yet')
      }
      for (const [id, record] of this.#untold) {
        try {
          await etcd.put(hostPrefix + id, JSON.stringify(record), { signal })
          if (this.#untold.get(id) === record) this.#untold.delete(id)
        } catch (err) {
          if (signal.aborted) return
          log.debug({ err }, 'host record not told yet')
        }
      }
      await sleep(recordRetryMs, signal).catch(() => undefined)
    }
  }

  async #follow(signal: AbortSignal): Promise<void> {
    const { etcd, log, self } = this.#o
    const put = (kv: Pick<KeyValue, 'key' | 'value'>) => {
      const record = parseRecord(kv)
      if (!record) {
        log.warn({ key: kv.key }, 'a host record cannot be read')
        return
      }
      this.#seen.add(record.id)
      // What this host says of itself, and of those it has let in since, is newer.
      if (!this.#untold.has(record.id) && record.id !== self.id) this.#records.set(record.id, record)
    }
    await etcd.watch(
      hostPrefix,
      {
        onListing: listing => {
          const told = new Set(listing.kvs.map(kv => kv.key.slice(hostPrefix.length)))
          for (const id of [...this.#seen]) if (!told.has(id)) this.#drop(id)
          for (const kv of listing.kvs) put(kv)
          this.#changed()
        },
        onChanges: changes => {
          for (const change of changes) {
            if (change.type === 'put') put(change)
            else this.#drop(change.key.slice(hostPrefix.length))
          }
          this.#changed()
        },
      },
      signal,
    )
  }
}
