import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { after, test } from 'node:test'
import { openLogFile } from './file.ts'
import { createLogger } from './log.ts'

const dir = mkdtempSync(join(tmpdir(), 'log-file-'))
after(() => rmSync(dir, { recursive: true }))

test('a full file is put aside, and the one before that is gone', () => {
  const path = join(dir, 'rotated')
  const file = openLogFile(path, 10)
  for (const line of ['first\n', 'two\n', 'third\n', 'four\n', 'five\n']) file.write(line)
  assert.equal(readFileSync(`${path}.1`, 'utf8'), 'third\n')
  assert.equal(readFileSync(path, 'utf8'), 'four\nfive\n')
})

test('a file that was there is continued, and counts', () => {
  const path = join(dir, 'continued')
  openLogFile(path, 10).write('before\n')
  const file = openLogFile(path, 10)
  file.write('now\n')
  assert.equal(readFileSync(`${path}.1`, 'utf8'), 'before\n')
  assert.equal(readFileSync(path, 'utf8'), 'now\n')
})

test('a line longer than a file is a file', () => {
  const path = join(dir, 'long')
  openLogFile(path, 3).write('longer\n')
  assert.equal(readFileSync(path, 'utf8'), 'longer\n')
})

test('a full disk takes no line and ends no process', () => {
  const log = createLogger({ component: 'test', file: '/dev/full' })
  log.info('lost')
  log.info('lost too')
})

test('lines that the disk did not take are told when it takes one again', () => {
  const path = join(dir, 'told')
  const file = openLogFile(path, 6)
  file.write('first\n')
  mkdirSync(`${path}.1`)
  file.write('lost\n')
  file.write('lost too\n')
  assert.equal(readFileSync(path, 'utf8'), 'first\n')
  rmdirSync(`${path}.1`)
  file.write('then\n')
  const [empty, told, line] = readFileSync(path, 'utf8').split('\n')
  assert.deepEqual([empty, line], ['', 'then'])
  assert.equal((JSON.parse(told ?? '') as { lines: number }).lines, 2)
})
