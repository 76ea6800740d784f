import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { constants } from 'node:os'
import { dirname, join } from 'node:path'
import { after, before, test } from 'node:test'
import type { VolumeEvent } from '../../host/container/types.ts'
import { openDatabase } from '../../host/database.ts'
import { beginAnew, markRemoved } from '../../host/removal.ts'
import { poolFile } from '../../host/volume/pool.ts'
import { ZfsVolumeStore } from '../../host/volume/store.ts'
import { tendIntervalMs } from '../../host/volume/tend.ts'
import { poll, sleep } from '../../pkg/clock/clock.ts'
import { silentLogger } from '../../pkg/log/log.ts'
import { findMount, unmount } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { enginePaths, inOwnNamespaces } from './engine-host.ts'

inOwnNamespaces(import.meta.filename)

const paths = enginePaths()
const mib = 1024 ** 2
const soon = () => AbortSignal.timeout(30_000)
const children: ChildProcess[] = []

const stores: ZfsVolumeStore[] = []

function newStore(own = paths) {
  const made = new ZfsVolumeStore({ paths: own, log: silentLogger(), extentBytes: 512 * mib })
  stores.push(made)
  return made
}

/** Writes and makes sure that it is on the disk of the pool. */
async function writeSynced(path: string, content: string): Promise<void> {
  const file = await open(path, 'w')
  await file.writeFile(content)
  await file.sync()
  await file.close()
}

/** fsync of a file that was closed after its last write. */
async function writeSyncedAgain(path: string): Promise<void> {
  const file = await open(path, 'r+')
  await file.sync()
  await file.close()
}

let store: ZfsVolumeStore

before(async () => {
  store = newStore()
  await store.open(soon())
})

after(async () => {
  for (const child of children) child.kill('SIGKILL')
  for (const made of stores) await made.close()
})

test('the pool lies in a file that has all its blocks and that only root reads', async () => {
  const file = await stat(poolFile(paths))
  assert.equal(file.size, 512 * mib)
  assert.ok(file.blocks * 512 >= 512 * mib)
  assert.equal(file.mode & 0o777, 0o600)
  assert.equal(poolFile(paths), join(paths.volumesDir, 'zfs/vdev/flynn-default-zpool.vdev'))
})

test('a volume is mounted at its path, listed, and told of', async () => {
  const events: VolumeEvent[] = []
  store.onEvent(event => events.push(event))
  const volume = await store.create({ meta: { 'flynn-controller.app': 'a1' } })
  assert.equal(volume.path, join(paths.volumesDir, 'zfs/mnt/data', volume.id))
  await writeFile(join(volume.path, 'file'), 'content')
  assert.deepEqual(store.get(volume.id), volume)
  assert.ok(store.list().some(v => v.id === volume.id))
  await store.destroy(volume.id)
  assert.equal(store.get(volume.id), undefined)
  assert.equal(existsSync(volume.path), false)
  assert.deepEqual(
    events.map(e => [e.type, e.volume.id]),
    [
      ['create', volume.id],
      ['destroy', volume.id],
    ],
  )
})

test('a write beyond the quota gives EDQUOT', async () => {
  const volume = await store.create({ quotaBytes: 8 * mib })
  const file = await open(join(volume.path, 'big'), 'w')
  const fill = async () => {
    for (let i = 0; i < 32; i++) await file.write(Buffer.alloc(mib, i + 1))
    await file.sync()
  }
  // Node has no name for this number.
  await assert.rejects(fill(), { errno: -constants.errno.EDQUOT })
  await file.close()
  await store.destroy(volume.id)
})

test('a snapshot keeps what was, and a clone of it is a volume of its own', async () => {
  const volume = await store.create({ meta: { name: 'origin' }, quotaBytes: 64 * mib })
  await writeSynced(join(volume.path, 'file'), 'before')
  const snapshot = await store.snapshot(volume.id)
  assert.deepEqual([snapshot.type, snapshot.meta], ['snapshot', volume.meta])
  await writeSynced(join(volume.path, 'file'), 'after')
  const clone = await store.clone(snapshot.id, { name: 'clone' })
  assert.equal(await readFile(join(clone.path, 'file'), 'utf8'), 'before')
  assert.deepEqual([clone.type, clone.meta, clone.quotaBytes], ['data', { name: 'clone' }, 64 * mib])
  await writeSynced(join(clone.path, 'file'), 'mine')
  assert.equal(await readFile(join(volume.path, 'file'), 'utf8'), 'after')
  await assert.rejects(store.destroy(volume.id), { code: 'conflict', message: new RegExp(snapshot.id) })
  await assert.rejects(store.destroy(snapshot.id), { code: 'conflict', message: new RegExp(clone.id) })
  assert.equal(await readFile(join(volume.path, 'file'), 'utf8'), 'after')
  for (const id of [clone.id, snapshot.id, volume.id]) await store.destroy(id)
})

