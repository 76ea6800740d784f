// Image layers of a host: fetched once, verified before use, mounted once, counted by user (contract host.md 4.5, 4.7).
// What is mounted is read from the kernel and what was verified from a stamp beside the file, so a restart loses
// nothing; who uses what is told again by `adopt`.
import { createWriteStream } from 'node:fs'
import { mkdir, open, readdir, readFile, rename, rm, rmdir, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { isDeepStrictEqual } from 'node:util'
import { FlynnError } from '../../pkg/errors/errors.ts'
import { randomHex } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { listMounts, mount, unmount } from '../../pkg/mount/mount.ts'
import { engineErrors } from '../container/errors.ts'
import type { LayerRequest, LayerStore } from '../container/types.ts'
import type { HostPaths } from '../paths.ts'
import { fetchRetryMs, openLayer, type Resolve } from './fetch.ts'
import { checkLayer, isVerified, type LayerStamp, layerSource } from './layer.core.ts'
import { verifier, verifyFile } from './verify.ts'

const partialPrefix = '.partial-'

export type LayerStoreOptions = {
  readonly paths: Pick<HostPaths, 'layerCacheDir' | 'layersDir'>
  /** Finds an instance of a service for URLs like http://blobstore.discoverd/... */
  readonly resolve: Resolve
  readonly log: Logger
  readonly retryMs?: number
}

/** One fetch and mount, shared by everybody who waits for it; abandoned when nobody does any more. */
type Flight = {
  readonly layer: LayerRequest
  readonly done: Promise<string>
  readonly abort: AbortController
  waiting: number
}

export class SquashfsLayerStore implements LayerStore {
  readonly #options: LayerStoreOptions
  readonly #flights = new Map<string, Flight>()
  /** Unmounts under way, by layer: a mount of the same layer waits for them. */
  readonly #leaving = new Map<string, Promise<void>>()
  readonly #users = new Map<string, Set<string>>()
  readonly #mounted = new Set<string>()

  constructor(options: LayerStoreOptions) {
    this.#options = options
  }

  #cacheFile(id: string): string {
    return join(this.#options.paths.layerCacheDir, `${id}.squashfs`)
  }

  #target(id: string): string {
    return join(this.#options.paths.layersDir, id)
  }

  /** Makes the directories, finds what is mounted already, clears what a crash left half-fetched. */
  async open(): Promise<void> {
    const { layerCacheDir, layersDir } = this.#options.paths
    await mkdir(layerCacheDir, { recursive: true })
    await mkdir(layersDir, { recursive: true })
    for (const m of await listMounts())
      if (dirname(m.target) === layersDir && m.type === 'squashfs') this.#mounted.add(basename(m.target))
    for (const entry of await readdir(layerCacheDir))
      if (entry.startsWith(partialPrefix)) await rm(join(layerCacheDir, entry), { force: true })
  }

  async acquire(layer: LayerRequest, user: string, signal: AbortSignal): Promise<string> {
    checkLayer(layer)
    signal.throwIfAborted()
    this.#hold(layer.id, user)
    try {
      return await this.#join(layer, signal)
    } catch (e) {
      this.#letGo(layer.id, user)
      throw e
    }
  }

  async adopt(user: string, layerIds: readonly string[]): Promise<void> {
    for (const id of layerIds) this.#hold(id, user)
  }

  async release(user: string): Promise<void> {
    const ids = [...this.#users].filter(([, users]) => users.has(user)).map(([id]) => id)
    for (const id of ids) this.#letGo(id, user)
    for (const id of ids) await this.#unmountUnused(id)
  }

  /** After the last `adopt` at start: unmounts what nobody holds. */
  async sweep(): Promise<void> {
    for (const id of this.#mounted) await this.#unmountUnused(id)
  }

  #hold(id: string, user: string): void {
    const users = this.#users.get(id) ?? new Set()
    users.add(user)
    this.#users.set(id, users)
  }

  #letGo(id: string, user: string): void {
    const users = this.#users.get(id)
    users?.delete(user)
    if (users?.size === 0) this.#users.delete(id)
  }

  async #unmountUnused(id: string): Promise<void> {
    if (this.#users.has(id) || this.#flights.has(id) || !this.#mounted.has(id)) return
    // Running containers keep the file system alive through their overlay; only the name goes.
    this.#mounted.delete(id)
    const leaving = unmount(this.#target(id)).then(() => rmdir(this.#target(id)))
    this.#leaving.set(
      id,
      leaving.catch(err => this.#options.log.error({ layer: id, err }, 'layer not unmounted')),
    )
    await this.#leaving.get(id)
    this.#leaving.delete(id)
  }

  /** Waits for the one flight of this layer, starting it when there is none. */
  async #join(layer: LayerRequest, signal: AbortSignal): Promise<string> {
    let flight = this.#flights.get(layer.id)
    while (flight?.abort.signal.aborted) {
      // Everybody else gave up on that one.
      await flight.done.catch(() => undefined)
      flight = this.#flights.get(layer.id)
    }
    flight ??= this.#takeOff(layer)
    const path = await waitFor(flight, signal)
    // Another's flight has verified what the other asked for.
    return isDeepStrictEqual(flight.layer.hashes, layer.hashes) ? path : this.#join(layer, signal)
  }

  #takeOff(layer: LayerRequest): Flight {
    const abort = new AbortController()
    const done = this.#ready(layer, abort.signal).finally(() => {
      this.#flights.delete(layer.id)
      // Its users may all have left while it was on its way.
      void this.#unmountUnused(layer.id)
    })
    const flight = { layer, done, abort, waiting: 0 }
    this.#flights.set(layer.id, flight)
    return flight
  }

  async #ready(layer: LayerRequest, signal: AbortSignal): Promise<string> {
    const target = this.#target(layer.id)
    await this.#leaving.get(layer.id)
    if (this.#mounted.has(layer.id)) {
      await this.#checkMounted(layer, signal)
      return target
    }
    if (!(await this.#isCached(layer, signal))) await this.#fetch(layer, signal)
    signal.throwIfAborted()
    try {
      await mkdir(target, { recursive: true })
      const source = this.#cacheFile(layer.id)
      await mount({ type: 'squashfs', source, target, options: ['ro', 'loop', 'noatime'] })
    } catch (cause) {
      const reason = cause instanceof Error ? cause.message : String(cause)
      await rmdir(target).catch(() => undefined)
      throw engineErrors.LAYER_MOUNT({ id: layer.id, reason }, { cause })
    }
    this.#mounted.add(layer.id)
    return target
  }

  /** A mounted layer was verified by its first user; a user with other hashes is told, and disturbs nobody. */
  async #checkMounted(layer: LayerRequest, signal: AbortSignal): Promise<void> {
    const path = this.#cacheFile(layer.id)
    const file = await this.#inspect(path)
    // Deleted from the cache while mounted: the mount goes on, and there is nothing to compare with.
    if (file === undefined) return
    const stamp = await this.#readStamp(layer.id)
    if (stamp !== undefined && file.bytes === layer.sizeBytes && isVerified(stamp, file, layer)) return
    const hashes = await verifyFile(path, layer, signal)
    await this.#writeStamp(layer.id, { ...file, hashes: { ...stamp?.hashes, ...hashes } })
  }

  /** True when the cached file is there and verified; one that does not match is removed. */
  async #isCached(layer: LayerRequest, signal: AbortSignal): Promise<boolean> {
    const path = this.#cacheFile(layer.id)
    const file = await this.#inspect(path)
    if (file === undefined) return false
    const stamp = await this.#readStamp(layer.id)
    if (stamp !== undefined && file.bytes === layer.sizeBytes && isVerified(stamp, file, layer)) return true
    try {
      const hashes = await verifyFile(path, layer, signal)
      await this.#writeStamp(layer.id, { ...file, hashes })
      return true
    } catch (e) {
      if (!(e instanceof FlynnError)) throw e
      this.#options.log.warn({ layer: layer.id, err: e }, 'cached layer is damaged, removing it')
      await this.#discard(layer.id)
      // Where the cached file is itself the source there is nothing to fetch it from again.
      const source = layer.url === undefined ? undefined : layerSource(layer.url)
      if (source === undefined || (source.kind === 'file' && source.path === path)) throw e
      return false
    }
  }

  async #inspect(path: string): Promise<Omit<LayerStamp, 'hashes'> | undefined> {
    try {
      const s = await stat(path)
      return { bytes: s.size, modifiedMs: s.mtimeMs, inode: s.ino }
    } catch (e) {
      if ((e as NodeJS.ErrnoException).code === 'ENOENT') return undefined
      throw e
    }
  }

  #stampFile(id: string): string {
    return join(this.#options.paths.layerCacheDir, `${id}.verified`)
  }

  async #readStamp(id: string): Promise<LayerStamp | undefined> {
    try {
      return JSON.parse(await readFile(this.#stampFile(id), 'utf8')) as LayerStamp
    } catch {
      // None, or cut off by a crash: the file is hashed again.
      return undefined
    }
  }

  async #writeStamp(id: string, stamp: LayerStamp): Promise<void> {
    await writeFile(this.#stampFile(id), JSON.stringify(stamp))
  }

  async #discard(id: string): Promise<void> {
    await rm(this.#stampFile(id), { force: true })
    await rm(this.#cacheFile(id), { force: true })
  }

  /** Streams the layer beside the cache, verifies it whole, then moves it in: no reader ever sees a part. */
  async #fetch(layer: LayerRequest, signal: AbortSignal): Promise<void> {
    const { id, url } = layer
    if (url === undefined) throw engineErrors.LAYER_MISSING({ id })
    const { layerCacheDir } = this.#options.paths
    const partial = join(layerCacheDir, `${partialPrefix}${id}-${randomHex(4)}`)
    const startedAt = performance.now()
    try {
      const retryMs = this.#options.retryMs ?? fetchRetryMs
      const body = await openLayer({ id, url, resolve: this.#options.resolve, signal, retryMs })
      const check = verifier(layer)
      await pipeline(body, check.stream, createWriteStream(partial, { mode: 0o644, flush: true }), { signal })
      const hashes = check.finish()
      await rename(partial, this.#cacheFile(id))
      await syncDirectory(layerCacheDir)
      const file = await this.#inspect(this.#cacheFile(id))
      if (file !== undefined) await this.#writeStamp(id, { ...file, hashes })
      const ms = Math.round(performance.now() - startedAt)
      this.#options.log.info({ layer: id, bytes: layer.sizeBytes, ms }, 'layer fetched')
    } catch (cause) {
      await rm(partial, { force: true })
      if (cause instanceof FlynnError) throw cause
      signal.throwIfAborted()
      const reason = cause instanceof Error ? cause.message : String(cause)
      throw engineErrors.LAYER_FETCH({ id, url, reason }, { cause })
    }
  }
}

/** The flight's result, or the signal's reason; the last one to leave ends the flight. */
async function waitFor(flight: Flight, signal: AbortSignal): Promise<string> {
  flight.waiting += 1
  const left = Promise.withResolvers<never>()
  const leave = () => left.reject(signal.reason)
  signal.addEventListener('abort', leave, { once: true })
  if (signal.aborted) leave()
  try {
    return await Promise.race([flight.done, left.promise])
  } finally {
    signal.removeEventListener('abort', leave)
    flight.waiting -= 1
    if (flight.waiting === 0) flight.abort.abort()
  }
}

async function syncDirectory(path: string): Promise<void> {
  const dir = await open(path)
  try {
    await dir.sync()
  } finally {
    await dir.close()
  }
}
