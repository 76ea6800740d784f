// Carries the plan out: bundles, then layers (lower ones first, otherwise side by side), then images.json.
// Data: sources and Debian packages come in, become file trees, leave as squashfs files named by their own hash.
import { access, copyFile, cp, link, mkdir, rename, rm, stat } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { stop as stopEsbuild } from 'esbuild'
import { sha512_256 } from '../pkg/ids/ids.ts'
import { makeArtifact, makeLayer, makeManifest } from '../pkg/image/image.ts'
import type { Artifact } from '../pkg/image/types.ts'
import { aptStamp, openApt } from './apt.ts'
import { buildVersion, bundleRecipe, makeBundle, outputFiles } from './bundle.ts'
import { errors } from './errors.ts'
import {
  type LayerContext,
  type LayerOutcome,
  layerFile,
  missingFiles,
  type Paths,
  provideLayer,
} from './layers.ts'
import { lockDirectory } from './lock.ts'
import { hostBundles, images, layers } from './manifest.ts'
import { bundleIsStale, type LayerRecord, wantedLayers } from './plan.core.ts'
import { nodeBinary } from './steps.ts'
import { openStore, type Store, sweep, writeWhole } from './store.ts'
import type { BundleSpec, ImageSpec, LayerSpec } from './types.ts'

/** Installed layers lie here (docs/wiring.md, "Images"). */
const installedTemplate = 'file:///var/lib/flynn/layer-cache/{id}.squashfs'
const hostName = 'host'

export type BuildOptions = {
  readonly repository: string
  readonly out: string
  /** Images and layers to look at, or `host`; all when empty. */
  readonly only: readonly string[]
  /** Components whose files are missing are an error instead of being left out. */
  readonly strict: boolean
  /** Layers of packages are built anew. */
  readonly refresh: boolean
  readonly say: (line: string) => void
}

export type BuildReport = {
  readonly built: readonly {
    readonly name: string
    readonly id: string
    readonly length: number
    readonly ms: number
  }[]
  readonly kept: readonly string[]
  readonly bundled: readonly string[]
  readonly skipped: readonly { readonly name: string; readonly missing: readonly string[] }[]
  readonly images: readonly string[]
  readonly ms: number
}

/** Builds what is not up to date; safe to call from several processes, which then wait for each other. */
export async function buildImages(options: BuildOptions): Promise<BuildReport> {
  const began = performance.now()
  const only = options.only.filter(name => name !== hostName)
  const wanted = wantedLayers(layers, images, only)
  for (const name of wanted.unknown) throw errors.UNKNOWN_NAME({ name })
  const chosen = only.length === 0 && options.only.length > 0 ? [] : wanted.layers
  const withHost = options.only.length === 0 || options.only.includes(hostName)
  // Directories made on the way are read by other users inside the images, whatever the caller's umask.
  process.umask(0o022)
  const unlock = await lockDirectory(options.out, pid =>
    options.say(`waiting for another build (process ${pid})`),
  )
  try {
    return await buildLocked(options, chosen, withHost, began)
  } finally {
    // Inside the lock: the next build of this process would lose its service.
    await stopEsbuild()
    await unlock()
  }
}

async function preparePaths({ repository, out }: BuildOptions): Promise<Paths> {
  const dir = (name: string) => join(out, name)
  const paths = {
    repository,
    layers: dir('layers'),
    bundles: dir('bundles'),
    trees: dir('trees'),
    downloads: dir('downloads'),
    logs: dir('logs'),
  }
  await rm(paths.trees, { recursive: true, force: true })
  for (const path of Object.values(paths)) await mkdir(path, { recursive: true })
  return paths
}

