// Maps whose versions share what did not change, so that a step over fifty thousand jobs copies the few that it writes.
// A fork sees what its origin holds; a write to one is never seen by the other. Used by the scheduler's state.

/** Entries that are copied together on the first write to one of them. */
export const shardEntriesMax = 64
const shardGrowth = 8

/** What may be done with a table that belongs to a state: reading, and forking for the next one. */
export interface ReadonlyTable<V> extends ReadonlyMap<string, V> {
  fork(): Table<V>
}

/** FNV-1a over the characters of the key. */
function hash(key: string): number {
  let h = 0x811c9dc5
  for (let i = 0; i < key.length; i++) h = Math.imul(h ^ key.charCodeAt(i), 0x01000193)
  // The low bits choose the shard: let the high ones take part.
  return (h ^ (h >>> 15)) >>> 0
}

/** Up to `shardEntriesMax` entries are in the order in which they came; more are in an order of their keys. */
export class Table<V> implements ReadonlyTable<V> {
  #shards: Map<string, V>[]
  #size: number
  /** Shards that only this table holds; undefined while it shares even the list of them. */
  #own: Set<number> | undefined

  constructor(origin?: Table<V>) {
    this.#shards = origin === undefined ? [new Map()] : origin.#shards
    this.#size = origin === undefined ? 0 : origin.#size
  }

  fork(): Table<V> {
    this.#own = undefined
    return new Table(this)
  }

  get size(): number {
    return this.#size
  }

  #shardOf(key: string): number {
    return this.#shards.length === 1 ? 0 : hash(key) & (this.#shards.length - 1)
  }

  get(key: string): V | undefined {
    return this.#shards[this.#shardOf(key)]?.get(key)
  }

  has(key: string): boolean {
    return this.#shards[this.#shardOf(key)]?.has(key) === true
  }

  #writable(index: number): Map<string, V> {
    if (this.#own === undefined) {
      this.#shards = [...this.#shards]
      this.#own = new Set()
    }
    const shard = this.#shards[index] ?? new Map<string, V>()
    if (this.#own.has(index)) return shard
    const copy = new Map(shard)
    this.#shards[index] = copy
    this.#own.add(index)
    return copy
  }

  set(key: string, value: V): this {
    const shard = this.#writable(this.#shardOf(key))
    const before = shard.size
    shard.set(key, value)
    this.#size += shard.size - before
    if (this.#size > this.#shards.length * shardEntriesMax) this.#grow()
    return this
  }

  delete(key: string): boolean {
    if (!this.has(key)) return false
    this.#writable(this.#shardOf(key)).delete(key)
    this.#size -= 1
    return true
  }

  #grow(): void {
    const before = this.#shards
    this.#shards = Array.from({ length: before.length * shardGrowth }, () => new Map<string, V>())
    this.#own = new Set(this.#shards.keys())
    for (const shard of before)
      for (const [key, value] of shard) this.#shards[this.#shardOf(key)]?.set(key, value)
  }

  *entries(): Generator<[string, V], undefined> {
    for (const shard of this.#shards) yield* shard
    return undefined
  }

  *keys(): Generator<string, undefined> {
    for (const shard of this.#shards) yield* shard.keys()
    return undefined
  }

  *values(): Generator<V, undefined> {
    for (const shard of this.#shards) yield* shard.values()
    return undefined
  }

  [Symbol.iterator](): Generator<[string, V], undefined> {
    return this.entries()
  }

  forEach(visit: (value: V, key: string, table: ReadonlyMap<string, V>) => void): void {
    for (const [key, value] of this.entries()) visit(value, key, this)
  }
}

export interface ReadonlyGroups {
  /** Members of a group; none when there is no such group. */
  of(group: string): Iterable<string>
  count(group: string): number
  /** Names of the groups that have members. */
  names(): Iterable<string>
  fork(): Groups
}

/** Sets of ids by name. A group without members is none. */
export class Groups implements ReadonlyGroups {
  #sets: Table<Table<true>>
  /** Groups that were forked for this version; none yet when undefined. */
  #own: Set<string> | undefined

  constructor(sets: Table<Table<true>> = new Table()) {
    this.#sets = sets
  }

  fork(): Groups {
    this.#own = undefined
    return new Groups(this.#sets.fork())
  }

  of(group: string): Iterable<string> {
    return this.#sets.get(group)?.keys() ?? []
  }

  count(group: string): number {
    return this.#sets.get(group)?.size ?? 0
  }

  names(): Iterable<string> {
    return this.#sets.keys()
  }

  #writable(group: string): Table<true> {
    const known = this.#sets.get(group)
    this.#own ??= new Set()
    if (known !== undefined && this.#own.has(group)) return known
    const set = known?.fork() ?? new Table<true>()
    this.#sets.set(group, set)
    this.#own.add(group)
    return set
  }

  add(group: string, id: string): void {
    if (!this.#sets.get(group)?.has(id)) this.#writable(group).set(id, true)
  }

  delete(group: string, id: string): void {
    if (!this.#sets.get(group)?.has(id)) return
    const set = this.#writable(group)
    set.delete(id)
    if (set.size > 0) return
    this.#sets.delete(group)
    this.#own?.delete(group)
  }
}
