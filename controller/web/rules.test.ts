// Rules of the API that need no database: bodies, names, files of a release, times.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { isFlynnError } from '../../pkg/errors/errors.ts'
import { toRfc3339 } from '../../pkg/pg/pg.ts'
import { AppInput, ArtifactInput, ReleaseInput, ScaleRequestInput } from '../types.ts'
import { isAttach } from './attach.ts'
import { parse, tidy } from './body.ts'
import { batchSizeOf } from './deployments.ts'
import { comparable, sinceOf } from './formations.ts'
import { nameCount, nameOf } from './names.ts'
import { deletableFiles } from './release-deletion.ts'
import { normaliseProcess } from './releases.ts'
import { maybeUuid, omitEmpty } from './wire.ts'

function fieldOf(fn: () => unknown): unknown {
  try {
    fn()
  } catch (e) {
    if (isFlynnError(e)) return (e.detail as { field: string }).field
  }
  return undefined
}

test('nulls are absent and unknown keys are gone, at every depth that a schema names', () => {
  const value = {
    app_id: 'x',
    meta: null,
    odd: 1,
    processes: { web: { args: null, odd: 2, env: { A: 'b' } } },
  }
  assert.deepEqual(tidy(ReleaseInput, value), { app_id: 'x', processes: { web: { env: { A: 'b' } } } })
})

test('a free-form member is left as it is', () => {
  const manifest = { a: null, b: { c: [null] } }
  assert.deepEqual(parse(ArtifactInput, { type: 'file', uri: 'x:y', manifest }).manifest, manifest)
})

test('keys of the object prototype are data like any other', () => {
  const body = JSON.parse('{"meta":{"__proto__":"x","constructor":"y"}}')
  assert.equal(Object.keys(parse(AppInput, body).meta ?? {}).includes('constructor'), true)
  assert.deepEqual(parse(AppInput, JSON.parse('{"toString":"x"}')), {})
})

test('the first wrong value is named by its dotted path', () => {
  assert.equal(
    fieldOf(() => parse(ReleaseInput, { processes: { web: { ports: [{ port: -1 }] } } })),
    'processes.web.ports.0.port',
  )
  assert.equal(
    fieldOf(() => parse(ScaleRequestInput, { new_processes: { web: 1.5 } })),
    'new_processes.web',
  )
  assert.equal(
    fieldOf(() => parse(ArtifactInput, { type: 'flynn' })),
    'uri',
  )
})

test('a wrong choice is answered with the right ones', () => {
  assert.throws(() => parse(ScaleRequestInput, { state: 'x' }), /must be one of pending, cancelled, complete/)
})

test('no generated name comes twice before all were used', () => {
  const seen = new Set<string>()
  for (let n = 0; n < 20_000; n++) seen.add(nameOf(n, 'seed'))
  assert.equal(seen.size, 20_000)
  assert.equal(nameOf(nameCount, 'seed'), nameOf(0, 'seed'))
  assert.notEqual(nameOf(1, 'seed'), nameOf(1, 'other'))
})

test('generated names are valid app names', () => {
  for (let n = 0; n < 500; n++) assert.doesNotThrow(() => parse(AppInput, { name: nameOf(n, 'x') }))
})

test('times of the database become RFC 3339 without trailing zeros', () => {
  assert.equal(toRfc3339('2026-11-20 23:09:02.52318+00'), '2026-11-20T23:09:02.52318Z')
  assert.equal(toRfc3339('2026-11-20 23:09:02+00'), '2026-11-20T23:09:02Z')
})

test('times compare by their digits, however many there are', () => {
  assert.ok(comparable('2026-11-20T23:09:02Z') < comparable('2026-11-20T23:09:02.5Z'))
  assert.ok(comparable('2026-11-20T23:09:02.5Z') < comparable('2026-11-20T23:09:02.52Z'))
})

test('a since parameter may be the zero time of Go, but not a word', () => {
  assert.equal(sinceOf('0001-01-01T00:00:00Z'), '0001-01-01T00:00:00Z')
  assert.equal(sinceOf('2026-11-20T23:09:02.123456789Z'), '2026-11-20T23:09:02.123456789Z')
  for (const text of ['', 'now', '2026-11-20', '2026-13-40T00:00:00Z'])
    assert.equal(
      fieldOf(() => sinceOf(text)),
      'since',
    )
})

test('a batch size is a positive number in the meta or nothing', () => {
  assert.equal(batchSizeOf({ 'flynn-deploy-batch-size': '3' }), 3)
  for (const text of ['0', '-1', 'x', '', '1.5'])
    assert.equal(batchSizeOf({ 'flynn-deploy-batch-size': text }), undefined)
  assert.equal(batchSizeOf(null), undefined)
})

test('files of a release are deleted only from the blobstore, and layers only when nobody else has them', () => {
  const artifact = {
    id: 'x',
    type: 'flynn',
    uri: 'http://blobstore.discoverd/slugs/1.json',
    layer_url_template: 'http://blobstore.discoverd/slugs/layers/{id}.squashfs',
    created_at: '',
    meta: { blobstore: 'true' },
    manifest: {
      _type: '',
      rootfs: [
        {
          layers: [
            { id: 'a', type: '', length: 1 },
            { id: 'b', type: '', length: 1, meta: { 'tar.layer_id': 't' } },
          ],
        },
      ],
    },
  } as const
  assert.deepEqual(deletableFiles(artifact as never, new Set(['a'])), [
    artifact.uri,
    'http://blobstore.discoverd/slugs/layers/b.squashfs',
    'http://blobstore.discoverd/tarreceive/layers/t.json',
  ])
  assert.deepEqual(deletableFiles({ ...artifact, meta: {} } as never, new Set()), [])
})

test('given arguments win over the deprecated ones, which stay', () => {
  const process = normaliseProcess({ args: ['new'], entrypoint: ['old'], cmd: ['x'] })
  assert.deepEqual(process.args, ['new'])
  assert.deepEqual(process.entrypoint, ['old'])
})

test('an id is recognised with and without dashes, in lower case', () => {
  assert.ok(maybeUuid('0a1b2c3d-0000-4000-8000-000000000000'))
  assert.ok(maybeUuid('0a1b2c3d000040008000000000000000'))
  assert.ok(!maybeUuid('0A1B2C3D-0000-4000-8000-000000000000'))
  assert.ok(!maybeUuid('web'))
})

test('empty members are left out, but for those that are always there', () => {
  assert.deepEqual(omitEmpty({ a: '', b: 0, c: false, d: {}, e: [], f: null, g: 'x' }, ['c']), {
    c: false,
    g: 'x',
  })
})

test('only attach requests for one-off jobs leave the HTTP server', () => {
  const headers = { upgrade: 'flynn-attach/0' }
  assert.ok(isAttach({ method: 'POST', url: '/apps/x/jobs', headers }))
  assert.ok(!isAttach({ method: 'GET', url: '/apps/x/jobs', headers }))
  assert.ok(!isAttach({ method: 'POST', url: '/apps/x/jobs/y', headers }))
  assert.ok(!isAttach({ method: 'POST', url: '/apps/x/jobs', headers: { upgrade: 'h2c' } }))
})