async function buildLocked(
  options: BuildOptions,
  chosen: readonly LayerSpec[],
  withHost: boolean,
  began: number,
): Promise<BuildReport> {
  const paths = await preparePaths(options)
  const store = await openStore(join(options.out, 'cache.json'))
  const specs = [...chosen.flatMap(layer => layer.bundles ?? []), ...(withHost ? hostBundles : [])]
  const bundled = await provideBundles(specs, paths, store)
  const context: LayerContext = {
    paths,
    store,
    apt: await openApt(join(options.out, 'apt')),
    bundles: bundled.hashes,
    aptStamp: await aptStamp(),
    refresh: options.refresh,
    say: options.say,
  }
  const outcomes = await provideLayers(chosen, context).finally(() => store.save())
  const skipped = await reportSkipped(outcomes, withHost, options)
  if (withHost) await placeHost(dirname(options.out), paths)
  const made = await writeImages(options.out, paths, store)
  await tidy(paths, store, context)
  await store.save()
  return {
    built: [...outcomes].flatMap(([name, o]) =>
      o.kind === 'built' ? [{ name, id: o.record.id, length: o.record.length, ms: Math.round(o.ms) }] : [],
    ),
    kept: [...outcomes].flatMap(([name, o]) => (o.kind === 'kept' ? [name] : [])),
    bundled: bundled.made,
    skipped,
    images: made,
    ms: Math.round(performance.now() - began),
  }
}

/** Makes the bundles that are stale; the hash of each that could be made. */
async function provideBundles(specs: readonly BundleSpec[], paths: Paths, store: Store) {
  const version = await buildVersion(paths.repository)
  const hashes = new Map<string, string>()
  const made: string[] = []
  const hashFiles = async (root: string, files: readonly string[]) => {
    const lines = await Promise.all(
      files.map(async file => [relative(root, file), await store.hashOf(file)] as const),
    )
    return Object.fromEntries(
      lines.filter((line): line is readonly [string, string] => line[1] !== undefined),
    )
  }
  const outputHash = async (out: string) => {
    const files = await outputFiles(out)
    return files.length === 0 ? undefined : sha512_256(JSON.stringify(await hashFiles(out, files)))
  }
  const provide = async (spec: BundleSpec) => {
    const present = await access(join(paths.repository, spec.entry)).then(
      () => true,
      () => false,
    )
    if (!present) return
    const out = join(paths.bundles, spec.name)
    const record = store.bundles[spec.name]
    const recipe = await bundleRecipe(spec)
    const inputPaths = Object.keys(record?.inputs ?? {}).map(path => join(paths.repository, path))
    const inputsNow = await hashFiles(paths.repository, inputPaths)
    const outputNow = await outputHash(out)
    if (record === undefined || bundleIsStale({ recipe, version, record, inputsNow, outputNow })) {
      const { inputs } = await makeBundle(spec, paths.repository, out, version)
      for (const file of await outputFiles(out)) store.forget(file)
      const output = (await outputHash(out)) ?? ''
      const inputsUsed = await hashFiles(
        paths.repository,
        inputs.map(path => join(paths.repository, path)),
      )
      store.bundles[spec.name] = { recipe, version, inputs: inputsUsed, output }
      made.push(spec.name)
    }
    hashes.set(spec.name, store.bundles[spec.name]?.output ?? '')
  }
  await Promise.all(specs.map(provide))
  return { hashes, made: made.sort() }
}

async function provideLayers(
  chosen: readonly LayerSpec[],
  context: LayerContext,
): Promise<ReadonlyMap<string, LayerOutcome>> {
  const started = new Map<string, Promise<LayerOutcome>>()
  const provide = async (spec: LayerSpec): Promise<LayerOutcome> => {
    const records: LayerRecord[] = []
    for (const name of spec.over ?? []) {
      const outcome = await started.get(name)
      if (outcome === undefined || outcome.kind === 'skipped')
        return { kind: 'skipped', missing: [`layer ${name}`] }
      records.push(outcome.record)
    }
    return await provideLayer(spec, records, context)
  }
  // Lower layers come first in the list, so each finds the promises of those below it.
  for (const spec of chosen) started.set(spec.name, provide(spec))
  // All are waited for even when one fails: none may go on writing after the lock is given back.
  await Promise.allSettled(started.values())
  const outcomes = new Map<string, LayerOutcome>()
  for (const [name, outcome] of started) outcomes.set(name, await outcome)
  return outcomes
}

