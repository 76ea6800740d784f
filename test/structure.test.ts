import assert from 'node:assert/strict'
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { test } from 'node:test'
import {
  codeOnly,
  componentOf,
  coreViolations,
  fileLinesMax,
  folderViolations,
  importsOf,
  importViolations,
  type Sources,
  sizeViolations,
  testLinesMax,
} from './structure.ts'

const root = join(import.meta.dirname, '..')
const skipped = ['node_modules', 'build', 'examples', '.git']

function readSources(folder = ''): Map<string, string> {
  const sources = new Map<string, string>()
  for (const entry of readdirSync(join(root, folder), { withFileTypes: true })) {
    const path = folder === '' ? entry.name : `${folder}/${entry.name}`
    if (entry.isDirectory() && !skipped.includes(entry.name))
      for (const [inner, source] of readSources(path)) sources.set(inner, source)
    if (entry.isFile() && path.endsWith('.ts')) sources.set(path, readFileSync(join(root, path), 'utf8'))
  }
  return sources
}

const checkout: Sources = readSources()
const of = (files: Readonly<Record<string, string>>): Sources => new Map(Object.entries(files))

test('imports of this checkout run downhill only', () => {
  assert.ok(checkout.size > 50, 'the checkout was read')
  assert.deepEqual(importViolations(checkout), [])
})

test('pure cores of this checkout reach no clock, randomness or I/O', () => {
  assert.deepEqual(coreViolations(checkout), [])
})

test('files of this checkout are one noun long', () => {
  assert.deepEqual(sizeViolations(checkout), [])
})

test('folders of this checkout are named by nouns', () => {
  assert.deepEqual(folderViolations(checkout.keys()), [])
})

test('an import of another component goes through client.ts or types.ts', () => {
  const through = (specifier: string) =>
    importViolations(of({ 'router/main.ts': `import { a } from '${specifier}'` }))
  assert.deepEqual(through('../discoverd/client.ts'), [])
  assert.deepEqual(through('../discoverd/types.ts'), [])
  assert.deepEqual(through('../pkg/log/log.ts'), [])
  assert.deepEqual(through('./api.ts'), [])
  assert.equal(through('../discoverd/watch.ts').length, 1)
  assert.equal(through('../controller/api/types.ts').length, 1)
  assert.equal(through('../test/cluster/cluster.ts').length, 1)
  assert.equal(through('../main.ts').length, 1)
})

test('pkg imports no component, not even its client', () => {
  assert.equal(importViolations(of({ 'pkg/a/a.ts': `import '../../host/client.ts'` })).length, 1)
})

test('tests and images import what they need, and a unit test may use fixtures', () => {
  const free = { 'test/a.ts': `import '../host/job/table.ts'`, 'images/a.ts': `import '../host/paths.ts'` }
  assert.deepEqual(importViolations(of(free)), [])
  assert.deepEqual(importViolations(of({ 'host/a.test.ts': `import '../test/fixtures/a.ts'` })), [])
  assert.equal(importViolations(of({ 'host/a.test.ts': `import '../router/map.ts'` })).length, 1)
})

test('two appliances are two components', () => {
  assert.equal(componentOf('appliance/postgresql/main.ts'), 'appliance/postgresql')
  const sources = of({ 'appliance/redis/main.ts': `import { a } from '../postgresql/api.ts'` })
  assert.equal(importViolations(sources).length, 1)
})

test('every form of import is found, and none in comments or strings', () => {
  const source = `import a, { b } from './one.ts'
import type { C } from './two.ts'
import {
  d,
} from './three.ts'
import './four.ts'
export * from './five.ts'
export type { E } from './six.ts'
const f = await import('./seven.ts')
// import './no.ts'
/* import './no.ts' */
const text = "import './no.ts'"
const type = 1
`
  const found = importsOf(source)
  assert.deepEqual(
    found.map(i => i.from),
    ['./one.ts', './two.ts', './three.ts', './four.ts', './five.ts', './six.ts', './seven.ts'],
  )
  assert.deepEqual(
    found.filter(i => i.typeOnly).map(i => i.from),
    ['./two.ts', './six.ts'],
  )
})

test('a core that looks at the clock, draws lots, waits or reaches out is caught', () => {
  for (const code of [
    'const t = Date.now()',
    'const t = new Date()',
    'const t = +new Date',
    'const r = Math.random()',
    'const t = performance.now()',
    "const e = process.env['A']",
    'setTimeout(f, 1)',
    'const id = crypto.randomUUID()',
    "await fetch('http://x')",
    // biome-ignore lint/suspicious/noTemplateCurlyInString: the source under test holds a template
    'const s = `at ${Date.now()}`',
    "import { readFileSync } from 'node:fs'",
    "import pg from 'pg'",
    "import { createHash, randomBytes } from 'node:crypto'",
    "import crypto from 'node:crypto'",
  ])
    assert.equal(coreViolations(of({ 'host/a.core.ts': code })).length, 1, code)
})

test('a core may compute with dates it was given, and speak of a process', () => {
  const code = `import { Type } from 'typebox'
import type { Server } from 'node:http'
import { createHash as digest } from 'node:crypto'
// Date.now() is not for us
const text = 'Math.random()'
const when = new Date(0)
for (const process of processes) run(process.args, state.performance.x)
const quoted = /['"]/.test(text)
`
  assert.deepEqual(coreViolations(of({ 'host/a.core.ts': code })), [])
})

test('a core is as pure as what it imports', () => {
  const sources = of({
    'host/a.core.ts': `import { b } from './b.ts'`,
    'host/b.ts': `import { sleep } from '../pkg/clock/clock.ts'`,
    'pkg/clock/clock.ts': `import { setTimeout } from 'node:timers/promises'`,
  })
  assert.deepEqual(coreViolations(sources), [
    'host/a.core.ts -> host/b.ts -> pkg/clock/clock.ts imports node:timers/promises',
  ])
})

test('impure code outside of cores is allowed', () => {
  assert.deepEqual(coreViolations(of({ 'host/a.ts': 'Date.now()' })), [])
})

test('a file that is too long and a folder without a noun are caught', () => {
  assert.deepEqual(sizeViolations(of({ 'a.ts': 'x\n'.repeat(fileLinesMax) })), [])
  assert.equal(sizeViolations(of({ 'a.ts': 'x\n'.repeat(fileLinesMax + 1) })).length, 1)
  assert.deepEqual(sizeViolations(of({ 'a.test.ts': 'x\n'.repeat(testLinesMax) })), [])
  assert.equal(sizeViolations(of({ 'a.test.ts': 'x\n'.repeat(testLinesMax + 1) })).length, 1)
  assert.equal(folderViolations(['host/utils/a.ts', 'host/job/a.ts']).length, 1)
})

test('blanking keeps line breaks and code around strings', () => {
  assert.equal(codeOnly("a('b\\'c') // d\ne", { strings: 'blank' }), 'a(      )     \ne')
})
