// Data volumes of a host: a ZFS file system each, with its meta as user properties, so that the pool alone tells
// everything and a lost database loses nothing (contract host.md 4.1-4.3). What is in memory is a copy of the pool.
import { mkdir, readdir, readFile, readlink, rmdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type { Readable } from 'node:stream'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { describeError } from '../../pkg/errors/errors.ts'
import { uuid } from '../../pkg/ids/ids.ts'
import type { Logger } from '../../pkg/log/log.ts'
import { findMount, parseMountinfo, unmount } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { engineErrors } from '../container/errors.ts'
import type { TransferStream, Volume, VolumeEvent, VolumeStore } from '../container/types.ts'
import type { HostPaths } from '../paths.ts'
import { usesZfsFuse, ZfsFuse } from './fuse.ts'
import { Growth } from './growth.ts'
import { dataRoot, openPool } from './pool.ts'
import { keepTending } from './tend.ts'
import { receiveDataset, sendDataset } from './transfer.ts'
import {
  type Dataset,
  listedChildren,
  type Meta,
  metaBytesMax,
  metaToProperties,
  volumeId,
} from './zfs.core.ts'
import { isZfsError, listDatasets, zfs } from './zfs.ts'

/** A dataset stays busy for some milliseconds after its unmount (zfs-fuse), or while a process is about to end. */
export const destroyTimeoutMs = 5_000
const destroyIntervalMs = 20
/** What a job left in the machine's memory is in the pool by then. */
const syncTimeoutMs = 60_000
/** How often volumes that could not be mounted are tried again. */
export const repairIntervalMs = 15_000
const idPattern = /^[A-Za-z0-9][A-Za-z0-9_.:-]{0,99}$/

export type VolumeStoreOptions = {
  readonly paths: Pick<HostPaths, 'volumesDir' | 'zpool' | 'zfsFuseLogFile' | 'zfsFusePidFile'>
  readonly log: Logger
  /** Size of a new pool, and the least that it grows by; by the disk when absent. */
  readonly extentBytes?: number
  /** Volumes that are filled from another host stay unmounted. */
  readonly isIncoming?: (id: string) => boolean
}

type Entry = { readonly volume: Volume; readonly dataset: string }

export class ZfsVolumeStore implements VolumeStore {
  readonly #options: VolumeStoreOptions
  readonly #log: Logger
  readonly #volumes = new Map<string, Entry>()
  /** Datasets that could not be mounted: not offered to jobs, because a job would write to the host's own disk. */
  readonly #broken = new Set<string>()
  readonly #listeners: ((event: VolumeEvent) => void)[] = []
  readonly #closed = new AbortController()
  #fuse: ZfsFuse | undefined
  #working: Promise<unknown> | undefined

  constructor(options: VolumeStoreOptions) {
    this.#options = options
    this.#log = options.log
  }

  /** Process id of zfs-fuse, where there is one. */
  get daemonPid(): number | undefined {
    return this.#fuse?.pid
  }

  async open(signal: AbortSignal): Promise<void> {
    await mkdir(this.#options.paths.volumesDir, { recursive: true })
    if (await usesZfsFuse()) {
      this.#fuse = new ZfsFuse({ ...this.#options, onRestart: () => this.#restore() })
      await this.#fuse.open(signal)
    }
    await this.#restore()
    const { signal: closed } = this.#closed
    const growth = new Growth({ ...this.#options, volumes: () => this.list(), signal: closed })
    const fuse = this.#fuse && { pid: () => this.#fuse?.pid, dataset: dataRoot(this.#options.paths) }
    this.#working = Promise.all([
      this.#repair(),
      keepTending({ growth, fuse, log: this.#log, signal: closed }),
    ])
  }

  async close(): Promise<void> {
    this.#closed.abort()
    await this.#fuse?.close()
    await this.#working
  }

  onEvent(listener: (event: VolumeEvent) => void): void {
    this.#listeners.push(listener)
  }

  list(): readonly Volume[] {
    return [...this.#volumes.values()].map(entry => entry.volume)
  }

  get(id: string): Volume | undefined {
    return this.#volumes.get(id)?.volume
  }

  #tell(event: VolumeEvent): void {
    for (const listener of this.#listeners) listener(event)
  }

  #path(kind: 'data' | 'snapshot', id: string): string {
    return join(this.#options.paths.volumesDir, 'zfs', 'mnt', kind, id)
  }

  #toVolume(dataset: Dataset): Volume {
    const id = volumeId(dataset)
    const type = dataset.kind === 'snapshot' ? 'snapshot' : 'data'
    return {
      id,
      type,
      meta: dataset.meta ?? {},
      createdAt: dataset.createdAt,
      path: this.#path(type, id),
      ...(type === 'snapshot' ? { snapshotOf: originId(dataset.name) } : {}),
      ...(dataset.quotaBytes === undefined ? {} : { quotaBytes: dataset.quotaBytes }),
    }
  }

  /** Pool usable, every volume known and mounted; each by itself, so that one broken volume stops no other. */
  async #restore(): Promise<void> {
    await openPool(this.#options)
    const root = dataRoot(this.#options.paths)
    for (const dataset of await listDatasets(root, true)) if (dataset.name !== root) await this.#take(dataset)
  }

  async #take(dataset: Dataset): Promise<void> {
    const id = volumeId(dataset)
    try {
      const waits = this.#options.isIncoming?.(id) === true
      if (dataset.kind === 'filesystem' && !waits) await this.#mount(dataset)
      this.#broken.delete(dataset.name)
      const known = this.#volumes.has(id)
      const volume = this.#toVolume(dataset)
      this.#volumes.set(id, { volume, dataset: dataset.name })
      if (!known) this.#tell({ type: 'create', volume })
    } catch (err) {
      this.#volumes.delete(id)
      this.#broken.add(dataset.name)
      this.#log.error({ volume: id, err }, 'volume cannot be mounted, going on without it')
    }
  }

  async #repair(): Promise<void> {
    const signal = this.#closed.signal
    while (!signal.aborted) {
      await sleep(repairIntervalMs, signal).catch(() => undefined)
      for (const name of signal.aborted ? [] : this.#broken) {
        try {
          for (const dataset of await listDatasets(name, false)) await this.#take(dataset)
        } catch (err) {
          if (isZfsError(err, 'missing')) this.#broken.delete(name)
          else this.#log.warn({ dataset: name, err }, 'volume not repaired')
        }
      }
    }
  }

  /** Mounts a dataset at the path of its volume, over nothing but an empty directory. */
  async #mount(dataset: Dataset): Promise<void> {
    const path = this.#path('data', volumeId(dataset))
    const mounted = await findMount(path)
    if (mounted?.source === dataset.name) {
      if (await isAnswering(path)) return
      // Left by a zfs-fuse that died: `zfs` takes it for mounted as long as it is in the table.
      await unmount(path)
    }
    await mkdir(path, { recursive: true })
    // A pool that was moved with its disk brings the paths of the old place. Setting the property mounts it too.
    if (dataset.mountpoint !== path) await zfs(['set', `mountpoint=${path}`, dataset.name])
    const isMounted = async () => (await findMount(path))?.source === dataset.name
    if (await isMounted()) return
    await zfs(['mount', dataset.name]).catch(async e => {
      // A restarted zfs-fuse may have mounted it in this very moment.
      if (!isZfsError(e, 'busy') || !(await isMounted())) throw e
    })
  }

  async create(
    options: {
      readonly id?: string
      readonly meta?: Meta
      readonly quotaBytes?: number
      readonly unmounted?: boolean
    } = {},
  ): Promise<Volume> {
    const id = options.id ?? uuid()
    if (!idPattern.test(id)) throw engineErrors.VOLUME_ID({ id })
    const name = `${dataRoot(this.#options.paths)}/${id}`
    if (this.#volumes.has(id)) throw engineErrors.VOLUME_EXISTS({ id })
    const { quotaBytes: quota } = options
    if (quota !== undefined && (!Number.isSafeInteger(quota) || quota <= 0))
      throw engineErrors.VOLUME_QUOTA({ quota })
    const properties = {
      mountpoint: this.#path('data', id),
      ...(options.unmounted ? { canmount: 'noauto' } : {}),
      ...(quota === undefined ? {} : { refquota: String(quota) }),
      ...toProperties(options.meta ?? {}),
    }
    return this.#make(id, name, 'creating', ['create', ...toArguments(properties), name])
  }

  /** Runs a command that makes a dataset, and undoes what it half made. */
  async #make(id: string, name: string, action: string, args: readonly string[]): Promise<Volume> {
    try {
      await zfs(args)
    } catch (cause) {
      if (!isZfsError(cause)) throw cause
      if (cause.failure === 'exists') throw engineErrors.VOLUME_EXISTS({ id }, { cause })
      if (cause.failure === 'missing') throw engineErrors.VOLUME_UNKNOWN({ id }, { cause })
      // Made but not mounted, for example because something lies at its path.
      await this.#destroyDataset(name).catch(err =>
        this.#log.error({ volume: id, err }, 'half-made volume left behind'),
      )
      throw engineErrors.VOLUME_FAILED({ id, action, reason: cause.message }, { cause })
    }
    for (const dataset of await listDatasets(name, false)) await this.#take(dataset)
    const volume = this.get(id)
    if (volume === undefined)
      throw engineErrors.VOLUME_FAILED({ id, action, reason: 'it could not be mounted' })
    this.#log.info({ volume: id, dataset: name }, 'volume made')
    return volume
  }

  #entry(id: string, type?: Volume['type']): Entry {
    const entry = this.#volumes.get(id)
    if (entry === undefined) throw engineErrors.VOLUME_UNKNOWN({ id })
    if (type !== undefined && entry.volume.type !== type)
      throw engineErrors.VOLUME_KIND({ id, type: entry.volume.type, wanted: type })
    return entry
  }

  async snapshot(id: string): Promise<Volume> {
    const { dataset, volume } = this.#entry(id, 'data')
    const snapshot = uuid()
    const name = `${dataset}@${snapshot}`
    const args = ['snapshot', ...toArguments(toProperties(volume.meta)), name]
    return this.#make(snapshot, name, 'taking the snapshot', args)
  }

  async mark(id: string, snapshotId: string): Promise<Volume> {
    const { dataset, volume } = this.#entry(id, 'data')
    // What programs mapped and changed is in the machine's memory, not in the pool yet.
    if (await findMount(volume.path)) await run(['sync', '-f', volume.path], { timeoutMs: syncTimeoutMs })
    const name = `${dataset}@${snapshotId}`
    return this.#make(snapshotId, name, 'taking the snapshot', ['snapshot', name])
  }

  async setReadonly(id: string, readonly: boolean): Promise<void> {
    await zfs(['set', `readonly=${readonly ? 'on' : 'off'}`, this.#entry(id, 'data').dataset])
  }

  async mount(id: string): Promise<void> {
    const { dataset } = this.#entry(id, 'data')
    await zfs(['set', 'canmount=on', dataset])
    for (const d of await listDatasets(dataset, false)) await this.#mount(d)
  }

  send(snapshotId: string, base: string | undefined): TransferStream {
    const { dataset } = this.#entry(snapshotId, 'snapshot')
    const from = base === undefined ? undefined : this.#entry(base, 'snapshot').dataset
    return sendDataset(dataset, from)
  }

  async receive(id: string, stream: Readable, signal: AbortSignal): Promise<number> {
    const { dataset } = this.#entry(id, 'data')
    const bytes = await receiveDataset(dataset, stream, signal).catch((cause: unknown) => {
      signal.throwIfAborted()
      throw engineErrors.VOLUME_FAILED({ id, action: 'receiving', reason: describeError(cause) }, { cause })
    })
    for (const d of await listDatasets(dataset, true)) if (d.kind === 'snapshot') await this.#take(d)
    return bytes
  }

  async clone(snapshotId: string, meta?: Meta): Promise<Volume> {
    const { dataset, volume } = this.#entry(snapshotId, 'snapshot')
    const id = uuid()
    const name = `${dataRoot(this.#options.paths)}/${id}`
    const origin = this.get(originId(dataset))
    const properties = {
      mountpoint: this.#path('data', id),
      ...(origin?.quotaBytes === undefined ? {} : { refquota: String(origin.quotaBytes) }),
      ...toProperties(meta ?? volume.meta),
    }
    return this.#make(id, name, 'cloning', ['clone', ...toArguments(properties), dataset, name])
  }

  async destroy(id: string): Promise<void> {
    const { dataset, volume } = this.#entry(id)
    // A refused destroy leaves the volume unmounted under its user, and it cannot be mounted again: ask first.
    if (await isHeldElsewhere(dataset)) throw engineErrors.VOLUME_BUSY({ id })
    try {
      await this.#destroyDataset(dataset)
    } catch (cause) {
      if (volume.type === 'data') for (const d of await listDatasets(dataset, false)) await this.#take(d)
      if (!isZfsError(cause)) throw cause
      if (cause.failure === 'busy') throw engineErrors.VOLUME_BUSY({ id }, { cause })
      if (cause.failure !== 'children')
        throw engineErrors.VOLUME_FAILED({ id, action: 'deleting', reason: cause.message }, { cause })
      const children = listedChildren(cause.stderr).map(name => name.replace(/^.*[/@]/, ''))
      throw engineErrors.VOLUME_CHILDREN({ id, children: children.join(', ') }, { cause })
    }
    this.#volumes.delete(id)
    if (volume.type === 'data') await rmdir(volume.path).catch(ignoreMissing)
    this.#log.info({ volume: id, dataset }, 'volume destroyed')
    this.#tell({ type: 'destroy', volume })
  }

  /** Never with -f: on a dataset with an open file that hangs zfs-fuse for good. */
  async #destroyDataset(name: string): Promise<void> {
    let busy: unknown
    try {
      await poll(
        async () => {
          try {
            await zfs(['destroy', name])
            return 'destroyed'
          } catch (e) {
            if (isZfsError(e, 'missing')) return 'destroyed'
            busy = e
            // Anything but busy stays as it is; out of the loop with it.
            return isZfsError(e, 'busy') ? undefined : 'failed'
          }
        },
        { timeoutMs: destroyTimeoutMs, intervalMs: destroyIntervalMs, what: `the end of ${name}` },
      ).then(outcome => {
        if (outcome === 'failed') throw busy
      })
    } catch (e) {
      throw busy ?? e
    }
  }
}

/** The volume that a snapshot was taken of, by the snapshot's name. */
function originId(snapshot: string): string {
  return snapshot.slice(snapshot.lastIndexOf('/') + 1, snapshot.lastIndexOf('@'))
}

function toProperties(meta: Meta): Readonly<Record<string, string>> {
  const properties = metaToProperties(meta)
  if (properties === undefined) throw engineErrors.VOLUME_META({ max: metaBytesMax })
  return properties
}

function toArguments(properties: Readonly<Record<string, string>>): readonly string[] {
  return Object.entries(properties).flatMap(([name, value]) => ['-o', `${name}=${value}`])
}

async function isAnswering(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    () => false,
  )
}

/** True when a container (any other mount namespace) has the dataset mounted. */
async function isHeldElsewhere(dataset: string): Promise<boolean> {
  const seen = new Set([await readlink('/proc/self/ns/mnt')])
  for (const entry of await readdir('/proc')) {
    if (!/^\d+$/.test(entry)) continue
    // Processes end while we look; those hold nothing.
    const namespace = await readlink(`/proc/${entry}/ns/mnt`).catch(() => undefined)
    if (namespace === undefined || seen.has(namespace)) continue
    seen.add(namespace)
    const mounts = parseMountinfo(await readFile(`/proc/${entry}/mountinfo`, 'utf8').catch(() => ''))
    if (mounts.some(m => m.source === dataset)) return true
  }
  return false
}

function ignoreMissing(e: NodeJS.ErrnoException): void {
  if (e.code !== 'ENOENT') throw e
}