async function reportSkipped(
  outcomes: ReadonlyMap<string, LayerOutcome>,
  withHost: boolean,
  { repository, strict, say }: BuildOptions,
): Promise<BuildReport['skipped']> {
  const skipped = [...outcomes].flatMap(([name, outcome]) =>
    outcome.kind === 'skipped' ? [{ name, missing: outcome.missing }] : [],
  )
  for (const bundle of withHost ? hostBundles : []) {
    const missing = await missingFiles(repository, { name: bundle.name, bundles: [bundle] })
    if (missing.length > 0) skipped.push({ name: bundle.name, missing })
  }
  for (const { name, missing } of skipped) {
    if (strict) throw errors.ENTRY_MISSING({ what: name, missing: missing.join(', ') })
    say(`warning: ${name} is left out, because ${missing.join(', ')} does not exist`)
  }
  return skipped
}

/** What a host runs itself: bundles, their assets, and the node binary (a hard link where that is possible). */
async function placeHost(build: string, paths: Paths): Promise<void> {
  const out = join(build, 'host')
  const partial = `${out}.partial`
  await rm(partial, { recursive: true, force: true })
  await mkdir(partial, { recursive: true })
  for (const { name } of hostBundles) {
    const from = join(paths.bundles, name)
    if (await stat(from).catch(() => undefined)) await cp(from, partial, { recursive: true })
  }
  const node = nodeBinary(paths.repository)
  await link(node, join(partial, 'node')).catch(() => copyFile(node, join(partial, 'node')))
  await rm(out, { recursive: true, force: true })
  await rename(partial, out)
}

async function artifactOf(image: ImageSpec, paths: Paths, store: Store): Promise<Artifact | undefined> {
  const stack = []
  for (const name of image.layers) {
    const record = store.layers[name]
    if (record === undefined || !(await stat(layerFile(paths, record.id)).catch(() => undefined)))
      return undefined
    stack.push(makeLayer(record.id, record.length))
  }
  const manifest = makeManifest({
    layers: stack,
    ...(image.entrypoints === undefined ? {} : { entrypoints: image.entrypoints }),
  })
  const meta = { 'flynn.component': image.name, 'flynn.system-image': 'true' }
  const artifact = makeArtifact({ manifest, meta, uri: '', layerUrlTemplate: installedTemplate })
  const uri = `file:///etc/flynn/images.json?name=${image.name}&target=/images/${artifact.meta?.['manifest.id']}.json`
  return { ...artifact, uri }
}

/** Writes images.json with every image that has all its layers; returns their names. */
async function writeImages(out: string, paths: Paths, store: Store): Promise<readonly string[]> {
  const all: Record<string, Artifact> = {}
  for (const image of images) {
    const artifact = await artifactOf(image, paths, store)
    if (artifact) all[image.name] = artifact
  }
  await writeWhole(join(out, 'images.json'), `${JSON.stringify(all, null, 2)}\n`)
  return Object.keys(all)
}

/** Removes layers, bundles and packages that nothing names any more. */
async function tidy(paths: Paths, store: Store, { apt }: LayerContext): Promise<void> {
  const names = new Set(layers.map(layer => layer.name))
  for (const name of Object.keys(store.layers)) if (!names.has(name)) delete store.layers[name]
  const ids = new Set(Object.values(store.layers).map(record => record.id))
  const bundleNames = new Set(
    [...layers.flatMap(layer => layer.bundles ?? []), ...hostBundles].map(b => b.name),
  )
  await sweep(paths.layers, name => ids.has(name.split('.')[0] ?? ''))
  await sweep(paths.bundles, name => bundleNames.has(name))
  await apt.forgetOthers(Object.values(store.layers).flatMap(record => record.packages))
}