test('a new store finds volumes, snapshots and their meta in the pool alone', async () => {
  const meta = { 'flynn-controller.app': 'a2', path: '/data', note: 'x'.repeat(2000) }
  const volume = await store.create({ meta, quotaBytes: 16 * mib })
  const snapshot = await store.snapshot(volume.id)
  const second = newStore()
  await second.open(soon())
  assert.deepEqual(second.get(volume.id), volume)
  assert.deepEqual(second.get(snapshot.id), snapshot)
  await second.close()
  await store.destroy(snapshot.id)
  await store.destroy(volume.id)
})

test('a volume that a container has mounted is not destroyed and stays usable', async () => {
  const volume = await store.create()
  const child = spawn('unshare', ['--mount', '--propagation', 'private', 'sleep', 'infinity'], {
    stdio: 'ignore',
  })
  children.push(child)
  await poll(async () => (await readFile(`/proc/${child.pid}/comm`, 'utf8')).trim() === 'sleep', {
    timeoutMs: 20_000,
    what: 'a mount namespace',
  })
  await assert.rejects(store.destroy(volume.id), { code: 'conflict', message: /in use/ })
  await writeFile(join(volume.path, 'still'), 'usable')
  child.kill('SIGKILL')
  await poll(() => store.destroy(volume.id).then(() => true), { timeoutMs: 20_000, what: 'the destroy' })
})

test('a volume with an open file is not destroyed and stays usable', async () => {
  const volume = await store.create()
  const file = await open(join(volume.path, 'open'), 'w')
  await assert.rejects(store.destroy(volume.id), { code: 'conflict', message: /in use/ })
  await file.write('still')
  await file.close()
  assert.equal(await readFile(join(volume.path, 'open'), 'utf8'), 'still')
  await store.destroy(volume.id)
})

test('bad requests are refused by code and make nothing', async () => {
  const before = store.list().length
  await assert.rejects(store.create({ id: '../x' }), { code: 'validation_error' })
  await assert.rejects(store.create({ quotaBytes: -1 }), { code: 'validation_error' })
  await assert.rejects(store.create({ meta: { x: 'x'.repeat(100_000) } }), { code: 'validation_error' })
  await assert.rejects(store.destroy('nope'), { code: 'object_not_found' })
  await assert.rejects(store.snapshot('nope'), { code: 'object_not_found' })
  const volume = await store.create({ id: 'once' })
  await assert.rejects(store.create({ id: 'once' }), { code: 'object_exists' })
  await assert.rejects(store.clone(volume.id), { code: 'validation_error' })
  await store.destroy(volume.id)
  assert.equal(store.list().length, before)
})

test('a volume whose path is taken is not half-made', async () => {
  const path = join(paths.volumesDir, 'zfs/mnt/data/taken')
  await mkdir(path, { recursive: true })
  await writeFile(join(path, 'foreign'), '')
  await assert.rejects(store.create({ id: 'taken' }), { code: 'volume_failed' })
  assert.equal(store.get('taken'), undefined)
  await rm(path, { recursive: true })
  await store.create({ id: 'taken' })
  await store.destroy('taken')
})

test('volumes come back when zfs-fuse is killed, with what was synced', async () => {
  const volume = await store.create()
  await writeSynced(join(volume.path, 'file'), 'synced')
  const pid = store.daemonPid ?? 0
  process.kill(pid, 'SIGKILL')
  await poll(async () => (await readFile(join(volume.path, 'file'), 'utf8')) === 'synced', {
    timeoutMs: 20_000,
    what: 'the volume',
  })
  assert.notEqual(store.daemonPid, pid)
  await store.destroy(volume.id)
})

/** Changes with each transaction group that the store ends, and is read without asking the pool for a file. */
async function commitMark(): Promise<string> {
  return (await run(['zfs', 'get', '-H', '-o', 'value', 'flynn:commit', 'flynn-default/data'])).stdout
}

