import assert from 'node:assert/strict'
import { test } from 'node:test'
import { formationHostJob, oneOffHostJob, publicJobMeta, withResourceDefaults } from './hostjob.core.ts'
import type { Artifact, ProcessType } from './types.ts'

const artifact: Artifact = {
  id: 'a1',
  type: 'flynn',
  uri: 'https://example.com/image',
  created_at: '2026-01-01T00:00:00Z',
  layer_url_template: 'http://layers/{id}.squashfs',
  manifest: {
    _type: 'application/vnd.flynn.image.manifest.v1+json',
    entrypoints: {
      _default: { args: ['/bin/default'], env: { FROM: 'image', IMAGE: 'yes' }, cwd: '/app', uid: 7 },
      web: { args: ['/bin/web'] },
    },
    rootfs: [
      {
        layers: [
          {
            id: 'l1',
            type: 'application/vnd.flynn.image.squashfs.v1',
            length: 10,
            hashes: { sha512_256: 'x' },
          },
        ],
      },
    ],
  },
}
const app = { id: 'app', name: 'shop', meta: { team: 'red' } }
const release = {
  id: 'rel',
  env: { FROM: 'release', DB: 'x' },
  processes: { web: { mounts: [{ location: '/m', target: '/t' }] } },
}

function formationJob(process: ProcessType, type = 'web', meta: Record<string, string> = app.meta) {
  return formationHostJob({
    hostId: 'h1',
    jobUuid: 'u1',
    app: { ...app, meta },
    release,
    artifacts: [artifact],
    type,
    process,
    volumes: [{ id: 'v1', path: '/data', deleteOnStop: false }],
  })
}

test('a formation job carries layers, metadata and volumes', () => {
  const job = formationJob({})
  assert.equal(job.id, 'h1-u1')
  assert.equal(job.mountspecs?.[0]?.url, 'http://layers/l1.squashfs')
  assert.deepEqual(job.metadata, {
    team: 'red',
    'flynn-controller.app': 'app',
    'flynn-controller.app_name': 'shop',
    'flynn-controller.release': 'rel',
    'flynn-controller.formation': 'true',
    'flynn-controller.type': 'web',
  })
  assert.deepEqual(job.config.volumes, [
    { target: '/data', volume: 'v1', writeable: true, delete_on_stop: false },
  ])
  assert.deepEqual(publicJobMeta(job.metadata), { team: 'red' })
})

test('process args win over the entrypoint of the type, which wins over the default one', () => {
  assert.deepEqual(formationJob({ args: ['mine'] }).config.args, ['mine'])
  assert.deepEqual(formationJob({}).config.args, ['/bin/web'])
  assert.deepEqual(formationJob({}, 'worker').config.args, ['/bin/default'])
})

test('process env wins over release env, which wins over image env', () => {
  const env = formationJob({ env: { DB: 'process' } }, 'worker').config.env
  assert.equal(env?.['FROM'], 'release')
  assert.equal(env?.['IMAGE'], 'yes')
  assert.equal(env?.['DB'], 'process')
  assert.equal(env?.['FLYNN_JOB_ID'], 'h1-u1')
  assert.equal(env?.['FLYNN_PROCESS_TYPE'], 'worker')
})

test('jobs of system apps run in the system partition, others in the default one', () => {
  assert.equal(formationJob({}, 'web', { 'flynn-system-app': 'true' }).partition, 'system')
  assert.equal(formationJob({}).partition, undefined)
})

test('a one-off job is no part of a formation and its own env wins', () => {
  const job = oneOffHostJob({
    hostId: 'h1',
    jobUuid: 'u2',
    app,
    release,
    artifacts: [artifact],
    request: { release: 'rel', args: ['sh'], release_env: true, env: { DB: 'mine' }, mounts_from: 'web' },
    attach: true,
    dataVolumeId: 'v9',
  })
  assert.equal(job.metadata?.['flynn-controller.formation'], undefined)
  assert.equal(job.metadata?.['flynn-controller.type'], undefined)
  assert.equal(job.config.env?.['DB'], 'mine')
  assert.equal(job.config.env?.['FROM'], 'release')
  assert.equal(job.config.stdin, true)
  assert.deepEqual(job.config.mounts, [{ location: '/m', target: '/t' }])
  assert.equal(job.config.volumes?.[0]?.delete_on_stop, true)
})

test('resources have default limits and a missing request is the limit', () => {
  const filled = withResourceDefaults({ memory: { limit: 5 }, max_procs: { limit: 3, request: 1 } })
  assert.deepEqual(filled['memory'], { request: 5, limit: 5 })
  assert.deepEqual(filled['cpu'], { request: 1000, limit: 1000 })
  assert.deepEqual(filled['max_procs'], { request: 1, limit: 3 })
})
