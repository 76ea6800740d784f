// The image builder as a whole, on a copy of the sources: what is built again, and whether it comes out the same.
// Needs this machine's package sources.
import assert from 'node:assert/strict'
import { appendFile, cp, mkdir, mkdtemp, readFile, rm, symlink } from 'node:fs/promises'
import { join } from 'node:path'
import { after, before, test } from 'node:test'
import { type BuildReport, buildImages } from '../../images/build.ts'
import type { Images } from '../../pkg/image/types.ts'

const checkout = join(import.meta.dirname, '../..')
const component = 'blobstore'
let dir: string
let repository: string

before(async () => {
  dir = await mkdtemp('/var/tmp/images-test-')
  repository = join(dir, 'sources')
  await mkdir(repository)
  for (const name of ['pkg', 'images', component, 'package.json'])
    await cp(join(checkout, name), join(repository, name), { recursive: true })
  // Other components' doors are all that a component imports of them.
  for (const name of ['discoverd', 'logaggregator', 'controller', 'host', 'status', 'appliance'])
    await cp(join(checkout, name), join(repository, name), { recursive: true })
  await symlink(join(checkout, 'node_modules'), join(repository, 'node_modules'))
})

after(() => rm(dir, { recursive: true, force: true }))

function build(out: string, lines: string[] = []): Promise<BuildReport> {
  const say = (line: string) => void lines.push(line)
  return buildImages({
    repository,
    out: join(dir, out),
    only: [component],
    strict: true,
    refresh: false,
    say,
  })
}

async function layerIds(out: string): Promise<readonly string[]> {
  const images = JSON.parse(await readFile(join(dir, out, 'images.json'), 'utf8')) as Images
  return images[component]?.manifest?.rootfs?.[0]?.layers?.map(layer => layer.id) ?? []
}

test('two builds from nothing give byte-identical layers', async () => {
  const first = await build('one')
  assert.deepEqual(
    first.built.map(layer => layer.name),
    ['node', 'node-base', component],
  )
  await build('two')
  assert.equal((await layerIds('one')).length, 3)
  assert.deepEqual(await layerIds('one'), await layerIds('two'))
})

test('a second build of the same sources builds nothing', async () => {
  const again = await build('one')
  assert.deepEqual([again.built, again.bundled], [[], []])
  assert.equal(again.kept.length, 3)
})

test('a comment in a source makes a new bundle but no new layer', async () => {
  await appendFile(join(repository, component, 'main.ts'), '// nothing\n')
  const again = await build('one')
  assert.deepEqual(again.bundled, [`flynn-${component}`])
  assert.deepEqual(again.built, [])
})

test('one changed line builds one layer', async () => {
  const before = await layerIds('one')
  await appendFile(join(repository, component, 'main.ts'), 'process.env["TZ"] ??= "UTC"\n')
  const again = await build('one')
  assert.deepEqual(
    again.built.map(layer => layer.name),
    [component],
  )
  const now = await layerIds('one')
  assert.deepEqual(now.slice(0, 2), before.slice(0, 2))
  assert.notEqual(now[2], before[2])
})

test('a layer file that is gone is built again with the same id', async () => {
  const ids = await layerIds('one')
  await rm(join(dir, 'one/layers', `${ids[0]}.squashfs`))
  const again = await build('one')
  assert.deepEqual(
    again.built.map(layer => layer.name),
    ['node'],
  )
  assert.deepEqual(await layerIds('one'), ids)
})

test('two builds at once in one place wait for each other', async () => {
  const reports = await Promise.all([build('one'), build('one')])
  assert.deepEqual(
    reports.map(report => report.built.length),
    [0, 0],
  )
})

test('strict building names the file that a component lacks', async () => {
  await rm(join(repository, component, 'main.ts'))
  await assert.rejects(build('one'), { code: 'entry_missing' })
})