test('what zfs-fuse forgot to sync is on the disk some seconds later all the same', async () => {
  const volume = await store.create()
  const path = join(volume.path, 'file')
  let before = await commitMark()
  await writeFile(path, 'written, closed')
  // Through a new descriptor, which does nothing there.
  await writeSyncedAgain(path)
  // The first may have begun before the write.
  for (let turns = 0; turns < 2; turns++) {
    await poll(async () => (await commitMark()) !== before, {
      timeoutMs: 60_000,
      what: 'a transaction group',
    })
    before = await commitMark()
  }
  const pid = store.daemonPid
  assert.ok(pid)
  process.kill(pid, 'SIGKILL')
  await poll(async () => store.daemonPid !== pid && (await readFile(path, 'utf8')) === 'written, closed', {
    timeoutMs: 60_000,
    what: 'the file in the pool of a new zfs-fuse',
  })
  await store.destroy(volume.id)
})

test('a pool that nobody asks for anything is left alone, until the next write', async () => {
  const volume = await store.create()
  await writeFile(join(volume.path, 'file'), 'first')
  let mark = await commitMark()
  let since = performance.now()
  const isLeftAlone = async () => {
    const now = await commitMark()
    if (now !== mark) [mark, since] = [now, performance.now()]
    return performance.now() - since > 3 * tendIntervalMs
  }
  await poll(isLeftAlone, { timeoutMs: 60_000, intervalMs: 100, what: 'no more transaction groups' })
  await writeFile(join(volume.path, 'file'), '2')
  await poll(async () => (await commitMark()) !== mark, { timeoutMs: 60_000, what: 'a transaction group' })
  await store.destroy(volume.id)
})

test('zfs-fuse forgets nothing of a file that somebody holds open', async t => {
  const volume = await store.create()
  const files = Array.from({ length: 200 }, (_, n) => join(volume.path, `file-${n}`))
  for (const file of files) {
    await writeFile(file, '')
    const held = await open(file)
    // Of the zfs-fuse that is gone by then: closing it fails.
    t.after(() => held.close().catch(() => undefined))
    await writeFile(file, 'written, closed')
    await writeSyncedAgain(file)
  }
  const pid = store.daemonPid
  assert.ok(pid)
  process.kill(pid, 'SIGKILL')
  const texts = async () => Promise.all(files.map(file => readFile(file, 'utf8')))
  await poll(async () => store.daemonPid !== pid && (await texts()).length > 0, {
    timeoutMs: 60_000,
    what: 'the files in the pool of a new zfs-fuse',
  })
  assert.deepEqual(
    (await texts()).filter(text => text !== 'written, closed'),
    [],
  )
})

test('one volume that cannot be mounted stops no other, and is not offered', async () => {
  const [good, bad] = [await store.create(), await store.create()]
  const second = newStore()
  await unmount(bad.path)
  await writeFile(join(bad.path, 'foreign'), '')
  await second.open(soon())
  assert.equal(second.get(bad.id), undefined)
  assert.equal(second.get(good.id)?.path, good.path)
  await second.close()
  await rm(join(bad.path, 'foreign'))
  await run(['zfs', 'mount', `flynn-default/data/${bad.id}`])
  for (const volume of [good, bad]) await store.destroy(volume.id)
})

test('an exported pool is imported again from its file', async () => {
  const volume = await store.create({ meta: { name: 'kept' } })
  await writeSynced(join(volume.path, 'file'), 'kept')
  await run(['zpool', 'export', 'flynn-default'])
  assert.equal(await findMount(volume.path), undefined)
  const second = newStore()
  await second.open(soon())
  assert.equal(second.get(volume.id)?.meta['name'], 'kept')
  assert.equal(await readFile(join(volume.path, 'file'), 'utf8'), 'kept')
  await second.close()
  await store.destroy(volume.id)
})

test('a file that is not a pool is never overwritten', async () => {
  const volumesDir = join(paths.stateDir, 'other')
  const other = { ...paths, volumesDir, zpool: 'other' }
  await mkdir(join(volumesDir, 'zfs/vdev'), { recursive: true })
  await writeFile(poolFile(other), 'precious')
  const second = newStore(other)
  await assert.rejects(second.open(soon()), { code: 'pool' })
  assert.equal(await readFile(poolFile(other), 'utf8'), 'precious')
})

/** Writes so many megabytes that no two are alike, synced. */
async function writeMegabytes(path: string, count: number): Promise<void> {
  const file = await open(path, 'w')
  try {
    for (let i = 0; i < count; i++) await file.write(randomBytes(mib))
    await file.sync()
  } finally {
    await file.close()
  }
}

const sha256 = async (path: string) => (await run(['sha256sum', path])).stdout.split(' ')[0]

