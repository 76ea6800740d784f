// What `zfs` and `zpool` print, read; what we hand them, made. One form for both implementations (OpenZFS and
// zfs-fuse): `get -Hp -r` with names, properties and values in columns. Pure.

/** Properties that one `zfs get` asks for. `flynn:meta<n>` hold the volume's meta in pieces. */
export const metaPieces = 8
/** Values of user properties may have 1024 bytes in old pools. */
export const metaPieceChars = 900
export const metaBytesMax = Math.floor((metaPieces * metaPieceChars * 3) / 4)

const metaProperties = Array.from({ length: metaPieces }, (_, i) => `flynn:meta${i}`)
export const datasetProperties = ['type', 'creation', 'refquota', 'mountpoint', 'origin', ...metaProperties]

export type Dataset = {
  readonly name: string
  readonly kind: 'filesystem' | 'snapshot'
  readonly createdAt: Date
  readonly quotaBytes: number | undefined
  readonly mountpoint: string | undefined
  /** Snapshot that a clone came from. */
  readonly origin: string | undefined
  /** Undefined when it was not made by us. */
  readonly meta: Readonly<Record<string, string>> | undefined
}

export type Meta = Readonly<Record<string, string>>

/** Meta as user properties; undefined when there is more than they hold. */
export function metaToProperties(meta: Meta): Readonly<Record<string, string>> | undefined {
  const text = Buffer.from(JSON.stringify(meta)).toString('base64url')
  const pieces = text.match(new RegExp(`.{1,${metaPieceChars}}`, 'g')) ?? []
  if (pieces.length > metaPieces) return undefined
  return Object.fromEntries(pieces.map((piece, i) => [`flynn:meta${i}`, piece]))
}

function metaFromProperties(values: ReadonlyMap<string, string>): Meta | undefined {
  const pieces = metaProperties.map(name => values.get(name)).filter(v => v !== undefined && v !== '-')
  if (pieces.length === 0) return undefined
  try {
    return JSON.parse(Buffer.from(pieces.join(''), 'base64url').toString()) as Meta
  } catch {
    // Somebody else's property of the same name; the dataset itself is fine.
    return {}
  }
}

function present(value: string | undefined): string | undefined {
  return value === undefined || value === '-' || value === 'none' ? undefined : value
}

/** Lines `name<TAB>property<TAB>value` of `zfs get -Hp -r -o name,property,value`, as datasets in the same order. */
export function parseDatasets(text: string): readonly Dataset[] {
  const byName = new Map<string, Map<string, string>>()
  for (const line of text.split('\n')) {
    const [name, property, value] = line.split('\t')
    if (!name || property === undefined || value === undefined) continue
    const values = byName.get(name) ?? new Map<string, string>()
    byName.set(name, values.set(property, value))
  }
  const datasets: Dataset[] = []
  for (const [name, values] of byName) {
    const kind = values.get('type')
    if (kind !== 'filesystem' && kind !== 'snapshot') continue
    const quota = Number(present(values.get('refquota')) ?? 0)
    datasets.push({
      name,
      kind,
      createdAt: new Date(Number(values.get('creation') ?? 0) * 1000),
      quotaBytes: quota > 0 ? quota : undefined,
      mountpoint: present(values.get('mountpoint')),
      origin: present(values.get('origin')),
      meta: metaFromProperties(values),
    })
  }
  return datasets
}

/** `zpool list -H -o name,health`. */
export function parsePools(text: string): ReadonlyMap<string, string> {
  const pools = new Map<string, string>()
  for (const line of text.split('\n')) {
    const [name, health] = line.split('\t')
    if (name && health) pools.set(name, health)
  }
  return pools
}

export type ZfsFailure = 'exists' | 'missing' | 'busy' | 'children' | 'space' | 'other'

/** The kind of an error by its English text; both implementations word these alike. */
export function zfsFailure(stderr: string): ZfsFailure {
  if (/has children|has dependent clones|dependent clone/.test(stderr)) return 'children'
  if (/already exists/.test(stderr)) return 'exists'
  if (/does not exist|no such pool|could not find any snapshots/.test(stderr)) return 'missing'
  if (/is busy|already mounted|Device or resource busy/.test(stderr)) return 'busy'
  if (/out of space|no space/i.test(stderr)) return 'space'
  return 'other'
}

