import assert from 'node:assert/strict'
import { mkdtemp, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { test } from 'node:test'
import { Type } from 'typebox'
import { genRandom } from './actions/values.ts'
import { actions } from './actions.ts'
import { BootstrapContext } from './context.ts'
import { type Action, runSteps } from './engine.ts'
import { parseManifest } from './manifest.ts'
import { jsonReporter } from './progress.ts'
import { loadState, saveState } from './state.ts'

function contextOf(data: Record<string, unknown>, saved: Record<string, unknown>[] = []): BootstrapContext {
  return new BootstrapContext(
    {
      env: { CLUSTER_DOMAIN: 'dev.test' },
      minHosts: 1,
      singleton: true,
      hostTimeoutMs: 1000,
      jobTimeoutMs: 1000,
      signal: new AbortController().signal,
      save: async d => {
        saved.push(structuredClone(d))
      },
    },
    [],
    data,
  )
}

function collect() {
  const events: { id: string; state: string; data?: unknown; error?: string }[] = []
  return {
    events,
    reporter: jsonReporter(
      line => events.push(JSON.parse(line)),
      () => new Date(0),
    ),
  }
}

test('a step that was done is skipped, one that failed is tried again, and its error names the remedy', async () => {
  let fails = true
  let runs = 0
  const flaky: Action = {
    schema: Type.Object({}),
    async run() {
      runs++
      if (fails) throw new Error('not yet')
      return { data: { made: true } }
    },
  }
  const known = { 'gen-random': genRandom, flaky }
  const steps = parseManifest('[{"id":"key","action":"gen-random"},{"id":"later","action":"flaky"}]', {})
  const saved: Record<string, unknown>[] = []
  const first = collect()
  await assert.rejects(
    runSteps({ steps, actions: known, context: contextOf({}, saved), reporter: first.reporter }),
    /not yet/,
  )
  const kept = saved.at(-1) ?? {}
  assert.match((kept['key'] as { data: string }).data, /^[0-9a-f]{32}$/)

  fails = false
  const second = collect()
  const again = contextOf(kept, saved)
  await runSteps({ steps, actions: known, context: again, reporter: second.reporter })
  assert.deepEqual(
    second.events.map(e => `${e.id} ${e.state}`),
    ['key skipped', 'later start', 'later done'],
  )
  assert.deepEqual(again.stepData['key'], kept['key'])
  assert.equal(runs, 2)
})

test('what a step makes that is secret is not in the event stream', async () => {
  const steps = parseManifest('[{"id":"key","action":"gen-random","data":"s3cret"}]', {})
  const { events, reporter } = collect()
  await runSteps({ steps, actions, context: contextOf({}), reporter })
  assert.equal(JSON.stringify(events).includes('s3cret'), false)
})

test('nothing runs when any step has an unknown action or a field of the wrong type', async () => {
  const { events, reporter } = collect()
  const wrong = [
    ['[{"id":"key","action":"gen-random"},{"id":"x","action":"dance"}]', /unknown action "dance"/],
    [
      '[{"id":"key","action":"gen-random"},{"id":"x","action":"gen-random","length":"many"}]',
      /step x: length/,
    ],
  ] as const
  for (const [text, message] of wrong) {
    const steps = parseManifest(text, {})
    await assert.rejects(runSteps({ steps, actions, context: contextOf({}), reporter }), message)
  }
  assert.deepEqual(events, [])
})

test('a missing variable is named, a manifest with a mistake says where', async () => {
  const steps = parseManifest(
    '[{"id":"env","action":"require-env","vars":["CLUSTER_DOMAIN","NOT_THERE"]}]',
    {},
  )
  const { reporter } = collect()
  await assert.rejects(runSteps({ steps, actions, context: contextOf({}), reporter }), /NOT_THERE/)
  assert.throws(
    () => parseManifest('[{"id":"a","action":"log"},{"id":"a","action":"log"}]', {}),
    /step a: its id is used twice/,
  )
  assert.throws(
    () => parseManifest('[{"id":"a","action":"run-app","artifacts":["$image_artifact[none]"]}]', {}),
    /image "none"/,
  )
  assert.throws(() => parseManifest('{', {}), /no valid JSON/)
})

test('state is kept for root alone and refused for another cluster', async () => {
  const dir = await mkdtemp(join(tmpdir(), 'flynn-bootstrap-'))
  try {
    const path = join(dir, 'state.json')
    assert.deepEqual(await loadState(path, 'one'), { fingerprint: 'one', data: {} })
    await writeFile(`${path}.new`, 'half of an earlier one', { mode: 0o644 })
    await saveState(path, { fingerprint: 'one', data: { a: 1 } })
    assert.equal((await stat(path)).mode & 0o077, 0)
    assert.deepEqual((await loadState(path, 'one')).data, { a: 1 })
    await assert.rejects(loadState(path, 'two'), /another manifest, domain or host list/)
  } finally {
    await rm(dir, { recursive: true, force: true })
  }
})
