import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { silentLogger } from '../pkg/log/log.ts'
import { Snapshot } from './snapshot.ts'
import { changeTable, desiredOf, emptyTable } from './table.core.ts'
import { ticketKeys } from './tickets.ts'

const times = { created_at: '2026-01-01T00:00:00Z', updated_at: '2026-01-01T00:00:00Z' }
const route = { type: 'http', id: 'r', service: 'web', leader: true, domain: 'a.test', ...times } as const
const instance = { id: 'i', addr: '10.0.0.1:80', proto: 'tcp', meta: { FLYNN_JOB_ID: 'j' } }
/** More than are written at once. */
const others = Array.from({ length: 600 }, (_, n) => ({ ...route, id: `r${n}`, domain: `a${n}.test` }))
const table = changeTable(changeTable(emptyTable, { kind: 'sync', routes: [route, ...others] }), {
  kind: 'service',
  service: 'web',
  state: { instances: new Map([['i', instance]]), leaderId: 'i' },
})

test('a table read back leads to the same wishes', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'flynn-snapshot-'))
  t.after(() => rm(dir, { recursive: true }))
  const path = join(dir, 'state', 'table.json')
  const snapshot = new Snapshot(path, silentLogger())
  assert.equal(await snapshot.read(), undefined)
  snapshot.save(table)
  await snapshot.close()
  const read = await new Snapshot(path, silentLogger()).read()
  assert.deepEqual(read && desiredOf(read), desiredOf(table))
  assert.equal((await stat(path)).mode & 0o777, 0o600)
  assert.ok(!(await readFile(path, 'utf8')).includes('undefined'))
})

test('a snapshot that cannot be read is as good as none', async t => {
  const dir = await mkdtemp(join(tmpdir(), 'flynn-snapshot-'))
  t.after(() => rm(dir, { recursive: true }))
  const path = join(dir, 'table.json')
  for (const text of ['', '{"half', '{"format":"other","routes":[],"services":{}}']) {
    await writeFile(path, text)
    assert.equal(await new Snapshot(path, silentLogger()).read(), undefined)
  }
})

test('ticket keys are the same on every router, and today’s is tomorrow’s yesterday', () => {
  const key = Buffer.alloc(32, 5).toString('base64')
  const today = ticketKeys(key, new Date('2026-05-01T12:00:00Z'))
  assert.deepEqual(today, ticketKeys(key, new Date('2026-05-01T00:00:01Z')))
  assert.deepEqual(today.slice(1), ticketKeys(key, new Date('2026-05-02T12:00:00Z')).slice(0, 2))
  assert.ok(today.every(k => Buffer.from(k, 'base64').length === 80))
  assert.notDeepEqual(
    today,
    ticketKeys(Buffer.alloc(32, 6).toString('base64'), new Date('2026-05-01T12:00:00Z')),
  )
})
