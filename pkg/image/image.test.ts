import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  imageId,
  layerUrl,
  makeArtifact,
  makeLayer,
  makeManifest,
  mountspecs,
  resolveEntrypoint,
} from './image.ts'
import type { Artifact, Entrypoint } from './types.ts'

const base = makeLayer('aa'.repeat(32), 4096)
const top = makeLayer('bb'.repeat(32), 8192)

function artifact(entrypoints: Record<string, Entrypoint>, layers = [base]): Artifact {
  return makeArtifact({
    manifest: makeManifest({ layers, entrypoints }),
    uri: 'file:///x',
    layerUrlTemplate: 'file:///cache/{id}.squashfs',
    meta: { 'flynn.component': 'x' },
  })
}

test('an image id does not depend on the order of members', () => {
  const manifest = makeManifest({ layers: [base], entrypoints: { web: { args: ['a'], cwd: '/' } } })
  const turned = Object.fromEntries(Object.entries(manifest).reverse()) as typeof manifest
  assert.equal(imageId(turned), imageId(manifest))
})

test('an image id is the SHA-512/256 of the canonical JSON', () => {
  // sha512-256 of {"_type":"t"}, taken with openssl.
  assert.equal(imageId({ _type: 't' }), 'b43a66a8fc7a223188493f73da5f724866f7cc692382a55a75f5c9fd71e40fd8')
})

test('canonical JSON escapes only quotes and backslashes', () => {
  // openssl again, of {"a":"\\"\\\\<line feed>"}.
  const manifest = { a: '"\\\n' } as unknown as Parameters<typeof imageId>[0]
  assert.equal(imageId(manifest), '11e41d3d9dd070bbfc2f89bf9fceb81d87d64ef0a6cf7e13ad0257ea438bf41d')
})

test('an image id changes with the order of layers', () => {
  assert.notEqual(
    imageId(makeManifest({ layers: [base, top] })),
    imageId(makeManifest({ layers: [top, base] })),
  )
})

test('a manifest leaves out empty members', () => {
  assert.deepEqual(Object.keys(makeManifest({ layers: [base], entrypoints: {}, meta: {} })), [
    '_type',
    'rootfs',
  ])
})

test('an artifact carries hash, size and id of its manifest', () => {
  const made = artifact({})
  assert.equal(made.hashes?.['sha512_256'], made.meta?.['manifest.id'])
  assert.equal(made.size, JSON.stringify(made.manifest).length)
})

test('the entrypoint of the last artifact that names the process type is chosen', () => {
  const chosen = resolveEntrypoint(
    [artifact({ web: { args: ['1'] } }), artifact({ web: { args: ['2'] } })],
    'web',
  )
  assert.deepEqual(chosen, { args: ['2'] })
})

test('a name in an earlier artifact wins over the default of a later one', () => {
  const chosen = resolveEntrypoint(
    [artifact({ web: { args: ['1'] } }), artifact({ _default: { args: ['2'] } })],
    'web',
  )
  assert.deepEqual(chosen, { args: ['1'] })
})

test('the default entrypoint of the last artifact serves other process types', () => {
  const list = [
    artifact({ _default: { args: ['1'] } }),
    artifact({ _default: { args: ['2'] } }),
    artifact({}),
  ]
  assert.deepEqual(resolveEntrypoint(list, 'worker'), { args: ['2'] })
})

test('no entrypoint is found for a name that only the object prototype has', () => {
  assert.equal(resolveEntrypoint([artifact({})], 'constructor'), undefined)
})

test('artifacts of other types give no entrypoint', () => {
  assert.equal(resolveEntrypoint([{ ...artifact({ web: {} }), type: 'file' }], 'web'), undefined)
})

test('mountspecs list the layers of all artifacts, bottom first', () => {
  assert.deepEqual(
    mountspecs([artifact({}, [base]), artifact({}, [top])]).map(m => [m.id, m.size, m.url]),
    [
      [base.id, 4096, `file:///cache/${base.id}.squashfs`],
      [top.id, 8192, `file:///cache/${top.id}.squashfs`],
    ],
  )
})

test('mountspecs leave out artifacts without exactly one rootfs', () => {
  const one = artifact({})
  const rootfs = one.manifest?.rootfs?.[0]
  assert.ok(one.manifest && rootfs)
  const two = { ...one, manifest: { ...one.manifest, rootfs: [rootfs, rootfs] } }
  assert.deepEqual(mountspecs([two, { ...one, manifest: { _type: 't' } }]), [])
})

test('a layer id is escaped in the address', () => {
  assert.equal(layerUrl('http://x/{id}.squashfs', '../a b'), 'http://x/..%2Fa%20b.squashfs')
})
