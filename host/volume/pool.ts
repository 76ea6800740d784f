// The pool that a host's volumes lie in: adopted when it is there, imported when its file is, made when neither is (contract
// host.md 4.2). An existing pool file is never overwritten. Its files have all their blocks from the beginning, unlike the
// original's: a write into a hole of a file on a full disk fails, long after ZFS said that it was done, and takes the data of
// every volume with it. So a pool begins small, and gets another file as it fills (growth.ts).
import { existsSync } from 'node:fs'
import { mkdir, stat } from 'node:fs/promises'
import { basename, dirname, join } from 'node:path'
import { type Logger, silentLogger } from '../../pkg/log/log.ts'
import { engineErrors } from '../container/errors.ts'
import type { HostPaths } from '../paths.ts'
import { diskOf, fillHoles, makeSparse } from './extent.ts'
import { startTimeoutMs, usesZfsFuse, ZfsFuse, type ZfsFuseOptions } from './fuse.ts'
import { firstExtentBytes, poolBytesMin } from './zfs.core.ts'
import { importTimeoutMs, isZfsError, listPools, zfs, zpool } from './zfs.ts'

export type PoolOptions = {
  readonly paths: Pick<HostPaths, 'volumesDir' | 'zpool'>
  readonly log: Logger
  /** Size of a new pool, and the least that it grows by; by the disk when absent. */
  readonly extentBytes?: number
}

const kernelModule = '/sys/module/zfs'
const usable = new Set(['ONLINE', 'DEGRADED'])

/** The first file of the pool; `nth` counts from 1. */
export function poolFile(paths: PoolOptions['paths'], nth = 1): string {
  return join(paths.volumesDir, 'zfs', 'vdev', `${paths.zpool}-zpool${nth === 1 ? '' : `-${nth}`}.vdev`)
}

/** Where the pool of an earlier life of the host is kept: its whole folder, because an import looks at every file of one. */
export function asideFile(paths: PoolOptions['paths'], life: string): string {
  return join(paths.volumesDir, 'zfs', `removed-${life}`, basename(poolFile(paths)))
}

/** Parent of the data volumes. */
export function dataRoot(paths: PoolOptions['paths']): string {
  return `${paths.zpool}/data`
}

/** Makes the pool usable and its parent dataset exist. */
export async function openPool(options: PoolOptions): Promise<void> {
  const { zpool: pool } = options.paths
  let health = (await listPools()).get(pool)
  if (health === undefined) {
    await importOrCreate(options)
    health = (await listPools()).get(pool)
  }
  if (health === undefined || !usable.has(health))
    throw engineErrors.POOL({ pool, reason: `it is ${health ?? 'not there'}` })
  // Until it grows by others, it lies in one file; a crash may have come before that had all its blocks.
  const file = poolFile(options.paths)
  if (existsSync(file))
    await fillHoles(file).catch((err: unknown) =>
      options.log.warn({ file, err }, 'the pool has holes: its volumes are lost if this disk becomes full'),
    )
  try {
    await zfs(['create', '-o', 'mountpoint=none', '-o', 'canmount=off', dataRoot(options.paths)])
  } catch (e) {
    if (!isZfsError(e, 'exists')) throw e
  }
}

/**
 * Makes ZFS forget the pool, so that its file can go elsewhere: a pool that ZFS remembers keeps its name taken, and is FAULTED
 * when its file is missed. zfs-fuse forgets only while it runs, so it is started for that and ended again. Rejects while
 * something uses a volume.
 */
export async function releasePool(paths: PoolOptions['paths'] & ZfsFuseOptions['paths']): Promise<void> {
  const viaFuse = await usesZfsFuse()
  // Without its module the kernel has no pool, and what it reads at boot it leaves out when the file is missing.
  if (!viaFuse && !existsSync(kernelModule)) return
  const fuse = viaFuse ? new ZfsFuse({ paths, log: silentLogger(), onRestart: async () => {} }) : undefined
  await fuse?.open(AbortSignal.timeout(startTimeoutMs))
  try {
    if ((await listPools()).has(paths.zpool)) await zpool(['export', paths.zpool])
  } catch (cause) {
    if (!isZfsError(cause)) throw cause
    throw engineErrors.POOL_BUSY({ pool: paths.zpool, reason: cause.message }, { cause })
  } finally {
    await fuse?.end()
  }
}

async function importOrCreate(options: PoolOptions): Promise<void> {
  const { zpool: pool } = options.paths
  const file = poolFile(options.paths)
  const found = await stat(file).catch((e: NodeJS.ErrnoException) => {
    if (e.code === 'ENOENT') return undefined
    throw e
  })
  try {
    // A file without a single block is what a crash left between making the file and making the pool.
    if (found === undefined || found.blocks === 0) await createPool(options, file)
    else await importPool(options, file)
  } catch (cause) {
    if (!isZfsError(cause)) throw cause
    throw engineErrors.POOL({ pool, reason: cause.message }, { cause })
  }
}

async function importPool(options: PoolOptions, file: string): Promise<void> {
  const { zpool: pool } = options.paths
  try {
    // Forced: after a crash the pool says that another system may use it, but the file is on our own disk.
    await zpool(['import', '-f', '-d', dirname(file), pool], importTimeoutMs)
  } catch (err) {
    // Importing mounts everything too, and says no when one volume does not mount; those are looked at one by one.
    if (!(await listPools()).has(pool)) throw err
    options.log.warn({ pool, err }, 'pool imported with complaints')
  }
  options.log.info({ pool, file }, 'pool imported')
}

async function createPool(options: PoolOptions, file: string): Promise<void> {
  const { zpool: pool, volumesDir } = options.paths
  await mkdir(dirname(file), { recursive: true, mode: 0o700 })
  const bytes = firstExtentBytes(await diskOf(volumesDir), options.extentBytes)
  if (bytes < poolBytesMin) throw engineErrors.POOL_SPACE({ dir: volumesDir, bytes })
  // Without blocks, until it is a pool's: so the next start knows what a crash left.
  await makeSparse(file, bytes)
  await zpool(['create', '-m', 'none', '-O', 'atime=off', pool, file])
  options.log.info({ pool, file, bytes }, 'pool created')
}
