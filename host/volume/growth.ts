// Another file for the pool when it is nearly full and the disk has room. Looked after by tend.ts; zfs.core.ts decides.
import { existsSync } from 'node:fs'
import { rename, rm, statfs } from 'node:fs/promises'
import { dirname } from 'node:path'
import { findMount } from '../../pkg/mount/mount.ts'
import { engineErrors } from '../container/errors.ts'
import type { Volume } from '../container/types.ts'
import { diskOf, fillHoles, makeSparse, sync } from './extent.ts'
import { type PoolOptions, poolFile } from './pool.ts'
import { hasRoom, parseDevices, parsePoolRoom, poolGrowth } from './zfs.core.ts'
import { zpool } from './zfs.ts'

/** From one look to the next once there is nothing to grow by. */
const fullIntervalMs = 15_000

export type Growing = PoolOptions & {
  readonly volumes: () => Iterable<Volume>
  readonly signal: AbortSignal
}

export class Growth {
  readonly #options: Growing
  /** Of a pool that an operator made elsewhere, on disks of its own, which is left as it is. */
  #isOurs: boolean | undefined
  #fullAt: number | undefined

  constructor(options: Growing) {
    this.#options = options
  }

  /** The pool is nearly full and there was nothing to grow by. */
  get isFull(): boolean {
    return this.#fullAt !== undefined
  }

  /** Adds a file where one is needed; a failure is logged, and the next look tries again. */
  async look(): Promise<void> {
    const { log, signal } = this.#options
    if (this.#fullAt !== undefined && performance.now() - this.#fullAt < fullIntervalMs) return
    try {
      this.#isOurs ??= (await filesOf(this.#options)).includes(poolFile(this.#options.paths))
      if (this.#isOurs) await this.#grow()
    } catch (err) {
      if (!signal.aborted) log.error({ err }, 'the pool cannot grow')
    }
  }

  async #grow(): Promise<void> {
    const { log, paths, extentBytes } = this.#options
    const disk = await diskOf(paths.volumesDir)
    const freeBytes = await freeIn(this.#options.volumes())
    const isEnough = freeBytes !== undefined && hasRoom(disk, freeBytes, extentBytes)
    if (isEnough || (await grow(this.#options)) !== 'full') {
      this.#fullAt = undefined
      return
    }
    if (!this.isFull) log.error('volumes are nearly full and may take no more of this disk: free some space')
    this.#fullAt = performance.now()
  }
}

/** As a mounted volume tells it, without asking a program; undefined when none can tell. */
async function freeIn(volumes: Iterable<Volume>): Promise<number | undefined> {
  for (const { type, quotaBytes, path } of volumes) {
    if (type !== 'data' || quotaBytes !== undefined || (await findMount(path)) === undefined) continue
    const { bavail, bsize } = await statfs(path)
    return bavail * bsize
  }
  return undefined
}

async function grow(options: PoolOptions): Promise<'enough' | 'grown' | 'full'> {
  const { zpool: pool, volumesDir } = options.paths
  const room = parsePoolRoom(await zpool(['list', '-H', '-o', 'size,free', pool]))
  const growth = poolGrowth(await diskOf(volumesDir), room, options.extentBytes)
  if (growth.kind === 'enough') return 'enough'
  if (growth.kind === 'none') return 'full'
  const file = await newExtent(options, growth.bytes)
  await zpool(['add', pool, file])
  // A pool that knows of a file whose label did not reach the disk could not be imported.
  await sync(file)
  options.log.info({ pool, file, bytes: growth.bytes }, 'pool has grown')
  return 'grown'
}

/** Those beside the first one, and that. */
async function filesOf({ paths }: PoolOptions): Promise<readonly string[]> {
  return parseDevices(await zpool(['status', paths.zpool]), dirname(poolFile(paths)))
}

/** A file with all its blocks that is no pool's yet. One that a crash left before it was added is taken again. */
async function newExtent(options: PoolOptions, bytes: number): Promise<string> {
  const { paths } = options
  const used = await filesOf(options)
  const file = poolFile(paths, used.length + 1)
  if (used.includes(file)) throw engineErrors.POOL({ pool: paths.zpool, reason: `it has ${file} already` })
  if (existsSync(file)) return file
  const made = `${file}.new`
  await rm(made, { force: true })
  await makeSparse(made, bytes)
  await fillHoles(made)
  await rename(made, file)
  return file
}
