// Layers made from directories as `flynn deploy` makes them, read back with unsquashfs.
import assert from 'node:assert/strict'
import {
  chmod,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  utimes,
  writeFile,
} from 'node:fs/promises'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { after, before, beforeEach, test } from 'node:test'
import { hashFile, packLayer, squashTree } from '../../pkg/image/pack.ts'
import { run } from '../../pkg/proc/run.ts'

let place: string
let dir: string
let out: string
let counter = 0

before(async () => {
  place = await mkdtemp('/var/tmp/pack-test-')
})
after(() => rm(place, { recursive: true, force: true }))

beforeEach(async () => {
  counter += 1
  dir = join(place, `app${counter}`)
  out = join(place, `app${counter}.squashfs`)
  await mkdir(join(dir, 'node_modules/x'), { recursive: true })
  await writeFile(join(dir, 'server.js'), 'serve()\n', { mode: 0o755 })
  await writeFile(join(dir, 'node_modules/x/index.js'), 'x\n')
  await writeFile(join(dir, 'empty'), '')
  await writeFile(join(dir, 'großer Name.txt'), 'y'.repeat(300_000))
  await symlink('server.js', join(dir, 'link'))
  await utimes(join(dir, 'server.js'), 1_700_000_000, 1_700_000_000)
})

async function unpacked(): Promise<string> {
  const target = `${out}.d`
  await run(['unsquashfs', '-quiet', '-no-progress', '-dest', target, out])
  return target
}

test('a layer is named by the hash of its file', async () => {
  const layer = await packLayer(dir, out)
  const { hash, length } = await hashFile(out)
  assert.deepEqual([layer.id, layer.length, layer.hashes], [hash, length, { sha512_256: hash }])
})

test('a layer holds contents, links, modes and times of a directory under its prefix', async () => {
  await packLayer(dir, out, { prefix: '/app' })
  const root = await unpacked()
  assert.deepEqual(await readdir(root), ['app'])
  assert.equal((await readFile(join(root, 'app/großer Name.txt'))).length, 300_000)
  assert.equal((await readFile(join(root, 'app/empty'))).length, 0)
  assert.equal(await readFile(join(root, 'app/link'), 'utf8'), 'serve()\n')
  const server = await stat(join(root, 'app/server.js'))
  assert.deepEqual([server.mode & 0o777, server.uid, server.mtimeMs], [0o755, 0, 1_700_000_000_000])
})

test('an excluded directory takes its contents along', async () => {
  const seen: string[] = []
  const exclude = (path: string, isDirectory: boolean) => {
    seen.push(path)
    return isDirectory && path === 'node_modules'
  }
  await packLayer(dir, out, { exclude })
  assert.deepEqual((await readdir(await unpacked())).sort(), [
    'empty',
    'großer Name.txt',
    'link',
    'server.js',
  ])
  assert.ok(!seen.some(path => path.startsWith('node_modules/')))
})

test('the same directory gives the same layer, and a changed one another', async () => {
  const first = await packLayer(dir, out)
  const second = await packLayer(dir, `${out}.2`)
  assert.equal(second.id, first.id)
  await writeFile(join(dir, 'server.js'), 'serve(1)\n')
  assert.notEqual((await packLayer(dir, `${out}.3`)).id, first.id)
})

test('what a layer cannot hold is reported and left out', async () => {
  const server = createServer().listen(join(dir, 'socket'))
  try {
    const skipped: string[] = []
    await packLayer(dir, out, { onSkip: path => skipped.push(path) })
    assert.deepEqual(skipped, ['socket'])
  } finally {
    server.close()
  }
})

test('setuid bits do not get into a layer', async () => {
  await chmod(join(dir, 'server.js'), 0o4755)
  await packLayer(dir, out)
  assert.equal((await stat(join(await unpacked(), 'server.js'))).mode & 0o7777, 0o755)
})

test('a directory that is none is refused', async () => {
  await assert.rejects(packLayer(join(dir, 'server.js'), out), { code: 'not_a_directory' })
  await assert.rejects(packLayer(join(dir, 'nowhere'), out), { code: 'not_a_directory' })
})

test('a place that cannot be written is named in the error, and nothing is left behind', async () => {
  await assert.rejects(packLayer(dir, join(place, 'nowhere/a.squashfs')), { code: 'pack_failed' })
  await assert.rejects(packLayer(dir, out, { signal: AbortSignal.abort() }))
  assert.ok(!(await readdir(place)).some(name => name.startsWith(`app${counter}.squashfs`)))
})

test('without squashfs-tools the error says what to install', async () => {
  const path = process.env['PATH']
  process.env['PATH'] = '/nowhere'
  try {
    await assert.rejects(packLayer(dir, out), { code: 'squashfs_tools_missing' })
  } finally {
    process.env['PATH'] = path
  }
})

test('equal trees give equal layers whatever their times', async () => {
  const first = await squashTree(dir, out)
  await utimes(join(dir, 'server.js'), 1_600_000_000, 1_600_000_000)
  assert.equal((await squashTree(dir, `${out}.2`)).id, first.id)
})
