// The host's database on a disk that has no block left.
import assert from 'node:assert/strict'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type HostDatabase, openDatabase } from '../../host/database.ts'
import { JobTable } from '../../host/job/table.ts'
import { unmount } from '../../pkg/mount/mount.ts'
import { run } from '../../pkg/proc/run.ts'
import { enginePaths, inOwnNamespaces } from './engine-host.ts'

inOwnNamespaces(import.meta.filename)

const dir = enginePaths().stateDir
const disk = join(dir, 'disk')
const file = join(disk, 'host.sqlite')
const filler = join(disk, 'filler')
let database: HostDatabase

/** Until not one more byte can be written. */
async function fill(): Promise<void> {
  const handle = await open(filler, 'a')
  try {
    for (let bytes = 1024 ** 2; bytes >= 1; bytes = Math.floor(bytes / 2))
      while (
        await handle.appendFile(Buffer.alloc(bytes, 1)).then(
          () => true,
          (e: NodeJS.ErrnoException) => {
            assert.equal(e.code, 'ENOSPC')
            return false
          },
        )
      );
  } finally {
    await handle.close()
  }
}

before(async () => {
  const image = join(dir, 'disk.img')
  await run(['truncate', '--size', '64M', image])
  await run(['mkfs.ext4', '-q', '-m', '0', image])
  await run(['mkdir', disk])
  await run(['mount', '-o', 'loop', image, disk])
  database = openDatabase(file)
  await fill()
})

after(async () => {
  database?.close()
  await unmount(disk)
})

function newTable(): JobTable {
  return new JobTable(database, 'h1', e => assert.fail(String(e)))
}

/** Begins and ends jobs whose records are as large as those of an app with many variables. */
function liveThrough(table: JobTable, from: number, count: number): void {
  const env = { NOTE: 'x'.repeat(8_000) }
  for (let n = from; n < from + count; n++) {
    table.add({ id: `h1-${n}`, config: { args: ['true'], env } })
    table.change(`h1-${n}`, { type: 'failed', at: new Date(), error: 'no space left' })
  }
}

test('a hundred jobs begin and end on a full disk', () => {
  liveThrough(newTable(), 0, 100)
  database.setSetting('boot', 'b1')
  assert.equal(newTable().list().length, 100)
})

test('a daemon that ends and starts again on a full disk finds all of it', async () => {
  database.close()
  // What its log had is another's now.
  await fill()
  database = openDatabase(file)
  assert.equal(newTable().list().length, 100)
  assert.equal(database.getSetting('boot'), 'b1')
  database.setSetting('boot', 'b2')
  liveThrough(newTable(), 100, 5)
})

test('the room is made again when there is space, and serves the next time', async () => {
  await rm(filler)
  database.close()
  database = openDatabase(file)
  await fill()
  assert.equal(newTable().list().length, 105)
  liveThrough(newTable(), 105, 100)
  database.close()
  database = openDatabase(file)
  assert.equal(database.getSetting('boot'), 'b2')
})
