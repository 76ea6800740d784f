import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  firstExtentBytes,
  listedChildren,
  metaBytesMax,
  metaToProperties,
  parseDatasets,
  parseDevices,
  parsePoolRoom,
  parsePools,
  poolBytesMin,
  poolGrowth,
  volumeId,
  zfsFailure,
} from './zfs.core.ts'

const gib = 1024 ** 3

function recorded(name: string, properties: Readonly<Record<string, string>>): string {
  return Object.entries(properties)
    .map(([property, value]) => `${name}\t${property}\t${value}\n`)
    .join('')
}

test('file systems and snapshots are read with quota, mountpoint and meta', () => {
  const meta = { 'flynn-controller.app': 'a', path: '/data with ünicode' }
  const text =
    recorded('flynn-default/data', { type: 'filesystem', creation: '1795227051', mountpoint: 'none' }) +
    recorded('flynn-default/data/a', {
      type: 'filesystem',
      creation: '1795227051',
      refquota: '20971520',
      mountpoint: '/v/zfs/mnt/data/a',
      origin: '-',
      ...metaToProperties(meta),
      'flynn:meta7': '-',
    }) +
    recorded('flynn-default/data/a@s1', { type: 'snapshot', creation: '1795227052', refquota: '-' })
  const [root, volume, snapshot] = parseDatasets(text)
  assert.equal(root?.meta, undefined)
  assert.deepEqual(volume, {
    name: 'flynn-default/data/a',
    kind: 'filesystem',
    createdAt: new Date(1795227051_000),
    quotaBytes: 20971520,
    mountpoint: '/v/zfs/mnt/data/a',
    origin: undefined,
    meta,
  })
  assert.ok(volume && snapshot)
  assert.deepEqual([volumeId(volume), volumeId(snapshot), snapshot.kind], ['a', 's1', 'snapshot'])
})

test('meta longer than a property is kept in pieces, and more than all of them is refused', () => {
  const long = { text: 'x'.repeat(4000) }
  const properties = metaToProperties(long)
  assert.ok(properties && Object.keys(properties).length > 1)
  assert.ok(Object.values(properties).every(piece => piece.length <= 1024))
  const read = parseDatasets(recorded('p/data/a', { type: 'filesystem', creation: '1', ...properties }))
  assert.deepEqual(read[0]?.meta, long)
  assert.equal(metaToProperties({ text: 'x'.repeat(metaBytesMax) }), undefined)
})

test('a foreign property of our name does no harm', () => {
  const read = parseDatasets(recorded('p/data/a', { type: 'filesystem', creation: '1', 'flynn:meta0': '%%' }))
  assert.deepEqual(read[0]?.meta, {})
})

test('pools are read with their health', () => {
  assert.deepEqual(
    [...parsePools('flynn-default\tONLINE\nother\tFAULTED\n')],
    [
      ['flynn-default', 'ONLINE'],
      ['other', 'FAULTED'],
    ],
  )
})

test('errors are told apart by what was printed', () => {
  const cases = {
    "cannot destroy 'p/data/a': dataset is busy": 'busy',
    "cannot mount 'p/data/a': mountpoint or dataset is busy": 'busy',
    "cannot create 'p/data/a': dataset already exists": 'exists',
    "cannot open 'p/data/a': dataset does not exist": 'missing',
    "cannot destroy 'p/data/a': filesystem has children\nuse '-r' to destroy": 'children',
    "cannot destroy 'p/data/a@s': snapshot has dependent clones": 'children',
    "cannot create 'p/data/a': out of space": 'space',
    'internal error: failed to initialize ZFS library': 'other',
  }
  for (const [text, failure] of Object.entries(cases)) assert.equal(zfsFailure(text), failure, text)
})

test('the children of a dataset that was not destroyed are listed', () => {
  const text =
    "cannot destroy 'p/a': filesystem has children\nuse '-r' to destroy the following datasets:\np/a@s1\np/a@s2\n"
  assert.deepEqual(listedChildren(text), ['p/a@s1', 'p/a@s2'])
  assert.deepEqual(listedChildren('cannot destroy'), [])
})

const gigabytes = (totalBytes: number, freeBytes: number) => ({
  totalBytes: totalBytes * gib,
  freeBytes: freeBytes * gib,
})

test('a new pool takes 4 GiB, a tenth of a small disk, or a quarter of what is free without the reserve', () => {
  assert.equal(firstExtentBytes(gigabytes(100, 90)), 4 * gib)
  assert.equal(firstExtentBytes(gigabytes(20, 18)), 2 * gib)
  assert.equal(firstExtentBytes(gigabytes(100, 12)), 2 * gib)
  assert.equal(firstExtentBytes(gigabytes(100, 4.5)), gib / 4)
  assert.ok(firstExtentBytes(gigabytes(100, 4.125)) < poolBytesMin)
  assert.ok(firstExtentBytes(gigabytes(10, 0.5)) < 0)
  assert.equal(firstExtentBytes(gigabytes(100, 90), gib), gib)
})

test('a pool grows when it is nearly full, by half of what it has, until it has 70 % of the disk', () => {
  const grown = (sizeBytes: number, freeBytes: number, diskFree: number) =>
    poolGrowth(gigabytes(100, diskFree), { sizeBytes: sizeBytes * gib, freeBytes: freeBytes * gib })
  assert.deepEqual(grown(4, 2, 80), { kind: 'enough' })
  assert.deepEqual(grown(4, 1.9, 80), { kind: 'grow', bytes: 4 * gib })
  assert.deepEqual(grown(40, 1, 50), { kind: 'grow', bytes: 20 * gib })
  assert.deepEqual(grown(60, 1, 50), { kind: 'grow', bytes: 10 * gib })
  assert.deepEqual(grown(40, 1, 10), { kind: 'grow', bytes: 6 * gib })
  assert.deepEqual(grown(70, 0, 30), { kind: 'none', leftBytes: 0 })
  assert.deepEqual(grown(40, 1, 4.125), { kind: 'none', leftBytes: gib / 8 })
  assert.deepEqual(grown(40, 1, 0), { kind: 'none', leftBytes: 0 })
})

test("a pool's size is read in bytes or with a letter", () => {
  assert.deepEqual(parsePoolRoom('4060086272\t96468992\n'), { sizeBytes: 4060086272, freeBytes: 96468992 })
  assert.deepEqual(parsePoolRoom('3.75G\t512M\n'), { sizeBytes: 3.75 * gib, freeBytes: gib / 2 })
  assert.deepEqual(parsePoolRoom('0\t0\n'), { sizeBytes: 0, freeBytes: 0 })
  assert.throws(() => parsePoolRoom('-\t-\n'), /size of "-"/)
})

test("a pool's files are those of its status below the folder", () => {
  const status = `  pool: flynn-default
 state: ONLINE
config:

\tNAME                                 STATE     READ WRITE CKSUM
\tflynn-default                        ONLINE       0     0     0
\t  /v/zfs/vdev/flynn-default-zpool.vdev    ONLINE       0     0     0
\t  /v/zfs/vdev/flynn-default-zpool-2.vdev  ONLINE       0     0     0

errors: No known data errors
`
  assert.deepEqual(parseDevices(status, '/v/zfs/vdev'), [
    '/v/zfs/vdev/flynn-default-zpool.vdev',
    '/v/zfs/vdev/flynn-default-zpool-2.vdev',
  ])
  assert.deepEqual(parseDevices(status, '/other'), [])
})
