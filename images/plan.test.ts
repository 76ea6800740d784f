import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type BundleFacts,
  bundleIsStale,
  decideLayer,
  type LayerFacts,
  matchesAny,
  packageLines,
  parsePackageLines,
  parseSimulation,
  wantedLayers,
} from './plan.core.ts'

const record = {
  key: 'k1',
  id: 'ab',
  length: 10,
  packages: ['libc6=1', 'tini=2'],
  resolved: ['libc6=1', 'tini=2'],
  aptStamp: 's1',
}
const current: LayerFacts = {
  missing: [],
  key: 'k1',
  record,
  length: 10,
  resolvedNow: undefined,
  refresh: false,
}
const why = (facts: Partial<LayerFacts>) => {
  const decision = decideLayer({ ...current, ...facts })
  return decision.kind === 'build' ? decision.why : decision.kind
}

test('a layer whose inputs and file are as recorded is kept', () => assert.equal(why({}), 'keep'))
test('a layer without a record is built', () => assert.equal(why({ record: undefined }), 'first build'))
test('a layer with another key is built', () => assert.equal(why({ key: 'k2' }), 'its inputs changed'))
test('a layer whose file is gone is built', () =>
  assert.equal(why({ length: undefined }), 'its file is gone'))
test('a layer whose file has another length is built', () =>
  assert.equal(why({ length: 9 }), 'its file is gone'))
test('a layer is built when apt has a newer package', () =>
  assert.equal(why({ resolvedNow: ['libc6=1', 'tini=3'] }), 'newer packages'))
test('a layer is kept when apt would install the same', () =>
  assert.equal(why({ resolvedNow: ['libc6=1', 'tini=2'] }), 'keep'))
test('refreshing builds layers of packages', () => assert.equal(why({ refresh: true }), 'asked to'))
test('refreshing keeps layers without packages', () =>
  assert.equal(why({ refresh: true, record: { ...record, packages: [], resolved: [] } }), 'keep'))
test('a layer with missing files is left out although it was built before', () =>
  assert.deepEqual(decideLayer({ ...current, missing: ['x/main.ts'] }), {
    kind: 'skip',
    missing: ['x/main.ts'],
  }))

const bundle = { recipe: 'r', version: 'v1', inputs: { 'a.ts': '1', 'b.ts': '2' }, output: 'o' }
const fresh: BundleFacts = {
  recipe: 'r',
  version: 'v1',
  record: bundle,
  inputsNow: { 'a.ts': '1', 'b.ts': '2' },
  outputNow: 'o',
}

test('a bundle whose inputs are as recorded is fresh', () => assert.equal(bundleIsStale(fresh), false))
test('a bundle with a changed input is stale', () =>
  assert.equal(bundleIsStale({ ...fresh, inputsNow: { 'a.ts': '1', 'b.ts': '3' } }), true))
test('a bundle with an input that is gone is stale', () =>
  assert.equal(bundleIsStale({ ...fresh, inputsNow: { 'a.ts': '1' } }), true))
test('a bundle whose output is not what was made is stale', () =>
  assert.equal(bundleIsStale({ ...fresh, outputNow: undefined }), true))
test('a bundle that does not tell its version outlives a new one', () =>
  assert.equal(bundleIsStale({ ...fresh, version: 'v2' }), false))
test('a bundle that tells its version is stale with a new one', () => {
  const inputs = { 'pkg/version/version.ts': '1' }
  const facts = { ...fresh, record: { ...bundle, inputs }, inputsNow: inputs }
  assert.equal(bundleIsStale(facts), false)
  assert.equal(bundleIsStale({ ...facts, version: 'v2' }), true)
})

const layers = [{ name: 'top', over: ['low', 'mid'] }, { name: 'mid', over: ['low'] }, { name: 'low' }]
const images = [
  { name: 'app', layers: ['low', 'mid', 'top'] },
  { name: 'small', layers: ['low'] },
]
const wanted = (...only: string[]) => wantedLayers(layers, images, only).layers.map(layer => layer.name)

test('all layers are wanted when none is named, lower ones first', () =>
  assert.deepEqual(wanted(), ['low', 'mid', 'top']))
test('a named image wants its layers', () => assert.deepEqual(wanted('small'), ['low']))
test('a named layer wants those below it', () => assert.deepEqual(wanted('mid'), ['low', 'mid']))
test('a name of neither is reported', () =>
  assert.deepEqual(wantedLayers(layers, images, ['app', 'nothing']).unknown, ['nothing']))

test('package patterns match whole names', () => {
  assert.equal(matchesAny('libllvm14', ['libllvm*']), true)
  assert.equal(matchesAny('perl-base', ['perl']), false)
  assert.equal(matchesAny('libstdc++6', ['libstdc++6']), true)
  assert.equal(matchesAny('libfile-find-rule-perl', ['libfile-*-perl']), true)
})

test('package lines come back as the packages they were made of', () => {
  const packages = [
    { name: 'tini', version: '0.19.0-1+b3' },
    { name: 'util-linux', version: '1:2.38=x', partial: true },
  ]
  assert.deepEqual(parsePackageLines(packageLines(packages)), packages)
})

// Recorded from apt 2.6.1, archive names shortened.
const simulation = `NOTE: This is only a simulation!
Reading package lists...
The following NEW packages will be installed:
  libaudit1 tini
Inst libaudit1 (1:3.0.9-1 Debian:12.11/oldstable [amd64])
Inst gcc-12-base (12.2.0-14+deb12u1 Debian:12.11/oldstable [amd64]) []
Inst base-files [12.4] (12.4+deb12u12 Debian:12.11/oldstable [amd64])
Conf libaudit1 (1:3.0.9-1 Debian:12.11/oldstable [amd64])
`

test('a simulation of apt-get tells what would be installed', () =>
  assert.deepEqual(parseSimulation(simulation), [
    { name: 'libaudit1', version: '1:3.0.9-1' },
    { name: 'gcc-12-base', version: '12.2.0-14+deb12u1' },
  ]))
