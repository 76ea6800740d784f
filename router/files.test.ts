// The files that HAProxy starts from are changed in place where a table only grew: whatever was changed before, they say
// what those of a router say that starts with the same table.
import assert from 'node:assert/strict'
import { appendFile, mkdtemp, readdir, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Route } from '../controller/types.ts'
import { type Random, seededRandom } from '../pkg/random/random.core.ts'
import { LayoutFiles } from './files.ts'
import type { Layout } from './maps.core.ts'
import { readSettings } from './settings.ts'
import {
  assignSlots,
  changeTable,
  desiredOf,
  emptyTable,
  poolFor,
  type Table,
  type TableChange,
} from './table.core.ts'

const COOKIE_KEY = Buffer.alloc(32, 7).toString('base64')
const times = { created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z' }

async function filesIn(t: TestContext): Promise<{ readonly dir: string; readonly files: LayoutFiles }> {
  const dir = await mkdtemp(join(tmpdir(), 'flynn-router-'))
  t.after(() => rm(dir, { recursive: true, force: true }))
  return { dir, files: new LayoutFiles({ ...(await readSettings({ COOKIE_KEY }, {})), dir }) }
}

/** Text of each file, lines in order: where a line stands means nothing in those that may differ. */
async function textsIn(dir: string): Promise<Readonly<Record<string, string>>> {
  const found: Record<string, string> = {}
  for (const entry of await readdir(dir, { withFileTypes: true, recursive: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    const lines = (await readFile(path, 'utf8')).replaceAll(dir, '')
    found[path.slice(dir.length)] = lines.split('\n').sort().join('\n')
  }
  return found
}

function layoutOf(table: Table, slots: Readonly<Record<string, string>>): Layout {
  const desired = desiredOf(table)
  const assigned = assignSlots(slots, desired.backends.values(), new Set())
  const pool = poolFor({ b: 4, s: 1, n: 1, t: 1 }, assigned)
  return { desired, slots: assigned, pool, tcpPorts: [], generation: '' }
}

/** Few names of each kind, so that changes meet: routes with the same place, certificates with several hosts. */
function randomChange(random: Random): TableChange {
  const pick = <T>(...of: readonly T[]): T => of[random.below(of.length)] as T
  const id = `r${pick(1, 2, 3, 4, 5, 6, 7, 8)}`
  const tcp = pick(true, false, false, false)
  const certificate = { id: pick('c1', 'c2', 'c3'), cert: pick('x', 'y'), key: 'k', ...times }
  const route: Route = {
    type: tcp ? 'tcp' : 'http',
    id,
    service: pick('a', 'b'),
    leader: false,
    ...times,
    ...(tcp
      ? { port: pick(3000, 3001) }
      : {
          domain: pick('a.test', 'b.test', '*.test', '*', 'c.test'),
          path: pick('/', '/p'),
          sticky: pick(true, false),
          ...(pick(true, false) ? { certificate } : {}),
        }),
  }
  return { kind: pick('set', 'set', 'set', 'remove'), route }
}

test('after any change the files say what those of a new router would', async t => {
  for (let seed = 1; seed <= 15; seed++) {
    const random = seededRandom([seed, 3, 5, 7])
    const { dir, files } = await filesIn(t)
    let table = emptyTable
    let slots: Readonly<Record<string, string>> = {}
    const seen: { readonly table: Table; readonly slots: typeof slots; readonly texts: unknown }[] = []
    for (let change = 0; change < 12; change++) {
      table = changeTable(table, randomChange(random))
      const layout = layoutOf(table, slots)
      slots = layout.slots
      await files.write(layout)
      seen.push({ table, slots, texts: await textsIn(dir) })
    }
    for (const [change, { table, slots, texts }] of seen.entries()) {
      const fresh = await filesIn(t)
      await fresh.files.write(layoutOf(structuredClone(table), slots))
      assert.deepEqual(texts, await textsIn(fresh.dir), `seed ${seed}, change ${change}`)
    }
  }
})

test('a route more is a line more at the end of its map', async t => {
  const { dir, files } = await filesIn(t)
  const map = join(dir, 'http.map')
  const route = (domain: string): Route => ({
    type: 'http',
    id: domain,
    domain,
    service: 'a',
    leader: false,
    ...times,
  })
  const one = changeTable(emptyTable, { kind: 'set', route: route('one.test') })
  await files.write(layoutOf(one, {}))
  // What is not written anew keeps it.
  await appendFile(map, '# seen\n')
  const two = changeTable(one, { kind: 'set', route: route('two.test') })
  await files.write(layoutOf(two, {}))
  assert.equal(await readFile(map, 'utf8'), 'one.test/ b1|one.test\n# seen\ntwo.test/ b1|two.test\n')
  await files.write(layoutOf(changeTable(two, { kind: 'remove', route: route('one.test') }), {}))
  assert.equal(await readFile(map, 'utf8'), 'two.test/ b1|two.test\n')
})