/** Names that a refused destroy lists under "use '-r'..." or "use '-R'...". */
export function listedChildren(stderr: string): readonly string[] {
  const lines = stderr.split('\n')
  const from = lines.findIndex(line => /^use '-[rR]'/.test(line))
  return from < 0 ? [] : lines.slice(from + 1).filter(line => /^\S+$/.test(line))
}

/** The part of a dataset's name that is the volume's id. */
export function volumeId(dataset: Dataset): string {
  const separator = dataset.kind === 'snapshot' ? '@' : '/'
  return dataset.name.slice(dataset.name.lastIndexOf(separator) + 1)
}

export type Disk = { readonly totalBytes: number; readonly freeBytes: number }

/** Kept free for images, logs and temp disks, which share the disk with the pool. */
export const poolReserveBytes = 4 * 1024 ** 3
export const poolBytesMin = 256 * 1024 ** 2

/** What a pool has at first, and the least that it grows by, where a tenth of the disk is not less. */
const extentBytes = 4 * 1024 ** 3

// Whole megabytes: some file systems under a loop want whole sectors.
const wholeMegabytes = (bytes: number) => bytes - (bytes % 1024 ** 2)

/** What a pool may still take of the disk: 70 % of it in all, as in the original, but never more than there is room for. */
function leftForPool(disk: Disk, poolBytes: number): number {
  const reserve = Math.min(poolReserveBytes, Math.floor(disk.totalBytes / 10))
  return Math.min(Math.floor(disk.totalBytes * 0.7) - poolBytes, disk.freeBytes - reserve)
}

/**
 * Size of the first file of a new pool: an extent, `extent` instead of the usual one, but no more than a quarter of what there is
 * on a disk that is nearly full. Below `poolBytesMin` there is no room for a pool.
 */
export function firstExtentBytes(disk: Disk, extent = usualExtent(disk)): number {
  const left = leftForPool(disk, 0)
  return wholeMegabytes(Math.min(extent, left, Math.max(poolBytesMin, left / 4)))
}

function usualExtent(disk: Disk): number {
  return Math.max(poolBytesMin, Math.min(extentBytes, Math.floor(disk.totalBytes / 10)))
}

export function hasRoom(disk: Disk, freeBytes: number, extent = usualExtent(disk)): boolean {
  return freeBytes >= extent / 2
}

export type PoolRoom = { readonly sizeBytes: number; readonly freeBytes: number }
export type Growth =
  | { readonly kind: 'enough' }
  | { readonly kind: 'grow'; readonly bytes: number }
  /** It is getting full and the disk has no more for it. */
  | { readonly kind: 'none'; readonly leftBytes: number }

/**
 * Whether a pool gets another file: once less than half an extent is free, by at least an extent and by half of what it has, so
 * that a large pool has few files.
 */
export function poolGrowth(disk: Disk, pool: PoolRoom, extent = usualExtent(disk)): Growth {
  if (hasRoom(disk, pool.freeBytes, extent)) return { kind: 'enough' }
  const wanted = Math.max(extent, Math.floor(pool.sizeBytes / 2))
  const bytes = wholeMegabytes(Math.min(wanted, leftForPool(disk, pool.sizeBytes)))
  return bytes < poolBytesMin ? { kind: 'none', leftBytes: Math.max(0, bytes) } : { kind: 'grow', bytes }
}

/** `zpool list -H -p -o size,free` of one pool. zfs-fuse knows no -p and prints letters: 3.78G. */
export function parsePoolRoom(text: string): PoolRoom {
  const [size = '', free = ''] = text.trim().split('\t')
  return { sizeBytes: parseSize(size), freeBytes: parseSize(free) }
}

function parseSize(text: string): number {
  const match = /^([\d.]+)([KMGTP]?)$/.exec(text)
  if (!match) throw new Error(`zpool told a size of "${text}"`)
  return Number(match[1]) * 1024 ** ' KMGTP'.indexOf(match[2] || ' ')
}

/** Files that a pool lies in, from `zpool status`. */
export function parseDevices(status: string, dir: string): readonly string[] {
  return status
    .split('\n')
    .map(line => line.trim().split(/\s+/)[0] ?? '')
    .filter(word => word.startsWith(`${dir}/`))
}