test('on a disk that is full a volume takes what its pool has room for, and loses nothing', async () => {
  const volumesDir = join(paths.stateDir, 'small')
  await mkdir(volumesDir)
  await run(['mount', '-t', 'tmpfs', '-o', 'size=700m', 'small', volumesDir])
  const small = { ...paths, volumesDir, zpool: 'small' }
  const tight = new ZfsVolumeStore({ paths: small, log: silentLogger(), extentBytes: 256 * mib })
  await tight.open(soon())
  const volume = await tight.create()
  const filler = join(volumesDir, 'filler')
  await assert.rejects(writeMegabytes(filler, 700), { code: 'ENOSPC' })
  const file = join(volume.path, 'file')
  await writeMegabytes(file, 150)
  const sum = await sha256(file)
  // Beyond what there is, the writer hears of it, and nobody else does.
  await assert.rejects(writeMegabytes(join(volume.path, 'more'), 200), { code: 'ENOSPC' })
  await rm(join(volume.path, 'more'))
  await tight.close()
  await run(['zpool', 'export', 'small'], { timeoutMs: 60_000 })
  const again = new ZfsVolumeStore({ paths: small, log: silentLogger(), extentBytes: 256 * mib })
  await again.open(soon())
  assert.equal(await sha256(file), sum)
  const status = (await run(['zpool', 'status', 'small'])).stdout
  assert.match(status, /errors: No known data errors/)
  await again.close()
  await run(['zpool', 'export', 'small'], { timeoutMs: 60_000 })
  await unmount(volumesDir)
})

test('a pool that is nearly full grows by another file, and is found again with both', async () => {
  const volume = await store.create({ meta: { name: 'large' } })
  const file = join(volume.path, 'file')
  await writeMegabytes(file, 300)
  const second = poolFile(paths, 2)
  await poll(() => existsSync(second), { timeoutMs: 60_000, what: 'a second file of the pool' })
  assert.equal((await stat(second)).mode & 0o777, 0o600)
  await poll(async () => (await run(['zpool', 'status', paths.zpool])).stdout.includes(second), {
    timeoutMs: 60_000,
    what: 'the pool to have it',
  })
  // More than the first file has.
  await writeMegabytes(join(volume.path, 'more'), 300)
  const sum = await sha256(file)
  await endZfs(volume.path)
  store = newStore()
  await store.open(soon())
  assert.equal(await sha256(file), sum)
  await store.destroy(volume.id)
})

/** As after a power cut: no zfs-fuse, and none of its mounts. */
async function endZfs(volume: string): Promise<void> {
  const pid = store.daemonPid
  assert.ok(pid)
  await store.close()
  process.kill(pid, 'SIGTERM')
  await poll(() => !existsSync(`/proc/${pid}`), { timeoutMs: 10_000, what: 'zfs-fuse to end' })
  if (await findMount(volume)) await unmount(volume)
}

for (const off of [false, true])
  test(`a removed host begins anew while ZFS is ${off ? 'off' : 'on'}, and its old volumes can be had by hand`, async () => {
    const old = await store.create()
    await writeSynced(join(old.path, 'file'), `off: ${off}`)
    const database = openDatabase(paths.databaseFile)
    markRemoved(database)
    database.close()
    if (off) await endZfs(old.path)
    else await store.close()
    const aside = await beginAnew(paths)
    assert.ok(aside)
    assert.equal(existsSync(paths.databaseFile), false)
    assert.equal(existsSync(poolFile(paths)), false)
    assert.equal(await beginAnew(paths), undefined)
    store = newStore()
    await store.open(soon())
    assert.deepEqual(store.list(), [])
    const volume = await store.create()
    await writeSynced(join(volume.path, 'file'), 'new')
    // docs/recovery.md
    const root = join(paths.stateDir, 'old')
    await run(['zpool', 'import', '-R', root, '-d', dirname(aside), 'flynn-default', 'old'])
    assert.equal(await readFile(join(root, old.path, 'file'), 'utf8'), `off: ${off}`)
    await run(['zpool', 'export', 'old'])
    await store.destroy(volume.id)
  })

test('the pool of a removed host stays where it is as long as something uses it', async () => {
  const volume = await store.create()
  const file = await open(join(volume.path, 'file'), 'w')
  const database = openDatabase(paths.databaseFile)
  markRemoved(database)
  database.close()
  await assert.rejects(beginAnew(paths), { code: 'pool_busy' })
  assert.ok(existsSync(poolFile(paths)))
  assert.ok(existsSync(paths.databaseFile))
  await file.close()
  await store.destroy(volume.id)
  await rm(paths.databaseFile)
})

test('twenty volumes are made and destroyed at once', async () => {
  const made = await Promise.all(Array.from({ length: 20 }, () => store.create()))
  await sleep(0)
  await Promise.all(made.map(volume => store.destroy(volume.id)))
  for (const volume of made) assert.equal(existsSync(volume.path), false)
})
